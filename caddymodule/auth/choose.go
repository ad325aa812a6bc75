package auth

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// messengerOf returns the messenger that r addresses, and the mode in which it is verified: the one of this route, or that of
// the messenger. The messenger is nil if there is a rejection.
func (h *Handler) messengerOf(r *http.Request) (m *registry.Messenger, mode config.Mode, rej *authn.Rejection) {
	if m = h.static; m == nil {
		m, rej = h.findMessenger(r)
	}
	mode = h.Mode
	if m != nil {
		mode = mode.Or(m.Mode)
	}
	return m, mode.Or(config.ModeRequired), rej
}

// findMessenger returns the messenger whose name is in the address of r.
func (h *Handler) findMessenger(r *http.Request) (*registry.Messenger, *authn.Rejection) {
	if rej := h.address.Check(r); rej != nil {
		return nil, rej
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return h.registry.Find(r.Context(), ascii.Lower(repl.ReplaceAll(h.Messenger, "")))
}
