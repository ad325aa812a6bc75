package caddymodule

import (
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// logOut answers at logout_path. Nothing of it goes upstream. A contact can revoke nobody's tokens but their own, and
// only with one that is still good, whatever the mode.
func (h *Handler) logOut(w http.ResponseWriter, r *http.Request, m *messenger, mode Mode, o *outcome) error {
	w.Header().Set("Cache-Control", "no-store")
	if isPreflight(r) {
		m.allowLogout(w.Header(), r, h.sources)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if r.Method != http.MethodPost {
		h.takeOut(r)
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	rej := o.rejection
	if o.contact == nil || o.messenger != m.name {
		w, rej = h.authenticate(w, r, m, ModeRequired, o)
	}
	h.account(r, m, mode, o, rej)
	if rej != nil {
		return h.refuse(w, r, m, rej)
	}
	if err := h.revokeOwn(r, m, o.contact); err != nil {
		if c := h.refusals.Check(zap.WarnLevel, "a logout could not be kept"); c != nil {
			c.Write(zap.String("messenger", m.name), zap.Error(err), zap.String("advice", authn.StoreUnavailable.Info().Advice))
		}
		return h.refuse(w, r, m, &authn.Rejection{Code: authn.StoreUnavailable, Reason: "the revocation could not be written"})
	}
	m.allowReading(w.Header(), r)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// revokeOwn revokes the token of c, or all of this contact.
func (h *Handler) revokeOwn(r *http.Request, m *messenger, c *authn.Contact) error {
	_, err := h.app.revoke(r.Context(), m.name, logoutOf(c, m.Messenger, h.LogoutEverywhere, time.Now().UTC()), "the contact")
	return err
}

// logoutOf is the revocation by which c logs out.
func logoutOf(c *authn.Contact, m *Messenger, everywhere bool, now time.Time) revocation {
	if c.TokenID == "" || everywhere {
		// The site's clock may be ahead: the token that logs out is among them in any case.
		if next := c.Issued.Add(time.Second - durationOr(m.ClockSkew, defaultClockSkew)); next.After(now) {
			now = next.UTC()
		}
		return revocation{Identity: c.Identity, Before: &now}
	}
	v := revocation{TokenHash: c.TokenID, Contact: c.Identity}
	if !c.Expires.IsZero() { // its key may end earlier, and come back in other settings
		v.Until = writable(c.Expires)
	}
	if !c.Issued.IsZero() {
		issued := c.Issued.UTC()
		v.Issued = &issued
	}
	return v
}

// allowLogout answers a CORS preflight for a logout from a page of allowed_origin.
func (m *messenger) allowLogout(header http.Header, r *http.Request, sources authn.Sources) {
	if m.allowReading(header, r); header.Get("Access-Control-Allow-Origin") == "" {
		return
	}
	allowed := []string{}
	for _, source := range sources {
		if source.Kind == authn.Header {
			allowed = append(allowed, source.Name)
		}
	}
	header.Set("Access-Control-Allow-Methods", http.MethodPost)
	header.Set("Access-Control-Allow-Headers", strings.Join(allowed, ", "))
	header.Set("Access-Control-Max-Age", "600")
}
