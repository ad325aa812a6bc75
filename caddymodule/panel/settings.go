package panel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// This file turns a submitted form into settings. The result begins as a copy of the stored settings. A field changes its setting
// only if its content differs from what the page showed, so a setting that the form cannot show exactly stays as it is.

// shownLine returns a value as a field of one line shows it, and as the browser sends it back.
func shownLine(value string) string { return strings.TrimSpace(printable.Line(value)) }

// shownValues returns the values of a setting as its field shows them.
func shownValues(s config.Setting, values []string) string {
	if s.IsText() {
		return printable.Text(normalLines(strings.Join(values, "\n")))
	}
	var list []string
	for _, value := range values {
		list = append(list, shownLine(value))
	}
	return strings.Join(list, "\n")
}

// valuesOf returns the values that are in the field of a setting: one on each line, or one with lines.
func valuesOf(s config.Setting, text string) []string {
	if !s.IsText() {
		return lines(text)
	}
	if text = normalLines(text); text != "" {
		return []string{text}
	}
	return nil
}

func shownKey(key config.PublicKey) config.PublicKey {
	return config.PublicKey{Key: printable.Text(normalLines(key.Key)), KeyID: shownLine(key.KeyID), Alg: shownLine(key.Alg)}
}

// A formReader turns a form into settings, and collects what is wrong with it.
type formReader struct {
	wrong []fieldError
}

func (r *formReader) refuse(field, text string) { r.wrong = append(r.wrong, fieldError{field, text}) }

// settings returns what the form makes of the stored settings, or what is wrong with it. stored is nil for a messenger
// that does not exist yet.
func (f *settingsForm) settings(stored *config.Messenger) (*config.Messenger, []fieldError) {
	if stored == nil {
		stored = new(config.Messenger)
	}
	r, m := new(formReader), stored.CopySettings()
	f.method(r, m)
	for _, s := range config.Settings {
		if s.Section == "" || m.JWKS == nil && (s.Section == config.SectionJWKS || s.Section == config.SectionFetch) || m.SharedToken == nil && s.Section == config.SectionShared {
			continue
		}
		if s.Unless != "" && len(lines(f.Texts[s.Unless])) > 0 {
			s.Required = ""
		}
		r.read(s, m, f.Texts[s.Member()])
	}
	if m.Previous != nil && m.Previous.Settings().SameMethod(m) {
		m.Previous = nil // the form makes the previous method the current one again
	}
	return m, r.wrong
}

// method sets the validation method of m, and removes the others.
func (f *settingsForm) method(r *formReader, m *config.Messenger) {
	former := *m
	m.PublicKey, m.JWKS, m.SharedToken = nil, nil, nil
	switch f.Method {
	case config.MethodSharedToken:
		if m.SharedToken = former.SharedToken; m.SharedToken == nil {
			m.SharedToken = new(config.SharedToken)
		}
	case config.MethodPublicKey:
		m.PublicKey = f.keysOver(former.PublicKey)
		if !slices.Equal(m.PublicKey, former.PublicKey) || len(m.PublicKey) == 0 {
			r.wrong = append(r.wrong, f.checkKeys()...)
		}
	case config.MethodJWKS:
		if m.JWKS = former.JWKS; m.JWKS == nil {
			m.JWKS = new(config.JWKS)
		}
	default:
		r.refuse("method-public_key", textChooseMethod)
	}
}

// mistakes returns what is wrong with settings as a whole, in addition to the known mistakes of the form. The checks of the
// configuration end at the first mistake. So the setting with that mistake is replaced, and the rest is checked again.
func mistakes(m *config.Messenger, check func(*config.Messenger) error, known []fieldError) []fieldError {
	m = m.CopySettings()
	for _, e := range known {
		takeOut(m, e.Field)
	}
	for range len(formFields()) {
		e, ok := formError(check(m))
		if !ok || slices.ContainsFunc(known, func(k fieldError) bool { return k.Field == e.Field }) {
			return known
		}
		known = append(known, e)
		takeOut(m, e.Field)
	}
	return known
}

// takeOut replaces the setting of a field by a value that is valid together with any other settings.
func takeOut(m *config.Messenger, field string) {
	switch {
	case field == "identity_key", field == "identity_path":
		m.IdentityKey, m.IdentityPath = "sub", ""
		return
	case strings.HasPrefix(field, "method-"), strings.HasPrefix(field, "key-"), field == "url", field == "discovery", field == "algorithms":
		m.PublicKey, m.JWKS, m.SharedToken = nil, nil, new(config.SharedToken)
		return
	}
	for _, s := range config.Settings {
		if s.Member() == field && s.Section != "" {
			_ = s.Replace(m, nil) // no value is always right
		}
	}
}

// read sets a setting of m to the content of its field, with a value on each line. A field that was not edited changes nothing. In
// an edited list, values that were not edited stay as they are stored.
func (r *formReader) read(s config.Setting, m *config.Messenger, sent string) {
	stored, values := s.Texts(m), valuesOf(s, sent)
	if len(values) == 0 && s.Required != "" {
		r.refuse(s.Member(), s.Label+textEmpty+s.Required)
		return
	}
	if slices.Equal(values, valuesOf(s, shownValues(s, stored))) {
		return
	}
	for i, value := range values {
		if at := slices.IndexFunc(stored, func(text string) bool { return shownValues(s, []string{text}) == value }); at >= 0 {
			values[i] = stored[at]
		} else if printable.Line(value) != value && !(s.IsText() && printable.Text(value) == value) {
			r.refuse(s.Member(), s.Label+" "+hidden(value))
			return
		}
	}
	if slices.Equal(values, s.Texts(new(config.Messenger))) {
		values = nil // the value is the default
	}
	if err := s.Replace(m, values); err != nil {
		r.refuse(s.Member(), cause.Sentence(s.Label+" "+err.Error()))
	}
}

// keysOver returns the keys of the form. Keys that are stored already stay as they are, byte for byte.
func (f *settingsForm) keysOver(stored []config.PublicKey) []config.PublicKey {
	left, keys := slices.Clone(stored), slices.Clone(f.Keys)
	for i, key := range keys {
		// Of several stored copies of the key, take the one with the same key ID.
		at := slices.IndexFunc(left, func(s config.PublicKey) bool { return shownKey(s) == key })
		if at < 0 {
			at = slices.IndexFunc(left, func(s config.PublicKey) bool { return shownKey(s).Key == key.Key })
		}
		if at < 0 {
			continue
		}
		keys[i] = left[at]
		shown := shownKey(left[at])
		if shown.KeyID != key.KeyID {
			keys[i].KeyID = key.KeyID
		}
		if shown.Alg != key.Alg {
			keys[i].Alg = key.Alg
		}
		left = slices.Delete(left, at, at+1)
	}
	return keys
}

// hidden names the first invisible character of text. A value with one looks like another value.
func hidden(text string) string {
	for _, c := range text {
		if !printable.IsPrintable(c) {
			return fmt.Sprintf(textInvisible, printable.Line(string(c)))
		}
	}
	return textNotUTF8
}
