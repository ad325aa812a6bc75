package authn

import (
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A SourceKind is a place of a request in which a token may travel.
type SourceKind string

// The token sources.
const (
	Header            SourceKind = "header"
	Cookie            SourceKind = "cookie"
	Query             SourceKind = "query"
	WebSocketProtocol SourceKind = "websocket_protocol"
)

const protocolHeader = "Sec-Websocket-Protocol" // as net/http spells it

// A Source is one place of a request in which a token may travel.
type Source struct {
	Kind SourceKind

	// Name is the header in canonical form, the cookie, the query parameter, or the WebSocket subprotocol that marks the
	// entry behind it as a token.
	Name string

	// Scheme is the authentication scheme in front of the token, for headers only. Without one the whole value is the
	// token.
	Scheme string
}

// Sources are the places that are searched. What stands elsewhere in a request is not a token for us.
type Sources []Source

// Found is a token with the place where it stood.
type Found struct {
	Token string
	Kind  SourceKind
	Name  string // of the source

	// Marker is the subprotocol that announced the token, or "" if no websocket_protocol source held one. A client that
	// offers subprotocols gives up unless the answer selects one of them.
	Marker string

	// CookieOnly reports whether the token stood in cookies and nowhere else. A browser attaches cookies to requests
	// that another site caused, so such a token alone does not prove that the contact's own page sent it.
	CookieOnly bool
}

// Find returns the one token of r. Exactly one distinct token counts: with two that differ nobody can say which of them
// the contact meant, and trying until one passes would let an attacker add theirs to a victim's request.
func (s Sources) Find(r *http.Request) (Found, *Rejection) {
	f := finder{found: Found{CookieOnly: true}}
	for i := range s {
		src := &s[i]
		switch src.Kind {
		case Header:
			values := r.Header[src.Name]
			if len(values) > 1 {
				f.ambiguous = true
			}
			for _, value := range values {
				if token, ok := src.credentials(value); ok {
					f.add(src, token)
				}
			}
		case Cookie:
			for _, line := range r.Header["Cookie"] {
				for pair := range parts(line, ';') {
					if value, ok := src.cookie(pair); ok {
						f.add(src, value)
					}
				}
			}
		case Query:
			if r.URL.RawQuery == "" {
				continue
			}
			for pair := range parts(r.URL.RawQuery, '&') {
				if value, ok := src.parameter(pair); ok {
					f.add(src, value)
				}
			}
		case WebSocketProtocol:
			src.findProtocol(r, &f)
		}
	}
	switch {
	case f.ambiguous:
		return f.found, reject(TokenAmbiguous, "the request carries more than one token, or one source twice")
	case f.found.Token == "":
		return Found{}, reject(TokenMissing, "no token in any configured source")
	}
	return f.found, nil
}

// finder gathers what Find meets.
type finder struct {
	found     Found
	ambiguous bool
}

func (f *finder) add(src *Source, token string) {
	if token == "" {
		return
	}
	if src.Kind != Cookie {
		f.found.CookieOnly = false
	}
	if src.Kind == WebSocketProtocol {
		f.found.Marker = src.Name
	}
	switch f.found.Token {
	case "":
		f.found.Token, f.found.Kind, f.found.Name = token, src.Kind, src.Name
	case token:
	default:
		f.ambiguous = true
	}
}

// credentials returns the token of a header value, and false if the value has another scheme and is none of ours.
func (s *Source) credentials(value string) (string, bool) {
	if s.Scheme == "" {
		return value, true
	}
	if len(value) < len(s.Scheme) || !strings.EqualFold(value[:len(s.Scheme)], s.Scheme) {
		return "", false
	}
	rest := value[len(s.Scheme):]
	token := strings.TrimLeft(rest, " \t")
	return token, len(token) < len(rest) || rest == ""
}

// cookie returns the value of a cookie if pair is the one that carries tokens.
func (s *Source) cookie(pair string) (string, bool) {
	if len(pair) < len(s.Name) {
		return "", false
	}
	name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
	return value, name == s.Name
}

// parameter returns the value of a query parameter if pair is the one that carries tokens.
func (s *Source) parameter(pair string) (string, bool) {
	if len(pair) < len(s.Name) {
		return "", false // as most parts of a query are that somebody made up to be a long one
	}
	name, value, _ := strings.Cut(pair, "=")
	if name != s.Name && !unescapesTo(name, s.Name) {
		return "", false
	}
	if decoded, err := url.QueryUnescape(value); err == nil {
		return decoded, true
	}
	return value, true // no token looks like this, and the verifier says so
}

func (s *Source) findProtocol(r *http.Request, f *finder) {
	seen, marked := false, false // marked: the offer before was the marker
	for offer := range protocols(r) {
		if marked {
			f.add(s, offer)
		}
		if marked = offer == s.Name; marked {
			f.ambiguous = f.ambiguous || seen
			seen = true
		}
	}
}

// protocols are the subprotocols that a handshake offers, in their order (RFC 6455 section 11.3.4).
func protocols(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range r.Header[protocolHeader] {
			for offer := range parts(line, ',') {
				for offer != "" && isBlank(offer[0]) {
					offer = offer[1:]
				}
				for offer != "" && isBlank(offer[len(offer)-1]) {
					offer = offer[:len(offer)-1]
				}
				if offer != "" && !yield(offer) {
					return
				}
			}
		}
	}
}

// Remove takes everything that stands in one of the sources out of r, in place, so that a backend, its logs, and
// whatever copied the request's URL never see a token. All that stands beside it stays as it was, byte for byte.
// original is the URL as it was received, from which error routes start again.
func (s Sources) Remove(r *http.Request, original *url.URL) {
	for i := range s {
		src := &s[i]
		switch src.Kind {
		case Header:
			src.removeHeader(r)
		case Cookie:
			src.removeCookie(r)
		case Query:
			r.URL.RawQuery = src.removeParameter(r.URL.RawQuery)
			r.RequestURI = src.removeFromAddress(r.RequestURI)
			if original != nil && original != r.URL {
				original.RawQuery = src.removeParameter(original.RawQuery)
			}
			src.removeReferer(r)
		case WebSocketProtocol:
			src.removeProtocol(r)
		}
	}
}

func (s *Source) removeHeader(r *http.Request) {
	values := r.Header[s.Name]
	if len(values) == 1 {
		if _, ours := s.credentials(values[0]); ours {
			delete(r.Header, s.Name)
		}
		return
	}
	kept := slices.DeleteFunc(slices.Clone(values), func(value string) bool {
		_, ours := s.credentials(value)
		return ours
	})
	replaceHeader(r, s.Name, values, kept)
}

func (s *Source) removeCookie(r *http.Request) {
	lines := r.Header["Cookie"]
	var kept []string
	for _, line := range lines {
		rest := removeFrom(line, ';', func(pair string) bool {
			_, ours := s.cookie(pair)
			return ours
		})
		switch {
		case rest == line:
			kept = append(kept, line)
		case strings.TrimSpace(rest) != "":
			kept = append(kept, strings.TrimPrefix(rest, " "))
		}
	}
	replaceHeader(r, "Cookie", lines, kept)
}

func (s *Source) removeParameter(query string) string {
	if query == "" {
		return query
	}
	return removeFrom(query, '&', func(pair string) bool {
		_, ours := s.parameter(pair)
		return ours
	})
}

// removeReferer cleans the address of the page, which carries the token if the page itself was opened with it.
func (s *Source) removeReferer(r *http.Request) {
	values := r.Header["Referer"]
	cleaned := slices.Clone(values)
	for i, value := range values {
		cleaned[i] = s.removeFromAddress(value)
	}
	replaceHeader(r, "Referer", values, cleaned)
}

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

func (s *Source) removeProtocol(r *http.Request) {
	lines := r.Header[protocolHeader]
	offered := false
	for offer := range protocols(r) {
		if offered = offer == s.Name; offered {
			break
		}
	}
	if !offered {
		return
	}
	var kept []string
	marked := false
	for offer := range protocols(r) {
		// The token stands right behind its marker, and behind each of two markers in a row.
		behind := marked
		if marked = offer == s.Name; !marked && !behind {
			kept = append(kept, offer)
		}
	}
	if len(kept) > 0 {
		kept = []string{strings.Join(kept, ", ")}
	}
	replaceHeader(r, protocolHeader, lines, kept)
}

// removeFrom removes the parts of a list for which ours is true, and leaves the bytes of all others.
func removeFrom(list string, separator byte, ours func(part string) bool) string {
	found := false
	for part := range parts(list, separator) {
		if ours(part) {
			found = true
			break
		}
	}
	if !found {
		return list
	}
	kept := make([]byte, 0, len(list))
	for more := true; more; {
		var part string
		if part, list, more = strings.Cut(list, string(rune(separator))); part == "" || !ours(part) {
			kept = append(append(kept, part...), separator)
		}
	}
	return string(kept[:max(0, len(kept)-1)])
}

// replaceHeader sets the values of a header if they changed, and removes it if none is left.
func replaceHeader(r *http.Request, name string, before, after []string) {
	switch {
	case slices.Equal(before, after):
	case len(after) == 0:
		delete(r.Header, name)
	default:
		r.Header[name] = after
	}
}
