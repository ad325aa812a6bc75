package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// signOptions are the flags of "caddy messenger sign".
type signOptions struct {
	keyFile, keyEnv, encoding    string
	algorithm                    string
	identity, identityKey, keyID string
	typ                          string
	claims                       []string
	ttl                          string
}

func signCommand() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign (--key <file> | --key-env <name>) --identity <id>",
		Short: "Signs a token, for tests",
		Long: `
Prints a token for one contact on standard output. It has the identity, iat and
exp, and the claims that --claim adds. A value that is JSON (a number, true,
null, an array, an object, a quoted string) is added as it is, any other value
as a string.

The key decides the algorithm, unless --alg names another one that it fits: a
private key in PEM signs with RS256 if it is of RSA, with ES256, ES384 or ES512
by its curve, and with EdDSA if it is of Ed25519; any other text is a shared
token and signs with HS256.`,
		Args: noArguments("sign takes no arguments; --key or --key-env names the key"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := o.sign(time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.keyFile, "key", "", "The `file` with the private key or the shared token")
	flags.StringVar(&o.keyEnv, "key-env", "", "The `name` of the environment variable with the key")
	flags.StringVar(&o.encoding, "encoding", string(sharedtoken.Raw), "The `encoding` of a shared token: raw, base64, base64url or hex")
	flags.StringVar(&o.algorithm, "alg", "", "The `algorithm` to sign with, such as PS256 or HS512 (default: the usual one of the key)")
	flags.StringVar(&o.identity, "identity", "", "The contact identity, the `id` of the contact (required)")
	flags.StringVar(&o.identityKey, "identity-key", "identity", "The `claim` that holds the identity")
	flags.StringArrayVar(&o.claims, "claim", nil, "A further claim as `name=value`; may be repeated")
	flags.StringVar(&o.ttl, "ttl", "1h", "The `duration` until the token expires; 0 leaves exp out, a negative one makes an expired token")
	flags.StringVar(&o.keyID, "kid", "", "The key `ID` for the token's header")
	flags.StringVar(&o.typ, "typ", "JWT", "The `type` for the token's header")
	mayBeEmpty(cmd, "typ", "is left out")
	return cmd
}

func (o *signOptions) sign(now time.Time) (string, error) {
	if o.identity == "" {
		return "", errors.New("--identity is missing: it is the contact for whom the token is signed")
	}
	if err := config.CheckIdentityKey(o.identityKey); err != nil {
		return "", fmt.Errorf("--identity-key %w", err)
	}
	text, err := o.readKey()
	if err != nil {
		return "", err
	}
	key, err := parseSigningKey(text, sharedtoken.Encoding(o.encoding), o.algorithm)
	if err != nil {
		return "", fmt.Errorf("the key %w", err)
	}
	ttl, err := caddy.ParseDuration(o.ttl)
	if err != nil {
		return "", errors.New("--ttl is not a duration such as 15m, 1h or -1h")
	}
	claims := map[string]any{o.identityKey: o.identity, "iat": now.Unix()}
	if ttl != 0 {
		claims["exp"] = now.Add(ttl).Unix()
	}
	for _, pair := range o.claims {
		name, value, found := strings.Cut(pair, "=")
		if !found || name == "" {
			return "", errors.New("--claim takes name=value")
		}
		claims[name] = value
		if json.Valid([]byte(value)) {
			claims[name] = json.RawMessage(value)
		}
	}
	return key.token(o.typ, o.keyID, claims)
}

func (o *signOptions) readKey() ([]byte, error) {
	switch {
	case (o.keyFile == "") == (o.keyEnv == ""):
		return nil, errors.New("give exactly one of --key and --key-env: the file, or the environment variable, with the key")
	case o.keyFile != "":
		text, err := readNamed(o.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--key takes the name of the file with the key: %w", err)
		}
		return text.Text, nil
	default:
		text, err := config.Reference{Kind: "env", Name: o.keyEnv}.Env()
		if err != nil {
			return nil, fmt.Errorf("--key-env takes the name of the variable with the key: %w", err)
		}
		return text, nil
	}
}

// readNamed reads a file that an argument names. The error does not repeat the name, which may be the key by mistake.
func readNamed(name string) (config.FileText, error) {
	text, err := config.ReadArgument(name)
	if path := new(fs.PathError); errors.As(err, &path) {
		err = path.Err
	}
	return text, err
}
