package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A Setting is one option of a messenger, for everything that reads, writes or shows options by their names: the Caddyfile, the
// flags of "caddy messenger create", and the form of the control panel.
type Setting struct {
	Name string // of the option; an option of a block has the block's name in front
	Flag string // describes the flag
	Kept bool   // create --replace keeps the stored value, unless the flag of the setting is given

	Section  string // of the form; "" for a setting with a place of its own there
	Label    string
	Help     string // for site owners; text in `…` is code
	Default  string // what is shown if the setting is not set
	Required string // what the form adds to "… is empty." for a setting that must not be empty
	Unless   string // the member of the setting that can be set in place of one that is required; "" for none

	field  func(m *Messenger) any                                   // a pointer to the field, or nil if its block is not there
	check  func(values []string) error                              // what is wrong with values that are otherwise read by the field's type
	loss   func(s Setting, old, next *Messenger, all string) string // what a change makes invalid; see Loss
	noLoss string                                                   // why the setting has no loss, if loss is nil
}

func ofJWKS(field func(j *JWKS) any) func(m *Messenger) any {
	return func(m *Messenger) any {
		if m.JWKS == nil {
			return nil
		}
		return field(m.JWKS)
	}
}

func sharedTokenAlg(m *Messenger) any {
	if m.SharedToken == nil {
		return nil
	}
	return &m.SharedToken.Alg
}

// Member returns the name of the setting in JSON, in its block if it has one. In the form all blocks are side by side, and so are
// the algorithms of public keys, which are called alg.
func (s Setting) Member() string {
	switch s.Name {
	case "jwks":
		return "url" // the argument of the block
	case "shared_token alg":
		return "shared_alg"
	}
	return s.Name[strings.LastIndexByte(s.Name, ' ')+1:]
}

// Read sets the setting to the arguments of one line. Its errors continue the option's name.
func (s Setting) Read(m *Messenger, args []string) error {
	field := s.field(m)
	if field == nil && s.Name == "jwks discovery" { // discovery makes a key set without a URL
		m.JWKS = new(JWKS)
		field = s.field(m)
	}
	if field == nil {
		return fmt.Errorf("is an option of %s, which is not set", strings.Fields(s.Name)[0])
	}
	if field == &m.RequireClaims || field == &m.ContactClaims {
		for _, name := range args {
			if strings.Contains(name, ",") { // only in claim names: an issuer or an audience may have a comma
				return commaError(name)
			}
		}
	}
	if err := typeOf(field).read(args); err != nil || s.check == nil {
		return err
	}
	return s.check(slices.DeleteFunc(slices.Clone(args), hasPlaceholder))
}

// CopyFrom sets the setting to that of former, if both messengers have a place for it.
func (s Setting) CopyFrom(m, former *Messenger) {
	if to, from := s.field(m), s.field(former); to != nil && from != nil {
		reflect.ValueOf(to).Elem().Set(reflect.ValueOf(from).Elem())
	}
}

// Replace sets the setting to exactly these values, as Texts returns them, or unsets it if there are none. It does not change
// memory that a copy of m shares.
func (s Setting) Replace(m *Messenger, values []string) error {
	field := s.field(m)
	if field != nil && s.Name != "jwks" { // the other options of its block stay
		reflect.ValueOf(field).Elem().SetZero()
	}
	if len(values) == 0 {
		if s.Name == "jwks" && m.JWKS != nil {
			next := *m.JWKS
			next.URL, m.JWKS = "", &next
		}
		return nil
	}
	if _, ok := field.(*[]RequestHeader); ok {
		for _, line := range values {
			header, err := ParseHeaderLine(line)
			if err != nil {
				return err
			}
			m.JWKS.Header = append(m.JWKS.Header, header)
		}
		return nil
	}
	return s.Read(m, values)
}

// Texts returns the values of the setting as people write them: all values of a list, and at most one value of any other setting. It
// is the inverse of Read for the settings that the form shows.
func (s Setting) Texts(m *Messenger) []string {
	if texts := typeOf(s.field(m)).texts; texts != nil {
		return texts()
	}
	return nil
}

// Choices returns the values that the setting can have, or nil if it does not have a fixed list of them.
func (s Setting) Choices() []Choice { return typeOf(s.kind()).choices }

// DurationText writes a duration as people do: 1h, and not 1h0m0s.
func DurationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// kind returns a pointer of the type that the setting's field has.
func (s Setting) kind() any {
	return s.field(&Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)})
}

// IsList reports whether the setting has several values, which several lines add up to.
func (s Setting) IsList() bool { return typeOf(s.kind()).isList }

// HasSecrets reports whether values of the setting are secrets, so that the form does not show typed values again.
func (s Setting) HasSecrets() bool { return typeOf(s.kind()).isSecret }

// IsText reports whether the setting has one value of several lines.
func (s Setting) IsText() bool { return typeOf(s.kind()).isText }

// options are the parsers of the options of m, or of a block inside it, and the names of those that may be repeated.
func (m *Messenger) options(block string) (parsers map[string]OptionParser, repeatable []string) {
	parsers = make(map[string]OptionParser)
	for _, s := range Settings {
		name, inside := strings.CutPrefix(s.Name, block)
		if !inside || strings.Contains(name, " ") {
			continue
		}
		parsers[name] = lineOption(func(args []string) error { return s.Read(m, args) })
		if s.IsList() {
			repeatable = append(repeatable, name)
		}
	}
	return parsers, repeatable
}
