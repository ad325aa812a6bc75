package auth

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// passVerified handles a request that an earlier messenger_auth verified. The contact_limit and the assertion of h apply as
// well, but the headers stay as the earlier one has set them.
func (h *Handler) passVerified(w http.ResponseWriter, r *http.Request, m *registry.Messenger, mode config.Mode, o *upstream.Outcome, next caddyhttp.Handler) error {
	if o.Messenger == m.Name {
		asserted, over := h.admit(m, r, mode, o)
		if over != nil && mode != config.ModeReport {
			h.record(r, m, mode, o, over, "")
			return h.refuse(w, r, m, o, over)
		}
		if asserted != "" {
			h.headers.SetAssertion(r, o, asserted)
		}
		h.warnAboutHeaders(o)
		return h.guard(m, w, r, mode, o, next)
	}
	if c := h.refusals.Check(zap.ErrorLevel, "a request was verified for one messenger and then reached the messenger_auth of another; "+
		"put the two on routes that exclude each other"); c != nil {
		c.Write(zap.String("verified_by", o.Handler), zap.String("verified_for", o.Messenger),
			zap.String("then_reached", h.title), zap.String("messenger", m.Name))
	}
	return caddyhttp.Error(http.StatusInternalServerError, errors.New("one request reached messenger_auth for two messengers"))
}

// warnAboutHeaders warns operators of headers that are never set, because an earlier messenger_auth verifies the requests.
func (h *Handler) warnAboutHeaders(o *upstream.Outcome) {
	if o.SetsAll(&h.headers) {
		return
	}
	if c := h.refusals.Check(zap.WarnLevel, "an earlier messenger_auth verifies the requests of this one, whose own headers are not set; "+
		"write its claim_header and the names of its headers into the earlier one"); c != nil {
		c.Write(zap.String("verified_by", o.Handler), zap.String("then_reached", h.title))
	}
}
