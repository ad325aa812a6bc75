package auth

import (
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// verifyLimited verifies a token for a messenger with fail_limit. A token in the cache takes no reservation.
func (h *Handler) verifyLimited(r *http.Request, m *registry.Messenger, v *authn.Verifier, token string, started time.Time) (contact *authn.Contact, known bool, rej *authn.Rejection) {
	failures := failuresOf(m, r)
	reserved := false
	defer func() {
		if reserved {
			failures.settle(rej) // deferred, so that a panic does not leave the reservation open
		}
	}()
	return h.registry.Verified.Verify(r.Context(), started, v, token, h.headers.Selection, func() *authn.Rejection {
		refused := failures.reserve(r.Context())
		reserved = refused == nil
		if !reserved || failures.key.address.IsValid() {
			return refused
		}
		if c := h.refusals.Check(zap.WarnLevel, noAddress); c != nil {
			c.Write(zap.String("messenger", m.Name))
		}
		return nil
	})
}

// noAddress is the warning for a fail_limit that cannot distinguish clients.
const noAddress = "clients without an address count as one for fail_limit, so that one of them can use it up for all: behind a proxy on a Unix socket set trusted_proxies_unix in the global option servers"
