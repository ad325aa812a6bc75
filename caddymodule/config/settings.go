package config

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A Setting is one option of a messenger, for everything that reads, writes or shows options by their names: the Caddyfile, the
// flags of "caddy messenger create", and the form of the control panel.
type Setting struct {
	Name string // of the option; an option of a block has the block's name in front
	Flag string // describes the flag
	Kept bool   // flags that replace a stored messenger keep it, unless its own flag is given

	Section  string // of the form; "" for a setting with a place of its own there
	Label    string
	Help     string // for site owners; what is in `…` is code
	Default  string // what is shown if the setting is not set
	Required string // what the form adds to "… is empty." if it must not be
	Unless   string // the member of the setting that can be set in place of one that is required; "" for none

	field func(m *Messenger) any      // a pointer to the field, or nil if its block is not there
	check func(values []string) error // what is wrong with values that are otherwise read by the field's type
}

func ofJWKS(field func(j *JWKS) any) func(m *Messenger) any {
	return func(m *Messenger) any {
		if m.JWKS == nil {
			return nil
		}
		return field(m.JWKS)
	}
}

func ofSharedToken(field func(t *SharedToken) any) func(m *Messenger) any {
	return func(m *Messenger) any {
		if m.SharedToken == nil {
			return nil
		}
		return field(m.SharedToken)
	}
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

// Read sets the setting to what the arguments of one line say. Its errors go on after the option's name.
func (s Setting) Read(m *Messenger, args []string) error {
	field := s.field(m)
	if field == nil && s.Name == "jwks discovery" { // it is enough for a key set
		m.JWKS = new(JWKS)
		field = s.field(m)
	}
	if field == nil {
		return fmt.Errorf("is an option of %s, which is not set", strings.Fields(s.Name)[0])
	}
	if err := readValue(field, args); err != nil || s.check == nil {
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

// Replace sets the setting to exactly these values, as Texts returns them, or unsets it if there are none. It writes to nothing
// that a copy of m shares.
func (s Setting) Replace(m *Messenger, values []string) error {
	field := s.field(m)
	if field != nil && s.Name != "jwks" { // its block stays
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

// Texts returns the values of the setting as people write them: all of a list, at most one of any other. It is the inverse of
// Read for the settings that the form shows.
func (s Setting) Texts(m *Messenger) []string {
	one := func(set bool, text func() string) []string {
		if !set {
			return nil
		}
		return []string{text()}
	}
	switch field := s.field(m).(type) {
	case *string:
		return one(*field != "", func() string { return *field })
	case *[]string:
		return *field
	case *caddy.Duration:
		return one(*field != 0, func() string { return DurationText(time.Duration(*field)) })
	case **caddy.Duration:
		return one(*field != nil, func() string { return DurationText(time.Duration(**field)) })
	case *Roots:
		return one(*field != "", func() string { return string(*field) })
	case *[]RequestHeader:
		return headerLines(*field)
	case *Mode:
		return []string{string(field.Or(ModeRequired))}
	case **FailLimit:
		return one(*field != nil, func() string { return (*field).String() })
	case **JWKS:
		return one(*field != nil && (*field).URL != "", func() string { return (*field).URL })
	}
	return nil
}

// Choices returns the values that the setting can have, or nil if these are not a few.
func (s Setting) Choices() []Choice {
	if _, ok := s.field(new(Messenger)).(*Mode); ok {
		return Modes
	}
	return nil
}

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

// lists returns the settings with several texts, by the names of their options.
func (m *Messenger) lists() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for _, s := range Settings {
			if list, ok := s.field(m).(*[]string); ok && !yield(s.Name, *list) {
				return
			}
		}
	}
}

// IsList reports whether several lines add up.
func (s Setting) IsList() bool {
	switch s.field(&Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}).(type) {
	case *[]string, *[]PublicKey, *[]RequestHeader:
		return true
	}
	return false
}

// HasSecrets reports whether values of the setting are secrets, so that what was typed is not shown again.
func (s Setting) HasSecrets() bool {
	_, ok := s.field(&Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}).(*[]RequestHeader)
	return ok
}

// IsText reports whether the one value of the setting has lines.
func (s Setting) IsText() bool {
	_, ok := s.field(&Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}).(*Roots)
	return ok
}

// readValue reads the arguments of an option into a field of any of the types that options have.
func readValue(field any, args []string) (err error) {
	switch field := field.(type) {
	case *string:
		*field, err = oneValue(args)
	case *Roots:
		var text string
		text, err = oneValue(args)
		*field = Roots(text)
	case *[]RequestHeader:
		var header RequestHeader
		if header, err = readHeader(args); err == nil {
			*field = append(*field, header)
		}
	case *[]string:
		if len(args) == 0 {
			return errors.New("takes at least one value")
		}
		*field = append(*field, args...)
	case *caddy.Duration:
		*field, err = readDuration(args)
	case **caddy.Duration:
		*field = new(caddy.Duration)
		**field, err = readDuration(args)
	case **int:
		*field, err = readNumber(args)
	case *Mode:
		*field, err = readMode(args)
	case **FailLimit:
		*field, err = readFailLimit(args)
	case **Previous:
		return errors.New("is a block; give it in a Caddyfile, in JSON, or with --keep-previous")
	case **JWKS:
		next := new(JWKS) // not *field, which copies share
		if *field != nil {
			*next = **field
		}
		next.URL, err = oneValue(args)
		*field = next
	case **SharedToken:
		*field, err = readSharedToken(args)
	case *[]PublicKey:
		var key PublicKey
		if key, err = readPublicKey(args); err == nil {
			*field = append(*field, key)
		}
	default:
		panic(fmt.Sprintf("an option of type %T", field))
	}
	return err
}

func oneValue(args []string) (string, error) {
	if len(args) != 1 || args[0] == "" {
		return "", errors.New("takes exactly one value")
	}
	return args[0], nil
}

func readDuration(args []string) (caddy.Duration, error) {
	if len(args) != 1 {
		return 0, errors.New("takes one duration, such as 90s, 15m or 1h")
	}
	duration, err := caddy.ParseDuration(args[0])
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write one such as 90s, 15m or 1h", args[0])
	}
	return caddy.Duration(duration), nil
}

func readNumber(args []string) (*int, error) {
	if len(args) != 1 {
		return nil, errors.New("takes one number")
	}
	number, err := strconv.Atoi(args[0])
	if err != nil || number < 0 {
		return nil, fmt.Errorf("%q is not a number of 0 or more", args[0])
	}
	return &number, nil
}

func readMode(args []string) (Mode, error) {
	value, err := oneValue(args)
	if err != nil {
		return "", err
	}
	if err := Mode(value).Check(); err != nil {
		return "", fmt.Errorf("%q %w", value, err)
	}
	return Mode(value), nil
}

func readPublicKey(args []string) (PublicKey, error) {
	wrong := errors.New("takes one key, and optionally its kid and its algorithm: public_key {file./path/to/key.pem} [kid <id>] [alg <name>]")
	if len(args)%2 == 0 {
		return PublicKey{}, wrong
	}
	k := PublicKey{Key: args[0]}
	for rest := args[1:]; len(rest) > 0; rest = rest[2:] {
		field := map[string]*string{"kid": &k.KeyID, "alg": &k.Alg}[rest[0]]
		if field == nil || *field != "" || rest[1] == "" {
			return PublicKey{}, wrong
		}
		*field = rest[1]
	}
	if hasPlaceholder(k.Alg) {
		return k, nil // it is checked when that is resolved
	}
	if _, ok := ParseReference(k.Key); ok {
		_, err := readAlgorithm(k.Alg, sigkey.Asymmetric, sigkey.RS256)
		return k, err
	}
	_, err := k.Parse([]byte(k.Key))
	return k, err
}

// readSharedToken never quotes an argument: it may be the secret.
func readSharedToken(args []string) (*SharedToken, error) {
	if len(args) == 0 {
		return new(SharedToken), nil
	}
	if len(args) > 2 {
		return nil, errors.New("takes no value, for a token that the gateway generates, or a placeholder and optionally an encoding: shared_token {env.NAME}|{file./path} [raw|base64|base64url|hex]")
	}
	if _, ok := ParseReference(args[0]); !ok {
		return nil, errLiteral
	}
	s := &SharedToken{Token: args[0]}
	if len(args) == 2 {
		s.Encoding = sharedtoken.Encoding(args[1])
		if !s.Encoding.Known() {
			return nil, errors.New("has an encoding that is none of raw, base64, base64url, hex")
		}
	}
	return s, nil
}

func checkOrigins(values []string) error {
	for _, entry := range values {
		if _, err := ParseOrigin(entry); err != nil {
			return fmt.Errorf("%q %w", entry, err)
		}
	}
	return nil
}

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
