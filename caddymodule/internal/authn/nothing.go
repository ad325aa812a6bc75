package authn

import (
	"net/http"
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
	for pair := range parts(query, '&') {
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
	for part := range parts(pair, ';') {
		if name, _, _ := strings.Cut(part, "="); len(name) >= len(s.Name) && manglesTo(name, s.Name) {
			return true
		}
	}
	return false
}

// manglesTo reports whether name, unescaped, is want as PHP reads it, up to a list's "[" or a NUL. It makes no copy of the name:
// a query of 16 KiB has thousands of them.
func manglesTo(name, want string) bool {
	matched, begun := 0, false
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(name) || hexDigit(name[i+1]) < 0 || hexDigit(name[i+2]) < 0 {
				return false
			}
			c = byte(hexDigit(name[i+1])<<4 | hexDigit(name[i+2]))
			i += 2
		}
		switch {
		case c == ' ' && !begun:
			continue
		case matched == len(want):
			return c == '[' || c == 0
		case mangle(c) != mangle(want[matched]):
			return false
		}
		begun = true
		matched++
	}
	return matched == len(want)
}

// mangle writes a character of a name as PHP does.
func mangle(c byte) byte {
	if c == '.' || c == ' ' || c == '[' {
		return '_'
	}
	return c
}

// holdsProtocol reports whether a token follows the marker.
func (s *Source) holdsProtocol(r *http.Request) bool {
	marked := false
	for offer := range protocols(r) {
		if marked {
			return true
		}
		marked = offer == s.Name
	}
	return false
}
