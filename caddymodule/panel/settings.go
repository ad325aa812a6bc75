package panel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// From a form that was sent to the settings that are stored. They begin as what is stored, and a field changes its setting
// only if it says something else than the page did: what the form does not show, or cannot show exactly, stays as it is.

// shownLine is how a value is shown in a field of one line, and comes back from it.
func shownLine(value string) string { return strings.TrimSpace(printable.Line(value)) }

func shownLines(values []string) string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = shownLine(value)
	}
	return strings.Join(list, "\n")
}

func shownKey(key config.PublicKey) config.PublicKey {
	return config.PublicKey{Key: printable.Text(normalLines(key.Key)), KeyID: shownLine(key.KeyID)}
}

// A formReader turns a form into settings, and notes what is wrong with it.
type formReader struct {
	wrong []fieldError
}

func (r *formReader) refuse(field, text string) { r.wrong = append(r.wrong, fieldError{field, text}) }

// settings returns what the form makes of the stored settings, or what is wrong with it. stored is nil for a messenger
// that does not exist yet.
func (f *settingsForm) settings(stored *config.Messenger) (*config.Messenger, []fieldError) {
	shown, m := new(settingsForm), new(config.Messenger)
	if stored != nil {
		shown, m = formOf(f.Name, f.Revision, stored), stored.CopySettings()
	}
	r := new(formReader)
	m.IdentityKey = r.line("identity_key", "Identity key", f.IdentityKey, shown.IdentityKey, m.IdentityKey)
	if f.IdentityKey == "" {
		r.refuse("identity_key", "Identity key is empty. It is the name of the claim that holds the contact identity, such as sub.")
	}
	m.Issuer = r.list("issuer", "Issuer", f.Issuer, m.Issuer)
	m.Audience = r.list("audience", "Audience", f.Audience, m.Audience)
	m.RequireClaims = r.list("require_claims", "Required claims", f.Required, m.RequireClaims)
	m.AllowedOrigin = r.list("allowed_origin", "Allowed origins", f.Origins, m.AllowedOrigin)
	m.ClockSkew = r.duration("clock_skew", "Clock skew", f.ClockSkew, shown.ClockSkew, m.ClockSkew)
	if f.MaxLifetime != shown.MaxLifetime {
		m.MaxLifetime = 0
		if d := r.duration("max_lifetime", "Longest lifetime", f.MaxLifetime, shown.MaxLifetime, nil); d != nil {
			m.MaxLifetime = *d
		}
	}
	if f.Mode != shown.Mode {
		m.Mode = config.Mode(f.Mode)
		if m.Mode == config.ModeRequired {
			m.Mode = "" // the default
		}
	}
	f.method(r, shown, m)
	return m, r.wrong
}

// method sets the validation method of m, and takes the others away.
func (f *settingsForm) method(r *formReader, shown *settingsForm, m *config.Messenger) {
	former := m.CopySettings()
	m.PublicKey, m.JWKS, m.SharedToken = nil, nil, nil
	switch f.Method {
	case "shared_token":
		if m.SharedToken = former.SharedToken; m.SharedToken == nil {
			m.SharedToken = new(config.SharedToken)
		}
	case "public_key":
		m.PublicKey = f.keysOver(former.PublicKey)
		if !slices.Equal(m.PublicKey, former.PublicKey) || len(m.PublicKey) == 0 {
			r.wrong = append(r.wrong, f.checkKeys()...)
		}
	case "jwks":
		m.JWKS = new(config.JWKS)
		if former.JWKS != nil {
			*m.JWKS = *former.JWKS
		}
		m.JWKS.URL = r.line("url", "URL of the key set", f.URL, shown.URL, m.JWKS.URL)
		m.JWKS.RefreshInterval = r.duration("refresh_interval", "Refresh interval", f.Refresh, shown.Refresh, m.JWKS.RefreshInterval)
		m.JWKS.StaleIfError = r.duration("stale_if_error", "Use without the key server", f.Stale, shown.Stale, m.JWKS.StaleIfError)
		m.JWKS.Timeout = r.duration("timeout", "Time for one fetch", f.Timeout, shown.Timeout, m.JWKS.Timeout)
		if f.URL == "" {
			r.refuse("url", "URL of the key set is empty. Write the URL at which your site publishes its public keys.")
		}
	default:
		r.refuse("method-shared_token", "Choose a validation method.")
	}
}

// keysOver returns the keys of the form. A key that is stored stays as it is stored, byte for byte.
func (f *settingsForm) keysOver(stored []config.PublicKey) []config.PublicKey {
	taken := make([]bool, len(stored))
	keys := slices.Clone(f.Keys)
	for i, key := range keys {
		// Of equal keys, the one with the same key ID.
		for _, same := range []func(config.PublicKey) bool{
			func(s config.PublicKey) bool { return shownKey(s) == key },
			func(s config.PublicKey) bool { return shownKey(s).Key == key.Key },
		} {
			at := -1
			for j := range stored {
				if at < 0 && !taken[j] && same(stored[j]) {
					at = j
				}
			}
			if at < 0 {
				continue
			}
			taken[at] = true
			keys[i] = stored[at]
			if shownKey(stored[at]).KeyID != key.KeyID {
				keys[i].KeyID = key.KeyID
			}
			break
		}
	}
	return keys
}

// line returns what a field of one line says, and the stored value if the field is as it was shown.
func (r *formReader) line(field, label, sent, shown, stored string) string {
	if sent == shown {
		return stored
	}
	if printable.Line(sent) != sent {
		r.refuse(field, label+" "+hidden(sent))
	}
	return sent
}

// list returns what a field with one value a line says. A value that is stored stays as it is stored.
func (r *formReader) list(field, label, sent string, stored []string) []string {
	values := lines(sent)
	if slices.Equal(values, lines(shownLines(stored))) {
		return stored
	}
	for i, value := range values {
		if at := slices.IndexFunc(stored, func(s string) bool { return shownLine(s) == value }); at >= 0 {
			values[i] = stored[at]
		} else if printable.Line(value) != value {
			r.refuse(field, label+" "+hidden(value))
		}
	}
	return values
}

func (r *formReader) duration(field, label, sent, shown string, stored *caddy.Duration) *caddy.Duration {
	switch sent {
	case shown:
		return stored
	case "":
		return nil
	}
	d, err := caddy.ParseDuration(sent)
	if err != nil {
		r.refuse(field, label+" is not a duration. Write one such as 90s, 15m or 1h.")
		return nil
	}
	return new(caddy.Duration(d))
}

// hidden says which character of text has no visible form. A value with one looks like another value.
func hidden(text string) string {
	for _, c := range text {
		if !printable.IsPrintable(c) {
			return fmt.Sprintf("has a character that cannot be seen, %s. Write it without.", printable.Line(string(c)))
		}
	}
	return "is not UTF-8."
}
