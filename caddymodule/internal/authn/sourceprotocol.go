package authn

import (
	"iter"
	"net/http"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// A page cannot set headers on a WebSocket handshake, but it can offer subprotocols. So libraries send a token as one of them,
// directly after a marker: "Sec-WebSocket-Protocol: jwt, <token>", or inside of one: "base64url.bearer.phx.<token in base64url>".
// Markers and prefixes are compared exactly: a subprotocol is case-sensitive (RFC 6455 section 11.5).

const protocolHeader = "Sec-Websocket-Protocol" // as net/http spells it

// protocols are the subprotocols that a handshake offers, in their order (RFC 6455 section 11.3.4).
func protocols(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range r.Header[protocolHeader] {
			for offer := range parts(line, ',') {
				if offer = strings.Trim(offer, " \t"); offer != "" && !yield(offer) {
					return
				}
			}
		}
	}
}

func (s *Source) findProtocol(r *http.Request, f *finder) {
	seen, marked := false, false // marked: the offer before was the marker
	for offer := range protocols(r) {
		if s.Prefix {
			if text, ours := strings.CutPrefix(offer, s.Name); ours {
				f.add(s, s.decode(text))
			}
			continue
		}
		if marked {
			f.add(s, offer)
		}
		if marked = offer == s.Name; marked {
			f.ambiguous = f.ambiguous || seen
			seen = true
		}
	}
}

// notEncoded is in place of text that should be base64url and is not, such as a bare token: text has one reading, and the verifier
// refuses this one.
const notEncoded = "?"

// decode returns the token that text behind the prefix is.
func (s *Source) decode(text string) string {
	if !s.Encoded {
		return text
	}
	token, err := strictBase64.DecodeString(text)
	if err != nil {
		return notEncoded
	}
	return string(token)
}

// hasProtocol reports whether a token follows the marker, or is in a subprotocol with the prefix.
func (s *Source) hasProtocol(r *http.Request) bool {
	marked := false
	for offer := range protocols(r) {
		if marked || s.Prefix && strings.HasPrefix(offer, s.Name) {
			return true
		}
		marked = !s.Prefix && offer == s.Name
	}
	return false
}

// HasOtherCase reports whether a subprotocol of r would be the marker, or begin with the prefix, if case were ignored.
func (s *Source) HasOtherCase(r *http.Request) bool {
	for offer := range protocols(r) {
		if len(offer) < len(s.Name) || !s.Prefix && len(offer) > len(s.Name) {
			continue
		}
		if start := offer[:len(s.Name)]; start != s.Name && ascii.EqualFold(start, s.Name) {
			return true
		}
	}
	return false
}

func (s *Source) removeProtocol(r *http.Request) {
	offered := false
	for offer := range protocols(r) {
		if offered = offer == s.Name || s.Prefix && strings.HasPrefix(offer, s.Name); offered {
			break
		}
	}
	if !offered {
		return
	}
	var kept []string
	marked := false
	for offer := range protocols(r) {
		// The token follows directly after its marker, and after each of two markers in a row.
		isToken := marked
		if s.Prefix {
			isToken = strings.HasPrefix(offer, s.Name)
		} else {
			marked = offer == s.Name
		}
		if !marked && !isToken {
			kept = append(kept, offer)
		}
	}
	if len(kept) > 0 {
		kept = []string{strings.Join(kept, ", ")}
	}
	replaceHeader(r, protocolHeader, r.Header[protocolHeader], kept)
}
