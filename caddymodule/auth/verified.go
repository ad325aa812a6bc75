package auth

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// passVerified handles a request that an earlier messenger_auth verified. The contact_limit and the assertion of h apply as
// well, but the headers stay as the earlier one has set them. A token where only h reads one does not reach the backend either.
func (h *Handler) passVerified(w http.ResponseWriter, r *http.Request, d decision) error {
	m, o := d.messenger, d.outcome
	if o.Marker == "" && o.Handshake {
		found, _ := h.sources.Find(r, authn.Look{Handshake: true})
		o.Marker = found.Marker // its token is removed, and the answer to the handshake has to select it
	}
	if h.removeToken(r); o.Messenger == m.Name {
		asserted, over := h.admit(r, d)
		if over != nil && d.mode != config.ModeReport {
			h.record(r, d, over, "")
			return h.refuse(w, r, d, over)
		}
		if asserted != "" {
			h.headers.SetAssertion(r, o, asserted)
		}
		h.warnAboutHeaders(o)
		if o.Show(r) {
			defer o.Hide(r)
		}
		return h.guard(answerProtocol(w, r, o), r, d)
	}
	if c := h.refusals.Check(zap.ErrorLevel, "a request was verified for one messenger and then reached the messenger_auth of another; "+
		"put the two on routes that exclude each other"); c != nil {
		c.Write(zap.String("verified_by", o.Handler), zap.String("verified_for", o.Messenger),
			zap.String("then_reached", h.title), zap.String("messenger", m.Name))
	}
	o.Refuse(r, nil)
	return fail(o, errTwoMessengers())
}

// errTwoMessengers is the error for a request that the handlers of two messengers verify, or would verify.
func errTwoMessengers() error {
	return caddyhttp.Error(http.StatusInternalServerError, errors.New("one request reached messenger_auth for two messengers"))
}

// passOn calls next for a request whose contact h has verified. The request has the headers of the contact only while it is guarded: if a
// handler before h sends it to another backend afterwards, this backend does not get them. An error route gets them, because verifiedErrors
// guards it.
func (h *Handler) passOn(w http.ResponseWriter, r *http.Request, d decision) error {
	err := func() error {
		defer d.outcome.Hide(r)
		return h.guard(w, r, d)
	}()
	if err != nil {
		d.outcome.ErrorRoute = verifiedErrors{h, d}
	}
	return h.keepErrorPrivate(w, r, err)
}

// verifiedErrors serves the error routes of a request whose contact handler has verified, with the same limits and guard.
type verifiedErrors struct {
	handler *Handler
	decision
}

// ServeHTTP limits and guards the request again, because its first connection has ended.
func (v verifiedErrors) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h, d, o := v.handler, v.decision, upstream.OutcomeOf(r)
	d.outcome, d.next = o, next
	if o.Contact == nil {
		return servePrivately(w, r, next) // a later handler has refused the request
	}
	if over := h.overLimit(d.messenger, r, o); over != nil && d.mode != config.ModeReport {
		h.record(r, d, over, "")
		return h.refuse(w, r, d, over)
	}
	o.Show(r)
	return h.passOn(answerProtocol(w, r, o), r, d)
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
