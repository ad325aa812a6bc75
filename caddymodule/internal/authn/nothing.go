package authn

import (
	"net/http"
	"net/url"
	"strings"
)

// What pages of visitors without a login send in place of a token, and what is written so that it may be read as one.

// whyNothing says why token, which is what a source holds, is what a page sends when it has none. It returns "" for any
// other text.
func whyNothing(token string) string {
	switch {
	case token == "":
		return "the scheme has no token behind it"
	case token == "undefined" || token == "null":
		return "a page without a token has sent the word undefined or null in its place"
	case strings.HasPrefix(token, "[object ") && strings.HasSuffix(token, "]"):
		return "a page has sent an object in place of a token; was a promise not awaited?"
	}
	return ""
}

// findNothing is what people who explain such a token are told.
func findNothing(text string) []Finding {
	token := strings.TrimSpace(text)
	if s := (Source{Kind: Header, Scheme: "Bearer"}); len(token) >= len(s.Scheme) {
		if behind, ok := s.credentials(token); ok {
			token = behind
		}
	}
	switch reason := whyNothing(token); {
	case reason == "":
		return nil
	case strings.HasPrefix(token, "[object "):
		return []Finding{{"This is an object that was made text: the page took a promise, or a whole answer, for the token.", "Await the promise, and send the token alone, as text."}}
	default:
		return []Finding{{"This is what a page sends when it has no token.", "Send no Authorization header for visitors without a login, and wait for the token before the first request."}}
	}
}

// isSchemeCharacter reports whether the name of an authentication scheme can have c (RFC 9110 section 5.6.2).
func isSchemeCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// findParameter looks for a query parameter. One that some backends take for the same name, beside ours, is a second one:
// it would go upstream, and be read there.
func (s *Source) findParameter(query string, f *finder) {
	if query == "" {
		return
	}
	resembles := false
	for pair := range strings.SplitSeq(query, "&") {
		if value, ok := s.parameter(pair); ok {
			f.add(s, value)
		} else {
			resembles = resembles || s.resembles(pair)
		}
	}
	if resembles && f.again {
		f.ambiguous = true
	}
}

// resembles reports whether a backend may read the parameter in pair: where ";" separates as well (HTML 4 section B.2.2),
// and where "name[]" is a list of that name and ".", blanks and "[" are "_" (PHP, Rack).
func (s *Source) resembles(pair string) bool {
	for part := range strings.SplitSeq(pair, ";") {
		name, _, _ := strings.Cut(part, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			continue
		}
		decoded, _, _ = strings.Cut(strings.TrimLeft(decoded, " "), "\x00")
		base, _, _ := strings.Cut(decoded, "[")
		if want := mangled.Replace(s.Name); mangled.Replace(base) == want || mangled.Replace(decoded) == want {
			return true
		}
	}
	return false
}

// mangled writes a name as PHP does.
var mangled = strings.NewReplacer(".", "_", " ", "_", "[", "_")

// holdsProtocol reports whether a token stands behind the marker.
func (s *Source) holdsProtocol(r *http.Request) bool {
	offered := protocols(r)
	for i, offer := range offered {
		if offer == s.Name && i+1 < len(offered) {
			return true
		}
	}
	return false
}
