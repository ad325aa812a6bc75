package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// A Setting is one option of a messenger, for all that reads options by their names: the Caddyfile, and the flags of
// "caddy messenger create".
type Setting struct {
	Name string // of the option; an option of a block has the block's name in front
	Help string // for the flag
	Kept bool   // flags that replace a stored messenger keep it, unless its own flag is given

	field func(m *Messenger) any      // a pointer to the field, or nil if its block is not there
	check func(values []string) error // what is wrong with values that are otherwise read by the field's type
}

// Settings are all options of a messenger. A new one is a field of Messenger and a row here; readValue knows the types.
var Settings = []Setting{
	{Name: "identity_key", Help: "The claim that holds the contact identity", field: func(m *Messenger) any { return &m.IdentityKey }},
	{Name: "public_key", Help: "A file with an RSA public key; may be repeated", field: func(m *Messenger) any { return &m.PublicKey }},
	{Name: "jwks", Help: "The URL of a key set", field: func(m *Messenger) any { return &m.JWKS }},
	{Name: "jwks refresh_interval", Help: "How long a key set is used where its server does not say (default 10m)", Kept: true,
		field: ofJWKS(func(j *JWKS) any { return &j.RefreshInterval })},
	{Name: "jwks stale_if_error", Help: "How long the last key set serves while its server cannot be reached (default 24h)", Kept: true,
		field: ofJWKS(func(j *JWKS) any { return &j.StaleIfError })},
	{Name: "jwks timeout", Help: "How long one fetch of the key set may take (default 5s)", Kept: true,
		field: ofJWKS(func(j *JWKS) any { return &j.Timeout })},
	{Name: "shared_token", Help: "Shared tokens that the gateway generates", field: func(m *Messenger) any { return &m.SharedToken }},
	{Name: "issuer", Help: "An accepted iss; may be repeated", field: func(m *Messenger) any { return &m.Issuer }},
	{Name: "audience", Help: "An accepted aud; may be repeated", field: func(m *Messenger) any { return &m.Audience }},
	{Name: "require_claims", Help: "A claim that every token must have; may be repeated", field: func(m *Messenger) any { return &m.RequireClaims }},
	{Name: "allowed_origin", Help: "The origin of a page that holds the widget; may be repeated", check: checkOrigins,
		field: func(m *Messenger) any { return &m.AllowedOrigin }},
	{Name: "clock_skew", Help: "How far clocks may be apart (default 1m)", field: func(m *Messenger) any { return &m.ClockSkew }},
	{Name: "max_lifetime", Help: "The longest life of a token", field: func(m *Messenger) any { return &m.MaxLifetime }},
	{Name: "max_session", Help: "How long a WebSocket or an event stream may live; 0 sets no limit (default 12h)", Kept: true,
		field: func(m *Messenger) any { return &m.MaxSession }},
	{Name: "mode", Help: "required, optional, report or off (default required)", field: func(m *Messenger) any { return &m.Mode }},
	{Name: "fail_limit", Help: "How many bad tokens one client address may send, such as 20/1m (default off)", Kept: true,
		field: func(m *Messenger) any { return &m.FailLimit }},
}

func ofJWKS(field func(j *JWKS) any) func(m *Messenger) any {
	return func(m *Messenger) any {
		if m.JWKS == nil {
			return nil
		}
		return field(m.JWKS)
	}
}

// Read sets the setting to what the arguments of one line say. Its errors go on after the option's name.
func (s *Setting) Read(m *Messenger, args []string) error {
	field := s.field(m)
	if field == nil {
		return errors.New("is about a key set, and no jwks is set")
	}
	if err := readValue(field, args); err != nil || s.check == nil {
		return err
	}
	return s.check(args)
}

// CopyFrom sets the setting to that of former, if both messengers have a place for it.
func (s *Setting) CopyFrom(m, former *Messenger) {
	if to, from := s.field(m), s.field(former); to != nil && from != nil {
		reflect.ValueOf(to).Elem().Set(reflect.ValueOf(from).Elem())
	}
}

// IsList reports whether several lines add up.
func (s *Setting) IsList() bool {
	switch s.field(new(Messenger)).(type) {
	case *[]string, *[]PublicKey:
		return true
	}
	return false
}

// readValue reads the arguments of an option into a field of any of the types that options have.
func readValue(field any, args []string) (err error) {
	switch field := field.(type) {
	case *string:
		*field, err = oneValue(args)
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
	case **JWKS:
		*field = new(JWKS)
		(*field).URL, err = oneValue(args)
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
		return nil, fmt.Errorf("%q is no number of 0 or more", args[0])
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
	k := PublicKey{}
	switch {
	case len(args) == 1:
		k.Key = args[0]
	case len(args) == 3 && args[1] == "kid" && args[2] != "":
		k.Key, k.KeyID = args[0], args[2]
	default:
		return k, errors.New("takes one key and perhaps its kid: public_key {file./path/to/key.pem} [kid <id>]")
	}
	if _, ok := ParseReference(k.Key); ok {
		return k, nil
	}
	_, err := authn.ParsePublicKey([]byte(k.Key), k.KeyID)
	return k, err
}

// readSharedToken never quotes an argument: it may be the secret.
func readSharedToken(args []string) (*SharedToken, error) {
	if len(args) == 0 {
		return new(SharedToken), nil
	}
	if len(args) > 2 {
		return nil, errors.New("takes nothing, for a token that the gateway generates, or a placeholder and perhaps an encoding: shared_token {env.NAME}|{file./path} [raw|base64|base64url|hex]")
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
