package auth

import (
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// isLogout reports whether r is a request for logout_path.
func (h *Handler) isLogout(r *http.Request) bool {
	return h.LogoutPath != "" && r.URL.Path == h.LogoutPath
}

// logOut answers requests for logout_path; they are never passed upstream. A contact can revoke only their own tokens, and
// only with a valid one, whatever the mode.
func (h *Handler) logOut(w http.ResponseWriter, r *http.Request, d decision) error {
	m, o := d.messenger, d.outcome
	if h.answersPostOnly(w, r, m) {
		return nil
	}
	rej, token := o.Rejection, ""
	if o.Contact == nil || o.Messenger != m.Name {
		w, token, rej = h.authenticate(w, r, d.required())
	}
	if rej == nil {
		logout := revocation.OfLogout(o.Contact, m.Messenger, h.LogoutEverywhere, registry.Now().UTC()) // of the token, or of all tokens of this contact
		if _, err := h.registry.Revoke(r.Context(), m.Name, logout, registry.ByContact); err != nil {
			if c := h.refusals.Check(zap.WarnLevel, "logout not persisted"); c != nil {
				c.Write(zap.String("messenger", m.Name), zap.Error(err), zap.String("advice", authn.StoreUnavailable.Info().Advice))
			}
			rej = &authn.Rejection{Code: authn.StoreUnavailable, Reason: "the revocation could not be written"}
		}
	}
	h.record(r, d, rej, token) // after the write, so that a logout that failed is not counted as verified
	if rej != nil {
		return h.refuse(w, r, d, rej)
	}
	allowReading(m, w.Header(), r)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// answersPostOnly answers requests other than POST for a path of the gateway's own, and returns false for a POST. more are the
// headers that a page may send in addition to that of the token.
func (h *Handler) answersPostOnly(w http.ResponseWriter, r *http.Request, m *registry.Messenger, more ...string) bool {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case isPreflight(r):
		allowPosting(m, w.Header(), r, h.sources, more)
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodPost:
		h.removeToken(r)
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		return false
	}
	return true
}

// allowPosting answers a CORS preflight for a POST from a page of allowed_origin.
func allowPosting(m *registry.Messenger, header http.Header, r *http.Request, sources authn.Sources, more []string) {
	if allowReading(m, header, r); header.Get("Access-Control-Allow-Origin") == "" {
		return
	}
	allowed := []string{}
	for _, source := range sources {
		if source.Kind == authn.Header {
			allowed = append(allowed, source.Name)
		}
	}
	header.Set("Access-Control-Allow-Methods", http.MethodPost)
	header.Set("Access-Control-Allow-Headers", strings.Join(append(allowed, more...), ", "))
	header.Set("Access-Control-Max-Age", preflightAge)
}
