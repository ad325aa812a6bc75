package authn

import (
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// Found is a token and where it was found.
type Found struct {
	Token string
	Kind  SourceKind
	Name  string // of the source

	// Marker is the subprotocol that announced the token, or "" if no websocket_protocol source held one. A client that
	// offers subprotocols gives up unless the answer selects one of them.
	Marker string

	// Held reports whether a source held anything, also what does not count as a token.
	Held bool

	// CookieOnly reports whether the token was in cookies only. A browser attaches cookies to requests
	// that another site caused, so such a token alone does not prove that the contact's own page sent it.
	CookieOnly bool
}

// A Look says how a request is searched.
type Look struct {
	// Handshake reports whether the request opens a WebSocket. No other request has subprotocols: on one a proxy or a
	// backend would not look at them, and a page cannot set them.
	Handshake bool

	// Anonymous reports whether a request may come without a token. What pages send in place of one is then none;
	// otherwise it is a malformed one, which says more to the people who look for the mistake.
	Anonymous bool
}

// Find returns the one token of r. Exactly one distinct token counts: with two that differ it is undefined which of them
// the contact meant, and trying until one passes would let an attacker add theirs to a victim's request.
func (s Sources) Find(r *http.Request, look Look) (Found, *Rejection) {
	f := finder{found: Found{CookieOnly: true}}
	for i := range s {
		src := &s[i]
		f.again = false
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
			src.findParameter(r.URL.RawQuery, &f)
		case WebSocketProtocol:
			if look.Handshake {
				src.findProtocol(r, &f)
			} else if src.holdsProtocol(r) {
				f.found.Held = true
			}
		}
	}
	return f.decide(look)
}

// finder gathers what Find meets.
type finder struct {
	found     Found
	ambiguous bool
	again     bool   // the source held something before
	last      string // which was this
	nothing   string // why the text there is not a token; "" if nothing of this kind does
	kind      SourceKind
}

func (f *finder) add(src *Source, token string) {
	// An empty one beside a full one is two as well: a backend may read the other.
	if f.again && token != f.last {
		f.ambiguous = true
	}
	f.again, f.last = true, token
	if token == "" && src.Scheme == "" {
		return
	}
	f.found.Held = true
	if src.Kind == WebSocketProtocol {
		f.found.Marker = src.Name
	}
	if reason := whyNothing(token); reason != "" {
		f.nothing, f.kind = reason, src.Kind
		return
	}
	if src.Kind != Cookie {
		f.found.CookieOnly = false
	}
	switch f.found.Token {
	case "":
		f.found.Token, f.found.Kind, f.found.Name = token, src.Kind, src.Name
	case token:
	default:
		f.ambiguous = true
	}
}

func (f *finder) decide(look Look) (Found, *Rejection) {
	if f.nothing != "" && !look.Anonymous && f.found.Token != "" {
		f.ambiguous = true
	}
	switch {
	case f.ambiguous:
		return f.found, reject(TokenAmbiguous, "the request carries more than one token, or one source twice")
	case f.found.Token != "":
		return f.found, nil
	case f.nothing != "":
		f.found.Kind = f.kind
		rej := &Rejection{Code: TokenMalformed, Reason: f.nothing, Nothing: true}
		if look.Anonymous {
			rej.Code = TokenMissing
		}
		return f.found, rej
	}
	return f.found, reject(TokenMissing, "no token in any configured source")
}

// credentials returns the token of a header value, and false if the value has another scheme and is none of ours. What
// stands right behind our scheme and cannot be part of a scheme's name, as in "Bearer:x", is a token that the verifier
// refuses.
func (s *Source) credentials(value string) (string, bool) {
	if s.Scheme == "" {
		return value, true
	}
	if len(value) < len(s.Scheme) || !ascii.EqualFold(value[:len(s.Scheme)], s.Scheme) {
		return "", false
	}
	rest := value[len(s.Scheme):]
	token := strings.TrimLeft(rest, " \t")
	return token, len(token) < len(rest) || rest == "" || !isSchemeCharacter(rest[0])
}

// cookie returns the value of a cookie if pair is the one that carries tokens.
func (s *Source) cookie(pair string) (string, bool) {
	if len(pair) < len(s.Name) {
		return "", false
	}
	// Blanks of ASCII alone: a page of a sibling host cannot set "__Host-chat", but it can set that name with a blank of
	// Unicode in front, which browsers take for another cookie.
	name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
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
