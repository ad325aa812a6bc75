package panel

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// settingsForm has the fields as they were written, right or wrong: nothing that an operator typed is lost. Its fields are the
// rows of [config.Settings] that have a section; the name, the method and the public keys have fields of their own.
type settingsForm struct {
	Name      string
	Revision  string
	Method    string
	Keys      []config.PublicKey
	Texts     map[string]string // by the setting's member in JSON, which is the name of its field; a line for each value
	Confirmed string            // what was confirmed, see confirmation
	Keep      string            // how long the method that is replaced stays in use; one of overlaps, or ""
	Wrong     fieldErrors
}

// A formField is the field of one setting.
type formField struct {
	config.Setting
	Text, Wrong string
}

// Fields returns the fields of a section in the order of the page.
func (f *settingsForm) Fields(section string) (fields []formField) {
	for _, s := range config.Settings {
		if s.Section == section {
			fields = append(fields, formField{s, f.shown(s), f.Wrong.Of(s.Member())})
		}
	}
	return fields
}

// shown returns the text of a field as a page shows it, without secrets that were typed into it: they would stay on the page, and in
// what saves pages.
func (f *settingsForm) shown(s config.Setting) string {
	text := f.Texts[s.Member()]
	switch {
	case s.HasSecrets():
		list := lines(text)
		for i, line := range list {
			list[i] = config.WithoutValue(line)
		}
		return strings.Join(list, "\n")
	case s.IsText() && strings.Contains(text, "PRIVATE KEY"):
		return ""
	}
	return text
}

// Changed reports whether a setting of a section is not the default, or is wrong.
func (f *settingsForm) Changed(section string) bool {
	return slices.ContainsFunc(f.Fields(section), func(field formField) bool { return field.Text != "" || field.Wrong != "" })
}

// moreSections are the sections of the form that are folded: their settings have defaults that are safe.
var moreSections = []string{config.SectionClaims, config.SectionIdentity, config.SectionUse}

// MoreWrong reports whether something is wrong in the folded part of the form.
func (f *settingsForm) MoreWrong() bool {
	return slices.ContainsFunc(moreSections, func(section string) bool {
		return slices.ContainsFunc(f.Fields(section), func(field formField) bool { return field.Wrong != "" })
	})
}

// MoreSet are the labels of the settings in the folded part of the form that are not the default.
func (f *settingsForm) MoreSet() (labels []string) {
	for _, section := range moreSections {
		for _, field := range f.Fields(section) {
			if values := field.Values(); len(values) > 0 && field.Text != string(config.ModeRequired) {
				labels = append(labels, field.Label)
			}
		}
	}
	return labels
}

// IsNew reports whether the form is for a new messenger, and its folded part is as we recommend it.
func (f *settingsForm) IsNew() bool {
	return f.Revision == "" && slices.Equal(f.MoreSet(), newForm().MoreSet())
}

// Values returns the values that a field shows, for a page on which they cannot be changed.
func (f formField) Values() (values []string) {
	for _, value := range valuesOf(f.Setting, f.Text) {
		for _, choice := range f.Choices() {
			if choice.Value == value {
				value = choice.Label
			}
		}
		values = append(values, value)
	}
	return values
}

// newForm returns the form of a messenger that does not exist yet, with the settings that we recommend.
func newForm() *settingsForm {
	f := formOf("", "", &config.Messenger{IdentityKey: "identity", RequireClaims: []string{"exp"}})
	f.Method = config.MethodPublicKey // the one with the highest security
	return f
}

// formOf returns the form with the settings of m, as a browser would send it back: its values have no spaces at their ends.
func formOf(name, revision string, m *config.Messenger) *settingsForm {
	f := &settingsForm{Name: name, Revision: revision, Method: m.Method(), Texts: make(map[string]string)}
	for _, s := range config.Settings {
		if s.Section != "" {
			f.Texts[s.Member()] = shownValues(s, s.Texts(m))
		}
	}
	for _, key := range m.PublicKey {
		f.Keys = append(f.Keys, shownKey(key))
	}
	return f
}

// settingsFrom returns the form as it was sent.
func settingsFrom(sent form) *settingsForm {
	f := &settingsForm{Name: sent.get("name"), Revision: sent.get("revision"), Method: sent.get("method"), Confirmed: sent.get("confirm"), Keep: sent.get("keep_previous"), Texts: make(map[string]string)}
	for _, s := range config.Settings {
		if _, there := sent[s.Member()]; there && s.Section != "" {
			f.Texts[s.Member()] = strings.Join(valuesOf(s, sent.get(s.Member())), "\n")
		}
	}
	kids, algorithms := url.Values(sent)["kid"], url.Values(sent)["alg"]
	for i, text := range url.Values(sent)["key"] {
		key := config.PublicKey{Key: normalLines(text)}
		if i < len(kids) {
			key.KeyID = strings.TrimSpace(kids[i])
		}
		if i < len(algorithms) {
			key.Alg = strings.TrimSpace(algorithms[i])
		}
		if key != (config.PublicKey{}) && len(f.Keys) < config.MaxPublicKeys+1 { // one more, so that checkKeys reports it
			f.Keys = append(f.Keys, key)
		}
	}
	return f
}

// complete adds the fields that were not sent, as they are stored: the page may be from a version of the gateway without these settings.
func (f *settingsForm) complete(stored *config.Messenger) {
	for member, text := range formOf("", "", stored).Texts {
		if _, sent := f.Texts[member]; !sent {
			f.Texts[member] = text
		}
	}
}

// keeps are the choices of how long the method that is replaced stays in use.
func (f *settingsForm) keeps() []overlap {
	list := []overlap{{Label: textKeepNone, Chosen: true}}
	for _, o := range overlaps {
		o.Chosen = o.Value == f.Keep
		list = append(list, o)
	}
	return list
}

// keepPrevious keeps the method of old in use together with that of next, if the form says so.
func (f *settingsForm) keepPrevious(old, next *config.Messenger) {
	i := slices.IndexFunc(overlaps, func(o overlap) bool { return o.Value == f.Keep })
	if i >= 0 && !next.SameMethod(old) {
		next.Previous = old.AsPrevious(registry.Now().Add(overlaps[i].duration))
	}
}

// normalLines ends lines as files do; browsers send CR LF.
func normalLines(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
}

// Slots are the fields for public keys: one for each key, and an empty one.
func (f *settingsForm) Slots() []config.PublicKey {
	if len(f.Keys) >= config.MaxPublicKeys {
		return f.Keys
	}
	return append(slices.Clip(f.Keys), config.PublicKey{})
}

// ManyKeys reports whether there are so many public keys that the form folds them.
func (f *settingsForm) ManyKeys() bool { return len(f.Keys) > manyKeys }

// checkKeys checks each key by itself, to name its field. A private key that was pasted by mistake is not sent back.
func (f *settingsForm) checkKeys() (wrong []fieldError) {
	if len(f.Keys) == 0 {
		return []fieldError{{"key-0", textNoKey}}
	}
	if len(f.Keys) > config.MaxPublicKeys {
		f.Keys = f.Keys[:config.MaxPublicKeys]
		return []fieldError{{"key-0", fmt.Sprintf(textManyKeys, config.MaxPublicKeys)}}
	}
	for i, k := range f.Keys {
		field, number := fmt.Sprintf("key-%d", i), ""
		if len(f.Keys) > 1 {
			number = fmt.Sprintf(" %d", i+1)
		}
		if _, ok := config.ParseReference(k.Key); ok {
			continue // it is refused as a whole
		}
		key, err := k.Parse([]byte(k.Key))
		if err == nil {
			err = key.CheckSmall()
		}
		if err == nil && printable.Line(k.KeyID) == k.KeyID {
			continue
		}
		if err == nil {
			wrong = append(wrong, fieldError{field, textKeyIDOf + number + " " + hidden(k.KeyID)})
			continue
		}
		text := cause.Sentence(textPublicKey + number + " " + err.Error())
		if sigkey.IsSecret(err) || strings.Contains(k.Key, "PRIVATE KEY") || strings.Contains(k.Key, `"d"`) {
			f.Keys[i].Key = ""
			text += textPrivateKey
		}
		wrong = append(wrong, fieldError{field, text})
	}
	return wrong
}

// A labelled is a field of the form with what errors and comparisons need.
type labelled struct {
	field  string // the id of the element, or what it begins with
	option string // with which the error texts about it begin
	label  string
	text   func(f *settingsForm) string // its content, to compare two forms; nil if it is not compared
}

// formFields are all fields of the form in the order of the page.
var formFields = sync.OnceValue(func() []labelled {
	fields := []labelled{{"name", "the name", textName, nil}}
	add := func(section string) {
		for _, s := range config.Settings {
			if s.Section != section {
				continue
			}
			fields = append(fields, labelled{s.Member(), s.Name, s.Label, func(f *settingsForm) string {
				return strings.Join(formField{Setting: s, Text: f.shown(s)}.Values(), "\n")
			}})
		}
	}
	add(config.SectionContacts)
	fields = append(fields,
		labelled{"method", "", textMethod, func(f *settingsForm) string { return config.MethodLabel(f.Method) }},
		labelled{"key-0", "public_key", textPublicKey, (*settingsForm).keysText})
	add(config.SectionShared)
	add(config.SectionJWKS)
	add(config.SectionFetch)
	for _, section := range moreSections {
		add(section)
	}
	return append(fields, labelled{"confirm", "", "", nil})
})

func (f *settingsForm) keysText() string {
	var list []string
	for _, k := range f.Keys {
		list = append(list, strings.TrimSpace(strings.TrimSpace(k.KeyID+" "+k.Alg)+"\n"+k.Key))
	}
	return strings.Join(list, "\n")
}

// A difference is one setting for which two people sent different values.
type difference struct {
	Label, Yours, Stored string
}

// differences compares what was sent with what is stored.
func (f *settingsForm) differences(stored *settingsForm) []difference {
	var list []difference
	for _, field := range formFields() {
		if field.text == nil {
			continue
		}
		if d := (difference{field.label, field.text(f), field.text(stored)}); d.Yours != d.Stored {
			list = append(list, d)
		}
	}
	return list
}
