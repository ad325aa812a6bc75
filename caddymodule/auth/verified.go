package auth

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// passVerified handles a request that an earlier messenger_auth verified. The contact_limit and the assertion of h apply as
// well, but the headers stay as the earlier one has set them. A token where only h reads one does not reach the backend either.
func (h *Handler) passVerified(w http.ResponseWriter, r *http.Request, m *registry.Messenger, mode config.Mode, o *upstream.Outcome, next caddyhttp.Handler) error {
	if o.Marker == "" && o.Handshake {
		found, _ := h.sources.Find(r, authn.Look{Handshake: true})
		o.Marker = found.Marker // its token is removed, and the answer to the handshake has to select it
	}
	if h.removeToken(r); o.Messenger == m.Name {
		asserted, over := h.admit(m, r, mode, o)
		if over != nil && mode != config.ModeReport {
			h.record(r, m, mode, o, over, "")
			return h.refuse(w, r, m, o, over)
		}
		if asserted != "" {
			h.headers.SetAssertion(r, o, asserted)
		}
		h.warnAboutHeaders(o)
		if o.Show(r) {
			defer o.Hide(r)
		}
		return h.guard(m, answerProtocol(w, r, o), r, mode, o, next)
	}
	if c := h.refusals.Check(zap.ErrorLevel, "a request was verified for one messenger and then reached the messenger_auth of another; "+
		"put the two on routes that exclude each other"); c != nil {
		c.Write(zap.String("verified_by", o.Handler), zap.String("verified_for", o.Messenger),
			zap.String("then_reached", h.title), zap.String("messenger", m.Name))
	}
	o.Refuse(r, nil)
	return errTwoMessengers()
}

// errTwoMessengers is the error for a request that the handlers of two messengers verify, or would verify.
func errTwoMessengers() error {
	return caddyhttp.Error(http.StatusInternalServerError, errors.New("one request reached messenger_auth for two messengers"))
}

// passOn calls next for a request whose contact h has verified. The request has the headers of the contact only while it is guarded: if a
// handler in front of h sends it to another backend afterwards, that one gets none of these headers. An error route gets them, because
// verifiedErrors guards it.
func (h *Handler) passOn(w http.ResponseWriter, r *http.Request, m *registry.Messenger, mode config.Mode, o *upstream.Outcome, next caddyhttp.Handler) error {
	err := func() error {
		defer o.Hide(r)
		return h.guard(m, w, r, mode, o, next)
	}()
	if err != nil {
		o.ErrorRoute = verifiedErrors{h, m, mode}
	}
	return h.keepErrorPrivate(w, r, err)
}

// verifiedErrors serves error routes of a request whose contact the handler has verified, as the handler serves the request.
type verifiedErrors struct {
	handler   *Handler
	messenger *registry.Messenger
	mode      config.Mode
}

// ServeHTTP limits and guards the request again, because its first connection has ended.
func (v verifiedErrors) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h, m, o := v.handler, v.messenger, upstream.OutcomeOf(r)
	if o.Contact == nil {
		return servePrivately(w, r, next) // a later handler has refused the request
	}
	if over := h.overLimit(m, r, o); over != nil && v.mode != config.ModeReport {
		h.record(r, m, v.mode, o, over, "")
		return h.refuse(w, r, m, o, over)
	}
	o.Show(r)
	return h.passOn(answerProtocol(w, r, o), r, m, v.mode, o, next)
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
