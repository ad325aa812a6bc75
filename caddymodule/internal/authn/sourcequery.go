package authn

import (
	"net/url"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// An attacker chooses the query, up to 16 KiB with thousands of parts. So the search does not copy parts, and the cost of each part is
// bounded by its length.

// isParameter reports whether pair is the query parameter that carries tokens.
func (s *Source) isParameter(pair string) bool {
	if len(pair) < len(s.Name) {
		return false // the quick way for most parts of a long query
	}
	name, _, _ := strings.Cut(pair, "=")
	return name == s.Name || unescapesTo(name, s.Name)
}

// parameter returns the value of a query parameter if pair is the one that carries tokens.
func (s *Source) parameter(pair string) (string, bool) {
	if !s.isParameter(pair) {
		return "", false
	}
	_, value, _ := strings.Cut(pair, "=")
	if !strings.ContainsAny(value, "%+") {
		return value, true
	}
	if decoded, err := url.QueryUnescape(value); err == nil {
		return decoded, true
	}
	return value, true // it is not a token, and the verifier refuses it
}

// findParameter looks for a query parameter. A second parameter that some backends take for the same name makes the request
// ambiguous: only ours would be verified and removed, and the backend would read the other.
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

// removeParameter removes the parameter from a query, and leaves the bytes of all others.
func (s *Source) removeParameter(query string) string {
	if query == "" {
		return query
	}
	return removeFrom(query, '&', s.isParameter)
}

// removeFromAddress is removeParameter for a whole URL, as a request line or a Referer has it.
func (s *Source) removeFromAddress(text string) string {
	address, fragment, hasFragment := strings.Cut(text, "#")
	base, query, found := strings.Cut(address, "?")
	kept := s.removeParameter(query)
	if !found || kept == query {
		return text
	}
	if kept != "" {
		base += "?" + kept
	}
	if hasFragment {
		base += "#" + fragment
	}
	return base
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

// manglesTo reports whether PHP reads name, unescaped, as want. PHP ends a name at the "[" of a list, or at a NUL.
func manglesTo(name, want string) bool {
	matched, begun := 0, false
	for at := 0; at < len(name); {
		c, next, ok := unescapeAt(name, at)
		if !ok {
			return false
		}
		at = next
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

// unescapesTo reports whether name, unescaped as a part of a query, equals text. It is false for a name that url.QueryUnescape
// refuses.
func unescapesTo(name, text string) bool {
	at := 0
	for i := range len(text) {
		if at == len(name) {
			return false
		}
		c, next, ok := unescapeAt(name, at)
		if !ok || c != text[i] {
			return false
		}
		at = next
	}
	return at == len(name)
}

// unescapeAt returns the unescaped byte at an index of a query, and the next index. It returns false for an escape that
// url.QueryUnescape refuses.
func unescapeAt(query string, at int) (c byte, next int, ok bool) {
	switch c = query[at]; c {
	case '+':
		return ' ', at + 1, true
	case '%':
		if at+2 >= len(query) {
			return 0, 0, false
		}
		high, low := ascii.HexDigit(query[at+1]), ascii.HexDigit(query[at+2])
		return byte(high<<4 | low), at + 3, high >= 0 && low >= 0
	}
	return c, at + 1, true
}
