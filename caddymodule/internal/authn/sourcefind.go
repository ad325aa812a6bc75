package authn

import (
	"net/http"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Found is a token and where it was found.
type Found struct {
	Token string
	Kind  SourceKind

	// Marker is the subprotocol before the token, or "" if no websocket_protocol source has one. A client that offers
	// subprotocols gives up unless the answer selects one of them.
	Marker string

	// Any reports whether a source has any content, even if it does not count as a token.
	Any bool

	// CookieOnly reports whether the token was in cookies only. A browser attaches cookies to requests that another site caused,
	// so such a token alone does not prove that the contact's own page sent it.
	CookieOnly bool
}

// A Look says how a request is searched.
type Look struct {
	// Handshake reports whether the request opens a WebSocket. Subprotocols are a source on no other request: a page cannot set
	// them there, and proxies and backends do not read them.
	Handshake bool

	// Tickets reports whether a ticket is a source on the request. A ticket is for what a page cannot give a header, and none of
	// that changes anything.
	Tickets bool

	// Anonymous reports whether a request may come without a token. What pages send instead of one then counts as none.
	// Otherwise it is a malformed token, which helps more with finding the mistake.
	Anonymous bool
}

// Find returns the one token of r. Exactly one distinct token counts: with two that differ it is undefined which of them
// the contact meant, and trying until one passes would let an attacker add their own to a victim's request.
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
		case Ticket:
			if !look.Tickets {
				f.found.Any = f.found.Any || src.removeParameter(r.URL.RawQuery) != r.URL.RawQuery
				continue
			}
			src.findParameter(r.URL.RawQuery, &f)
		case Query:
			src.findParameter(r.URL.RawQuery, &f)
		case WebSocketProtocol:
			if look.Handshake {
				src.findProtocol(r, &f)
			} else if src.hasProtocol(r) {
				f.found.Any = true
			}
		}
	}
	return f.decide(look)
}

// finder collects the content of the sources.
type finder struct {
	found     Found
	ambiguous bool
	again     bool        // the current source has had content already
	last      string      // which was this
	empty     cause.Cause // why the content of a source is not a token; see WhyEmpty
	kind      SourceKind  // of that source
}

func (f *finder) add(src *Source, token string) {
	// An empty value next to another one is a second value too: a backend may read the other.
	if f.again && token != f.last {
		f.ambiguous = true
	}
	f.again, f.last = true, token
	if token == "" && src.Scheme == "" {
		return
	}
	f.found.Any = true
	if src.Kind == WebSocketProtocol && !src.Prefix { // a subprotocol with a token in it is never repeated in an answer
		f.found.Marker = src.Name
	}
	if empty := WhyEmpty(token); empty != cause.None {
		f.empty, f.kind = empty, src.Kind
		return
	}
	if src.Kind != Cookie {
		f.found.CookieOnly = false
	}
	switch f.found.Token {
	case "":
		f.found.Token, f.found.Kind = token, src.Kind
	case token:
	default:
		f.ambiguous = true
	}
}

func (f *finder) decide(look Look) (Found, *Rejection) {
	if f.empty != cause.None && !look.Anonymous && f.found.Token != "" {
		f.ambiguous = true
	}
	switch {
	case f.ambiguous:
		return f.found, reject(TokenAmbiguous, "the request carries more than one token, or one source twice")
	case f.found.Token != "":
		return f.found, nil
	case f.empty != cause.None:
		f.found.Kind = f.kind
		if look.Anonymous {
			return f.found, rejectFor(TokenMissing, f.empty)
		}
		return f.found, rejectFor(TokenMalformed, f.empty)
	}
	return f.found, reject(TokenMissing, "no token in any configured source")
}

// credentials returns the token of a header value, and false if the value has another scheme: then it is not for us. Text
// directly after our scheme that cannot be part of a scheme's name, as in "Bearer:x", is a token that the verifier refuses.
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
	// Only ASCII blanks are trimmed: a page of a sibling host cannot set "__Host-chat", but it can set that name with a
	// Unicode blank before it, which browsers take for another cookie.
	name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
	return value, name == s.Name
}

// isSchemeCharacter reports whether the name of an authentication scheme can have c (RFC 9110 section 5.6.2).
func isSchemeCharacter(c byte) bool {
	return ascii.IsLetterOrDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// WhyEmpty says why token, the content of a source, is what pages of visitors without a login send instead of a token. It
// returns [cause.None] for any other text.
func WhyEmpty(token string) cause.Cause {
	switch {
	case token == "":
		return cause.SchemeAlone
	case token == "undefined" || token == "null":
		return cause.WordForNothing
	case strings.HasPrefix(token, "[object ") && strings.HasSuffix(token, "]"):
		return cause.WordForObject
	}
	return cause.None
}
