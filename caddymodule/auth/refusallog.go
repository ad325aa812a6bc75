package auth

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/diagnose"
)

// logRefusal writes why r is refused, or would be, and what to do. The cause is looked for only if the line is written, which is once
// in ten seconds for each code, so that a flood of invalid tokens does not cost a diagnosis each.
//
// A request without a token usually comes from a visitor who is not logged in, and is not logged. It is logged if it has something
// in place of a token, or a token in another place or form.
func (h *Handler) logRefusal(r *http.Request, d decision, rej *authn.Rejection, token string) {
	m, mode, o := d.messenger, d.mode, d.outcome
	message, found := problemOf(rej.Code).refused, rej.Cause
	if rej.Code == authn.TokenMissing {
		if found == cause.None {
			found = diagnose.Astray(h.sources, r)
		}
		switch {
		case mode == config.ModeReport:
		case found == cause.None, found == cause.SchemeBasic && mode == config.ModeOptional:
			return
		case mode == config.ModeOptional:
			message = "passed as anonymous: what the page sent is not a token"
		}
	}
	if mode == config.ModeReport {
		message = problemOf(rej.Code).wouldBeRefused
	}
	c := h.refusals.Check(zap.InfoLevel, message)
	if c == nil {
		return
	}
	if found == cause.None && m != nil {
		found = diagnose.Cause(m.Verifier.Load(), token, rej)
	}
	fields := []zap.Field{zap.String("code", string(rej.Code)), zap.String("messenger", o.Messenger)}
	if m == nil {
		if name := h.lookedFor(r); name != "" {
			fields = append(fields, zap.String("looked_for", name))
		}
		if h.isPrefixGone(r) {
			found = cause.PathPrefixGone
		}
	}
	reason, advice := rej.Reason, rej.Code.Info().Advice
	if found != cause.None {
		reason, advice = found.Info().Text, found.Info().Fix
		fields = append(fields, zap.Stringer("cause", found))
	}
	c.Write(append(fields, zap.String("reason", reason), zap.String("source", o.Source), zap.String("advice", advice))...)
}

// lookedFor returns the messenger name in the address of r, for the log. It returns "" for a text that cannot be a name, or that
// looks like a token or a secret in the wrong place.
func (h *Handler) lookedFor(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	name := ascii.Lower(repl.ReplaceAll(h.Messenger, ""))
	if config.CheckName(name) != nil || len(name) > 40 || strings.HasPrefix(name, "eyj") || strings.HasPrefix(name, "mst_") {
		return ""
	}
	return name
}

// isPrefixGone reports whether an earlier handler has removed the beginning of the path in which h looks for the messenger's name.
func (h *Handler) isPrefixGone(r *http.Request) bool {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	return ok && original.URL != nil && strings.Contains(h.Messenger, "{"+config.PathPartPrefix) &&
		len(original.URL.Path) > len(r.URL.Path) && strings.HasSuffix(original.URL.Path, r.URL.Path)
}
