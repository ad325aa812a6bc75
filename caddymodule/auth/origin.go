package auth

import (
	"net/http"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// checkOrigin prevents a foreign page from using a contact's browser. A browser attaches cookies by itself, so a token in a
// cookie is accepted only from a known page, or if the request cannot change anything. A browser also opens WebSockets across
// origins without a preflight (cross-site WebSocket hijacking), so a handshake is checked against allowed_origin whenever
// that is configured. A request with a ticket is checked too, because the ticket is in the URL, which another page may learn.
func checkOrigin(m *registry.Messenger, r *http.Request, o *upstream.Outcome, found authn.Found) *authn.Rejection {
	cookieOnly := found.CookieOnly
	if !o.Handshake && found.Kind != authn.Ticket && (!cookieOnly || upstream.IsSafe(r.Method)) {
		return nil
	}
	values := r.Header["Origin"]
	if !cookieOnly && (len(m.Origins) == 0 || len(values) == 0) {
		return nil
	}
	if len(values) == 1 {
		if origin, err := config.ParseOrigin(values[0]); err == nil && (allows(m, origin) || upstream.IsOwnOrigin(r, origin)) {
			return nil
		}
	}
	return &authn.Rejection{Code: authn.OriginNotAllowed, Reason: "the Origin is absent, or is neither the gateway's own nor in allowed_origin"}
}

func allows(m *registry.Messenger, o config.Origin) bool { return slices.Contains(m.Origins, o) }
