package auth

import (
	"net/http"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// checkOrigin keeps a foreign page from using a contact's browser. A browser attaches a cookie by itself, so a cookie
// token counts only where the page is known, or where the request can change nothing; and it opens WebSockets across
// origins without asking anyone (cross-site WebSocket hijacking), so a handshake answers to the list whenever there is
// one.
func checkOrigin(m *registry.Messenger, r *http.Request, cookieOnly bool) *authn.Rejection {
	handshake := upstream.IsHandshake(r)
	values := r.Header["Origin"]
	switch {
	case cookieOnly && (handshake || !upstream.IsSafe(r.Method)):
	case !cookieOnly && handshake && len(m.Origins) > 0 && len(values) > 0:
	default:
		return nil
	}
	if len(values) == 1 {
		if o, err := config.ParseOrigin(values[0]); err == nil && (allows(m, o) || isOwnOrigin(r, o)) {
			return nil
		}
	}
	return &authn.Rejection{Code: authn.OriginNotAllowed, Reason: "the Origin is absent, or neither the gateway's own nor one of allowed_origin"}
}

func allows(m *registry.Messenger, o config.Origin) bool { return slices.Contains(m.Origins, o) }
