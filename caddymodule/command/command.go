// Package command is "caddy messenger", the commands for operators. They talk to the admin API of a running gateway, or read
// a configuration themselves with --config, and print text or JSON.
//
// It does not know how an operation works; package admin does.
//
// Begin reading with the list of commands in command.go.
package command

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "messenger",
		Short: "Administers messengers and their keys, and explains tokens",
		Long: `
The commands below explain why a token is accepted or refused, administer the
messengers, shared tokens and open connections of a running gateway, and make
keys and tokens. None of them takes a token or a secret as an argument, where
other users of the machine could read it: they come from files, from the
environment, or from standard input.

The exit status is 0 if all went well, 3 if there is no such messenger or shared
token, 4 if what is there does not allow the change, and 1 for any other
failure.
`,
		CobraFunc: func(cmd *cobra.Command) {
			// Without these a misspelled command would print help and succeed.
			cmd.Args = noArguments("there is no such command; see --help")
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.SetFlagErrorFunc(flagError)
			cmd.AddCommand(explainCommand(), keysCommand(), refreshCommand(), readinessCommand(), connectionsCommand(), generateCommand(), signCommand(), jwksCommand())
			cmd.AddCommand(listCommand(), showMessengerCommand(), createCommand(), deleteCommand(), tokensCommand(), revocationsCommand(), resealCommand())
			guardOutput(cmd)
		},
	})
}

// flagError says what is wrong with a flag. It repeats what may be a misspelled flag, and nothing else: a generated secret
// may begin with "-", and a value may be one.
func flagError(cmd *cobra.Command, err error) error {
	if misspelled := regexp.MustCompile(`^unknown flag: --[a-z]+(-[a-z]+)*$`); len(err.Error()) < 40 && misspelled.MatchString(err.Error()) {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	}
	return fmt.Errorf("a flag is unknown here, or has no value that fits; see %s --help", cmd.CommandPath())
}

// noArguments refuses arguments with a sentence of its own, because cobra would repeat the first of them: it may be a
// token or a secret, and error texts end up in the logs of scripts.
func noArguments(complaint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errors.New(complaint)
		}
		return nil
	}
}

func generateCommand() *cobra.Command {
	var pair string
	cmd := &cobra.Command{
		Use:   "generate [--rsa <path>]",
		Short: "Makes a new shared token, or an RSA key pair",
		Long: `
Prints a new shared token on standard output, and nothing else, so that it can
be piped into a file or a secret store. It is 256 random bits with a prefix and
a checksum; give it to a messenger with shared_token, and to the site's JWT
library as it is, for HS256.

With --rsa it writes an RSA key pair of 2048 bits instead: <path>.key.pem, with
which the site signs (RS256; readable by you alone), and <path>.pub.pem, which
a messenger takes with public_key. Existing files are left alone. For a
messenger with jwks, "caddy messenger jwks" makes a key set of the second.`,
		Args: noArguments("generate takes no argument; --rsa names where a key pair is written"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pair != "" {
				return writeKeyPair(cmd.OutOrStdout(), pair)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), sharedtoken.Generate())
			return err
		},
	}
	cmd.Flags().StringVar(&pair, "rsa", "", "Write an RSA key pair to <path>.key.pem and <path>.pub.pem")
	return cmd
}

func writeKeyPair(w io.Writer, path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	privateName, publicName := path+".key.pem", path+".pub.pem"
	if err := writeNew(privateName, 0o600, "PRIVATE KEY", private); err != nil {
		return err
	}
	if err := writeNew(publicName, 0o644, "PUBLIC KEY", public); err != nil {
		return errors.Join(err, os.Remove(privateName)) // half a pair is of no use
	}
	return printable.Printf(w, "%s  the private key, for the site alone\n%s  the public key, for the messenger\n", privateName, publicName)
}

func writeNew(name string, mode os.FileMode, kind string, der []byte) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is left as it is; choose another path, or move it away", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return pem.Encode(file, &pem.Block{Type: kind, Bytes: der})
}

// signOptions are the flags of "caddy messenger sign".
type signOptions struct {
	keyFile, keyEnv, encoding    string
	identity, identityKey, keyID string
	claims                       []string
	ttl                          string
}

func signCommand() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign (--key <file> | --key-env <name>) --identity <id> [--identity-key <claim>] [--claim <name>=<value>]... [--ttl <duration>] [--kid <id>]",
		Short: "Signs a token for tests",
		Long: `
Prints a token for one contact on standard output. It has iat, exp and the
identity, and the claims that --claim adds; a value that is JSON (a number,
true, null, an array, an object, a quoted string) is taken as such, any other
as a string.

The key decides the algorithm: an RSA private key in PEM signs with RS256, any
other text is a shared token and signs with HS256.`,
		Args: noArguments("sign takes no arguments but its flags; the key comes from --key or --key-env"),
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
	flags.StringVar(&o.keyFile, "key", "", "The file that holds the private key or the shared token")
	flags.StringVar(&o.keyEnv, "key-env", "", "The environment variable that holds it")
	flags.StringVar(&o.encoding, "encoding", string(sharedtoken.Raw), "How a shared token is written: raw, base64, base64url or hex")
	flags.StringVar(&o.identity, "identity", "", "The contact identity (required)")
	flags.StringVar(&o.identityKey, "identity-key", "identity", "The claim that holds the identity")
	flags.StringArrayVar(&o.claims, "claim", nil, "A further claim as name=value; may be repeated")
	flags.StringVar(&o.ttl, "ttl", "1h", "The time until the token expires; 0 leaves exp out, a negative time makes an expired token")
	flags.StringVar(&o.keyID, "kid", "", "The key ID for the token's header")
	return cmd
}

func (o *signOptions) sign(now time.Time) (string, error) {
	if o.identity == "" {
		return "", errors.New("--identity is missing: the contact for whom the token is")
	}
	if err := config.CheckIdentityKey(o.identityKey); err != nil {
		return "", fmt.Errorf("--identity-key %w", err)
	}
	text, err := o.readKey()
	if err != nil {
		return "", err
	}
	key, err := parseSigningKey(text, sharedtoken.Encoding(o.encoding))
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
	return key.sign(o.keyID, claims)
}

func (o *signOptions) readKey() ([]byte, error) {
	switch {
	case (o.keyFile == "") == (o.keyEnv == ""):
		return nil, errors.New("exactly one of --key and --key-env is needed: the file, or the environment variable, that holds the key")
	case o.keyFile != "":
		text, err := readNamed(o.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--key takes the name of the file that holds the key: %w", err)
		}
		return text, nil
	default:
		text, err := config.Reference{Kind: "env", Name: o.keyEnv}.Env()
		if err != nil {
			return nil, fmt.Errorf("--key-env takes the name of the variable that holds the key: %w", err)
		}
		return text, nil
	}
}

// readNamed reads a file that an argument names. An error does not repeat the name: it may be the key, by mistake.
func readNamed(name string) ([]byte, error) {
	text, err := config.ReadArgument(name)
	if path := new(fs.PathError); errors.As(err, &path) {
		err = path.Err
	}
	return text, err
}

func jwksCommand() *cobra.Command {
	var kids []string
	cmd := &cobra.Command{
		Use:   "jwks <public key file>... [--kid <id>]...",
		Short: "Makes a key set to publish out of public keys",
		Long: `
Prints a JWK Set of the public keys in the files (PEM or JWK, never a private
key), for the site to publish at a URL that a messenger takes with jwks.

Every key has a kid, which the site writes into the header of its tokens. The
first --kid is that of the first file, and so on; without one it is the one of
a JWK, or the key's thumbprint (RFC 7638). To rotate a key, publish the old and
the new one together, each with a kid of its own, before the site signs with
the new one.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name at least one file with a public key, such as support.pub.pem")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := keySet(args, kids)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(append(set, '\n'))
			return err
		},
	}
	cmd.Flags().StringArrayVar(&kids, "kid", nil, "The key ID of the first file, of the second if repeated, and so on")
	return cmd
}

func keySet(files, kids []string) ([]byte, error) {
	if len(kids) > len(files) {
		return nil, fmt.Errorf("--kid is given %d times for %d files", len(kids), len(files))
	}
	keys := make([]*authn.Key, len(files))
	for i, file := range files {
		text, err := readNamed(file)
		if err != nil {
			return nil, fmt.Errorf("file %d: %w", i+1, err)
		}
		kid := ""
		if i < len(kids) {
			kid = kids[i]
		}
		if keys[i], err = authn.ParsePublicKey(text, kid); err != nil {
			return nil, fmt.Errorf("file %d %w", i+1, err)
		}
	}
	return authn.PublicKeySet(keys...)
}
