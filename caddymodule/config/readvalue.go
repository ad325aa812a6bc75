package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// commaError is for lists that are written with commas, which would be part of the values: no token has the claim "exp,".
func commaError(value string) error {
	return fmt.Errorf("%q has a comma; leave out the commas between values", value)
}

func oneValue(args []string) (string, error) {
	if len(args) != 1 || args[0] == "" {
		return "", errors.New("takes exactly one value")
	}
	return args[0], nil
}

func readDuration(args []string) (caddy.Duration, error) {
	if len(args) != 1 {
		return 0, errors.New("needs exactly one duration, such as 90s, 15m or 1h")
	}
	duration, err := caddy.ParseDuration(args[0])
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write one such as 90s, 15m or 1h", args[0])
	}
	if err := CheckUnit(duration, "15m"); err != nil {
		return 0, err
	}
	return caddy.Duration(duration), nil
}

func readNumber(args []string) (int, error) {
	if len(args) != 1 {
		return 0, errors.New("takes one number")
	}
	number, err := strconv.Atoi(args[0])
	if err != nil || number < 0 {
		return 0, fmt.Errorf("%q is not a number of 0 or more", args[0])
	}
	return number, nil
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
		return k, nil // the key is checked when the placeholder is resolved
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
			return nil, sharedtoken.ErrEncoding
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

// An OptionParser reads the arguments of one option and stores their values.
type OptionParser func(d *caddyfile.Dispenser) error

// ParseBlock reads the options of a block. An unknown option is an error, and so is a repeated one that is not in repeatable.
func ParseBlock(d *caddyfile.Dispenser, block string, options map[string]OptionParser, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, known := options[name]
		if !known {
			return d.Errf("%s: %s", block, unknownOption(block, name, options))
		}
		if seen[name] && !slices.Contains(repeatable, name) {
			return d.Errf("%s: %s is set twice; keep one line", block, name)
		}
		seen[name] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
}

// lineOption makes a parser from a function that reads the arguments of a line. The function's errors continue the option's name.
func lineOption(read func(args []string) error) OptionParser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := read(d.RemainingArgs()); err != nil {
			return d.Errf("%s %w", name, err)
		}
		return nil
	}
}

// Option parses an option with one value, or with one or more values for a list. A field that is a pointer to a duration or number
// is nil for the default; 0 switches the option off.
func Option[T string | []string | *caddy.Duration | int | *int | Mode](target *T) OptionParser {
	return lineOption(func(args []string) error { return typeOf(target).read(args) })
}

// AtToken returns a dispenser whose current token is t, for errors that concern a block as a whole.
func AtToken(t caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d
}
