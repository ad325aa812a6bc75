package panel

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// settingsForm holds the fields as they were written, right or wrong: what an operator typed is never lost.
type settingsForm struct {
	Name        string
	Revision    string
	IdentityKey string
	Method      string
	Keys        []config.PublicKey
	URL         string
	Refresh     string
	Stale       string
	Timeout     string
	Issuer      string
	Audience    string
	Required    string
	Origins     string
	ClockSkew   string
	MaxLifetime string
	Mode        string
	Confirmed   string            // what was confirmed, see confirmation
	Wrong       map[string]string // what is wrong, by field
}

// A fieldError is something that is wrong with a field of a form.
type fieldError struct {
	Field string // the id of the element
	Text  string
}

// newForm returns the form of a messenger that does not exist yet, with the settings that are worth having.
func newForm() *settingsForm {
	return &settingsForm{IdentityKey: "identity", Method: "shared_token", Required: "exp", Mode: string(config.ModeRequired)}
}

// formOf returns the form with the settings of m, as a browser would send it back: its values have no spaces at their ends.
func formOf(name, revision string, m *config.Messenger) *settingsForm {
	f := &settingsForm{
		Name: name, Revision: revision, IdentityKey: shownLine(m.IdentityKey), Method: m.Method(),
		Issuer: shownLines(m.Issuer), Audience: shownLines(m.Audience), Required: shownLines(m.RequireClaims), Origins: shownLines(m.AllowedOrigin),
		ClockSkew: durationText(m.ClockSkew), Mode: string(m.Mode.Or(config.ModeRequired)),
	}
	for _, key := range m.PublicKey {
		f.Keys = append(f.Keys, shownKey(key))
	}
	if m.MaxLifetime != 0 {
		f.MaxLifetime = durationText(&m.MaxLifetime)
	}
	if j := m.JWKS; j != nil {
		f.URL, f.Refresh, f.Stale, f.Timeout = shownLine(j.URL), durationText(j.RefreshInterval), durationText(j.StaleIfError), durationText(j.Timeout)
	}
	return f
}

func durationText(d *caddy.Duration) string {
	if d == nil {
		return ""
	}
	return shortDuration(time.Duration(*d))
}

// settingsFrom returns the form as it was sent.
func settingsFrom(sent form) *settingsForm {
	f := &settingsForm{
		Name: sent.get("name"), Revision: sent.get("revision"), IdentityKey: sent.get("identity_key"), Method: sent.get("method"),
		URL: sent.get("url"), Refresh: sent.get("refresh_interval"), Stale: sent.get("stale_if_error"), Timeout: sent.get("timeout"),
		Issuer: sent.list("issuer"), Audience: sent.list("audience"), Required: sent.list("require_claims"), Origins: sent.list("allowed_origin"),
		ClockSkew: sent.get("clock_skew"), MaxLifetime: sent.get("max_lifetime"), Mode: sent.get("mode"), Confirmed: sent.get("confirm"),
	}
	kids := url.Values(sent)["kid"]
	for i, text := range url.Values(sent)["key"] {
		key := config.PublicKey{Key: normalLines(text)}
		if i < len(kids) {
			key.KeyID = strings.TrimSpace(kids[i])
		}
		if key != (config.PublicKey{}) && len(f.Keys) < config.MaxPublicKeys+1 { // one too many, so that it is said
			f.Keys = append(f.Keys, key)
		}
	}
	return f
}

func (f form) list(field string) string { return strings.Join(lines(url.Values(f).Get(field)), "\n") }

// normalLines ends lines as files do; browsers send CR LF.
func normalLines(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
}

// Slots are the places for public keys: those that there are, and an empty one.
func (f *settingsForm) Slots() []config.PublicKey {
	if len(f.Keys) >= config.MaxPublicKeys {
		return f.Keys
	}
	return append(slices.Clip(f.Keys), config.PublicKey{})
}

// refuse notes what is wrong with the form, for the summary on top of its page and for the fields.
func (f *settingsForm) refuse(page *settingsView, wrong []fieldError) {
	slices.SortStableFunc(wrong, func(a, b fieldError) int { return fieldPlace(a.Field) - fieldPlace(b.Field) })
	page.Errors, f.Wrong = wrong, make(map[string]string)
	for _, e := range wrong {
		f.Wrong[e.Field] = e.Text
	}
}

// checkKeys looks at each key by itself, to name its field. A private key that was pasted by mistake is not sent back.
func (f *settingsForm) checkKeys() (wrong []fieldError) {
	if len(f.Keys) == 0 {
		return []fieldError{{"key-0", "Public key is empty. Paste the public half of the key with which your site signs."}}
	}
	if len(f.Keys) > config.MaxPublicKeys {
		f.Keys = f.Keys[:config.MaxPublicKeys]
		return []fieldError{{"key-0", fmt.Sprintf("There are more than %d public keys.", config.MaxPublicKeys)}}
	}
	for i, k := range f.Keys {
		field := fmt.Sprintf("key-%d", i)
		if _, ok := config.ParseReference(k.Key); ok {
			continue // it is refused as a whole
		}
		key, err := authn.ParsePublicKey([]byte(k.Key), k.KeyID)
		if err == nil {
			err = key.CheckSmall()
		}
		if err == nil && printable.Line(k.KeyID) == k.KeyID {
			continue
		}
		if err == nil {
			wrong = append(wrong, fieldError{field, fmt.Sprintf("Key ID of public key %d %s", i+1, hidden(k.KeyID))})
			continue
		}
		text := fmt.Sprintf("Public key %d %s.", i+1, strings.TrimSuffix(err.Error(), "."))
		if strings.Contains(k.Key, "PRIVATE KEY") || strings.Contains(k.Key, `"d"`) {
			f.Keys[i].Key = ""
			text += " It was not stored, and it is not shown again here."
		}
		wrong = append(wrong, fieldError{field, text})
	}
	return wrong
}

// formFields are the fields of the form, in the order of the page.
var formFields = []struct {
	field  string // the id of the element, or what it begins with
	option string // with which the error texts about it begin
	label  string
	text   func(f *settingsForm) string // what it says, to compare two forms
}{
	{"name", "the name", "Name", nil},
	{"identity_key", "identity_key", "Identity key", func(f *settingsForm) string { return f.IdentityKey }},
	{"method", "", "Validation method", func(f *settingsForm) string { return methodNames[f.Method] }},
	{"key-0", "public_key", "Public key", (*settingsForm).keysText},
	{"url", "jwks", "URL of the key set", func(f *settingsForm) string { return f.URL }},
	{"refresh_interval", "jwks refresh_interval", "Refresh interval", func(f *settingsForm) string { return f.Refresh }},
	{"stale_if_error", "jwks stale_if_error", "Use without the key server", func(f *settingsForm) string { return f.Stale }},
	{"timeout", "jwks timeout", "Time for one fetch", func(f *settingsForm) string { return f.Timeout }},
	{"audience", "audience", "Audience", func(f *settingsForm) string { return f.Audience }},
	{"issuer", "issuer", "Issuer", func(f *settingsForm) string { return f.Issuer }},
	{"require_claims", "require_claims", "Required claims", func(f *settingsForm) string { return f.Required }},
	{"max_lifetime", "max_lifetime", "Longest lifetime", func(f *settingsForm) string { return f.MaxLifetime }},
	{"clock_skew", "clock_skew", "Clock skew", func(f *settingsForm) string { return f.ClockSkew }},
	{"allowed_origin", "allowed_origin", "Allowed origins", func(f *settingsForm) string { return f.Origins }},
	{"mode", "mode", "Mode", func(f *settingsForm) string { return modeNames[config.Mode(f.Mode)] }},
	{"confirm", "", "", nil},
}

func (f *settingsForm) keysText() string {
	var list []string
	for _, k := range f.Keys {
		list = append(list, strings.TrimSpace(k.KeyID+"\n"+k.Key))
	}
	return strings.Join(list, "\n")
}

// fieldErrorOf returns what the store says against a form's settings, for the field that it is about.
func fieldErrorOf(err caddy.APIError) fieldError {
	text := err.Err.Error()
	for _, f := range slices.Backward(formFields) { // the options of a block before the block
		if rest, ok := strings.CutPrefix(text, f.option+" "); ok && f.option != "" {
			return fieldError{f.field, sentence(f.label + " " + rest)}
		}
	}
	return fieldError{"name", sentence(text)}
}

// isFormError reports whether err is about what the form says, and can be mended there.
func isFormError(err error) (caddy.APIError, bool) {
	var answer caddy.APIError
	ok := errors.As(err, &answer)
	return answer, ok && (answer.HTTPStatus == 400 || answer.HTTPStatus == 409)
}

// fieldPlace orders fields as the page has them.
func fieldPlace(field string) int {
	for i, f := range formFields {
		if strings.HasPrefix(field, strings.TrimSuffix(f.field, "-0")) {
			return i
		}
	}
	return -1
}

// A difference is one setting that two people want differently.
type difference struct {
	Label, Yours, Stored string
}

// differences compares what was sent with what is stored.
func (f *settingsForm) differences(stored *settingsForm) []difference {
	var list []difference
	for _, field := range formFields {
		if field.text == nil {
			continue
		}
		if d := (difference{field.label, field.text(f), field.text(stored)}); d.Yours != d.Stored {
			list = append(list, d)
		}
	}
	return list
}
