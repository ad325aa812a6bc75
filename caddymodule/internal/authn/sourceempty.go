package authn

import "strings"

// whyEmpty says why token, the content of a source, is what pages of visitors without a login send instead of a token. It
// returns "" for any other text.
func whyEmpty(token string) string {
	switch {
	case token == "":
		return "the scheme is not followed by a token"
	case token == "undefined" || token == "null":
		return "a page without a token has sent the word undefined or null instead"
	case strings.HasPrefix(token, "[object ") && strings.HasSuffix(token, "]"):
		return "a page has sent an object instead of a token; was a promise not awaited?"
	}
	return ""
}

// findEmpty explains such a text to people who test it as a token.
func findEmpty(text string) []Finding {
	token := strings.TrimSpace(text)
	if s := (Source{Kind: Header, Scheme: "Bearer"}); len(token) >= len(s.Scheme) {
		if rest, ok := s.credentials(token); ok {
			token = rest
		}
	}
	switch reason := whyEmpty(token); {
	case reason == "":
		return nil
	case strings.HasPrefix(token, "[object "):
		return []Finding{{"This is an object that was converted to text: the page sent a promise, or a whole answer, instead of the token.", "Await the promise, and send the token alone, as text."}}
	default:
		return []Finding{{"This is what a page sends when it does not have a token.", "Leave the Authorization header out for visitors without a login, and wait for the token before the first request."}}
	}
}
