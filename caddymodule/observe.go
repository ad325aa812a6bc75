package caddymodule

import (
	"encoding/hex"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// What is written down about a request: counters, the meter, our fields of Caddy's access log, attributes of Caddy's span,
// and for a refusal one line in ten seconds of each kind. A good request costs no line of ours, and fields and attributes
// are made only where somebody takes them.

// observe notes in o how a verification went.
func (h *Handler) observe(m *messenger, o *outcome, token string, known bool, rej *authn.Rejection, started time.Time) {
	o.began = started.Unix()
	switch {
	case known:
		o.cache = cacheHit
	case h.app.verified == nil:
		o.cache = cacheOff
	default:
		o.cache = cacheMiss
	}
	if rej == nil {
		o.contact.SignedBy.Use(started)
		if h.accessed {
			o.printed = authn.Fingerprint(token)
		}
	} else if rej.Code == authn.TooManyFailures {
		return // nobody looked at the token
	}
	m.timings.note(o.cache, started)
}

// account writes down how the request was decided.
func (h *Handler) account(r *http.Request, m *messenger, mode Mode, o *outcome, rej *authn.Rejection) {
	o.place = h.place
	code := codeVerified
	var p *problem
	if rej != nil {
		p, code = problems[rej.Code], string(rej.Code)
		o.code = code
	}
	m.countRequest(mode, code)
	if m != nil {
		second := o.began
		if second == 0 {
			second = time.Now().Unix()
		}
		place := 0
		if p != nil {
			place = p.place
		}
		m.meter.note(place, second)
	}
	ctx := r.Context()
	if h.accessed {
		if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
			extra.Set(zap.Object("messenger_auth", newFindings(m, mode, code, o)))
		}
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(newFindings(m, mode, code, o).attributes()...)
	}
	if rej == nil || rej.Code == authn.TokenMissing && mode != ModeReport && !rej.Nothing {
		return
	}
	message, next := p.refused, rej.Code.Info().Advice
	switch {
	case mode == ModeReport:
		message = p.wouldBeRefused
	case rej.Code == authn.TokenMissing:
		message = "passed as anonymous: what the page sent is no token"
	}
	if rej.Nothing {
		next = adviceOnNothing
	}
	if c := h.refusals.Check(zap.InfoLevel, message); c != nil {
		c.Write(zap.String("code", code), zap.String("messenger", o.messenger), zap.String("reason", rej.Reason),
			zap.String("source", o.source), zap.String("advice", next))
	}
}

// findings are what logs and spans tell of a request. Who the contact is, they do not tell.
type findings struct {
	messenger   string
	method      string
	mode        Mode
	verdict     string
	source      string
	cache       string
	fingerprint [4]byte
}

func newFindings(m *messenger, mode Mode, code string, o *outcome) findings {
	f := findings{messenger: o.messenger, mode: mode, verdict: code, source: o.source, cache: o.cache.String(), fingerprint: o.printed}
	if m != nil {
		f.method = m.method()
	}
	return f
}

// MarshalLogObject implements zapcore.ObjectMarshaler. The fingerprint is the beginning of a hash, by which one token can
// be followed through the log; only a good one has it, so that nobody can make up any.
func (f findings) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("messenger", f.messenger)
	enc.AddString("method", f.method)
	enc.AddString("mode", string(f.mode))
	enc.AddString("verdict", f.verdict)
	enc.AddString("source", f.source)
	enc.AddString("cache", f.cache)
	if f.verdict == codeVerified {
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

// adviceOnNothing is about pages that send a scheme without a token, or a word in its place.
const adviceOnNothing = "have the page send no Authorization header while its visitor is not logged in, and wait for the token where one is"
