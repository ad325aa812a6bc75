package auth

import (
	"net/http"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// verify finds the contact that token identifies and records it in o. A token in the cache is not verified again and is not
// subject to fail_limit, but whether it was revoked meanwhile is checked every time.
func (h *Handler) verify(r *http.Request, m *registry.Messenger, token string, o *upstream.Outcome) (rej *authn.Rejection) {
	started := time.Now()
	o.Origin = m.Origin.Load() // before the keys, so that a key removed from here on is noticed when a connection opens
	verifier := m.Verifier.Load()
	var known bool
	if m.FailLimit == nil {
		o.Contact, known, rej = h.registry.Verified.Verify(r.Context(), started, verifier, token, h.headers.Selection, nil)
	} else {
		o.Contact, known, rej = h.verifyLimited(r, m, verifier, token, started)
	}
	h.observe(m, o, token, known, rej, started)
	return rej
}
