package auth

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// authenticate finds the token, removes it from the request, checks the Origin, and verifies the token. It records the contact
// in the outcome. The writer that it returns selects the subprotocol that announced the token. The token is returned for the log, which says
// why it was refused.
func (h *Handler) authenticate(w http.ResponseWriter, r *http.Request, d decision) (http.ResponseWriter, string, *authn.Rejection) {
	m, o := d.messenger, d.outcome
	if o.Messenger == m.Name && o.Rejection != nil && o.Rejection.Code != authn.TokenMissing {
		return w, "", o.Rejection // an earlier handler has removed the token; its rejection applies here too
	}
	o.Messenger = m.Name
	found, rej := h.sources.Find(r, authn.Look{Handshake: o.Handshake, Tickets: o.Handshake || r.Method == http.MethodGet, Anonymous: d.mode == config.ModeOptional})
	h.headers.RemoveShared(r, o)
	if found.Any || rej != nil && rej.Code == authn.TokenAmbiguous {
		o.Source = string(found.Kind)
		h.removeToken(r)
		o.Marker = found.Marker
		w = answerProtocol(w, r, o)
	}
	if rej == nil {
		rej = checkOrigin(m, r, o, found)
	}
	token := found.Token
	switch {
	case rej != nil:
	case found.Kind == authn.Ticket:
		token, rej = h.redeem(r, m, token, o)
	default:
		rej = h.verify(r, m, token, o)
	}
	o.Rejection = rej
	return w, token, rej
}

// verify finds the contact that token identifies and records it in o.
func (h *Handler) verify(r *http.Request, m *registry.Messenger, token string, o *upstream.Outcome) (rej *authn.Rejection) {
	var v registry.Verification
	if m.FailLimit == nil {
		v, rej = h.registry.Verify(r.Context(), m, token, h.headers.Selection, nil)
	} else {
		v, rej = h.verifyLimited(r, m, token)
	}
	o.Contact, o.Origin, o.Cache, o.Began = v.Contact, v.Origin, v.Cache, v.Began
	if rej == nil && h.hasAccessLog {
		o.Fingerprint = authn.Fingerprint(token)
	}
	return rej
}

// verifyLimited verifies a token for a messenger with fail_limit. A token in the cache takes no reservation: valid tokens are
// never refused because of others.
func (h *Handler) verifyLimited(r *http.Request, m *registry.Messenger, token string) (v registry.Verification, rej *authn.Rejection) {
	failures := failuresOf(m, r)
	reserved := false
	defer func() {
		if reserved {
			failures.settle(rej) // deferred, so that a panic does not leave the reservation open
		}
	}()
	return h.registry.Verify(r.Context(), m, token, h.headers.Selection, func() *authn.Rejection {
		refused := failures.reserve(r.Context())
		reserved = refused == nil
		if !reserved || failures.address.IsValid() {
			return refused
		}
		if c := h.refusals.Check(zap.WarnLevel, noAddress); c != nil {
			c.Write(zap.String("messenger", m.Name))
		}
		return nil
	})
}
