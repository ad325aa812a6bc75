package auth

import (
	"encoding/hex"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// A request is reported in counters, the meter, our fields in Caddy's access log, attributes of Caddy's span, and for refusals one
// log line of each kind in ten seconds. A verified request causes no log line of ours. Fields and attributes
// are built only if there is an access log or a recorded span.

// record reports how the request was decided. token is the token of the request, or "".
// The log examines it for the cause of a refusal.
func (h *Handler) record(r *http.Request, d decision, rej *authn.Rejection, token string) {
	m, o := d.messenger, d.outcome
	o.Handler = h.title
	verdict := authn.Verified
	if rej != nil {
		verdict = string(rej.Code)
		o.Code = verdict
	}
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	m.Count(d.mode, verdict, o.Began.Unix())
	ctx := r.Context()
	if h.hasAccessLog {
		if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
			extra.Set(zap.Object("messenger_auth", newFindings(m, d.mode, verdict, o)))
		}
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(newFindings(m, d.mode, verdict, o).attributes()...)
	}
	if rej != nil {
		h.logRefusal(r, d, rej, token)
	}
}

// findings has the fields of logs and spans about a request. They do not identify the contact.
type findings struct {
	messenger   string
	method      string
	mode        config.Mode
	verdict     string
	source      string
	cache       string
	fingerprint [4]byte
}

func newFindings(m *registry.Messenger, mode config.Mode, verdict string, o *upstream.Outcome) findings {
	f := findings{messenger: o.Messenger, mode: mode, verdict: verdict, source: o.Source, cache: o.Cache.String(), fingerprint: o.Fingerprint}
	if m != nil {
		f.method = m.Method()
	}
	return f
}

// MarshalLogObject implements zapcore.ObjectMarshaler. The fingerprint is the beginning of a hash of the token, by which one
// token can be followed through the log. Only valid tokens have one, so that clients cannot invent fingerprints.
func (f findings) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("messenger", f.messenger)
	enc.AddString("method", f.method)
	enc.AddString("mode", string(f.mode))
	enc.AddString("verdict", f.verdict)
	enc.AddString("source", f.source)
	enc.AddString("cache", f.cache)
	if f.verdict == authn.Verified {
		enc.AddString("fingerprint", hex.EncodeToString(f.fingerprint[:]))
	}
	return nil
}

func (f findings) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messenger_auth.messenger", f.messenger),
		attribute.String("messenger_auth.method", f.method),
		attribute.String("messenger_auth.mode", string(f.mode)),
		attribute.String("messenger_auth.verdict", f.verdict),
		attribute.String("messenger_auth.source", f.source),
		attribute.String("messenger_auth.cache", f.cache),
	}
}
