package authn

import (
	"iter"
	"net/http"
	"strings"
)

// A page cannot set headers on a WebSocket handshake, but it can offer subprotocols. So libraries send a token as one of them,
// directly after a marker: "Sec-WebSocket-Protocol: jwt, <token>".

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
		if marked {
			f.add(s, offer)
		}
		if marked = offer == s.Name; marked {
			f.ambiguous = f.ambiguous || seen
			seen = true
		}
	}
}

// hasProtocol reports whether a token follows the marker.
func (s *Source) hasProtocol(r *http.Request) bool {
	marked := false
	for offer := range protocols(r) {
		if marked {
			return true
		}
		marked = offer == s.Name
	}
	return false
}

func (s *Source) removeProtocol(r *http.Request) {
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
		// The token follows directly after its marker, and after each of two markers in a row.
		isToken := marked
		if marked = offer == s.Name; !marked && !isToken {
			kept = append(kept, offer)
		}
	}
	if len(kept) > 0 {
		kept = []string{strings.Join(kept, ", ")}
	}
	replaceHeader(r, protocolHeader, r.Header[protocolHeader], kept)
}
