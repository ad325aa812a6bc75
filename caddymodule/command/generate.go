package command

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

func generateCommand() *cobra.Command {
	var pair string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Generates a shared token, or an RSA key pair",
		Long: `
Prints a new shared token on standard output, and nothing else, so that it can
be piped into a file or a secret store. It is 256 random bits with a prefix and
a checksum. Give it to a messenger with shared_token, and unchanged to the
site's JWT library, for HS256.

With --rsa an RSA key pair of 2048 bits is written instead: <path>.key.pem, with
which the site signs (RS256; only you can read the file), and <path>.pub.pem,
for the option public_key of a messenger. Existing files are not overwritten.
For a messenger with jwks, make a key set from <path>.pub.pem with
"caddy messenger jwks".`,
		Args: noArguments("generate takes no argument; --rsa names the path of a key pair"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pair != "" {
				return writeKeyPair(cmd.OutOrStdout(), pair)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), sharedtoken.Generate())
			return err
		},
	}
	cmd.Flags().StringVar(&pair, "rsa", "", "Write an RSA key pair to `path`.key.pem and path.pub.pem")
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
		return errors.Join(err, os.Remove(privateName)) // half a pair is useless
	}
	return printable.Printf(w, "%s  the private key, only for the site\n%s  the public key, for the messenger\n", privateName, publicName)
}

func writeNew(name string, mode os.FileMode, kind string, der []byte) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten; choose another path, or move the file", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return pem.Encode(file, &pem.Block{Type: kind, Bytes: der})
}

func jwksCommand() *cobra.Command {
	var kids []string
	cmd := &cobra.Command{
		Use:   "jwks <public key file>...",
		Short: "Makes a key set (JWKS) from public keys",
		Long: `
Prints a JWK Set of the public keys in the files (PEM, DER, OpenSSH or JWK;
private keys are refused), for the site to publish at the URL in the option jwks of a messenger.

Every key has a kid, which the site writes into the header of its tokens: the
first --kid is for the first file, and so on. The default is the kid of a JWK,
or the key's thumbprint (RFC 7638). To rotate a key, publish the old and the new
key together, with different kids, before the site signs with the new one.`,
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
	cmd.Flags().StringArrayVar(&kids, "kid", nil, "The key `ID` of the first file, of the second if repeated, and so on")
	return cmd
}

func keySet(files, kids []string) ([]byte, error) {
	if len(kids) > len(files) {
		return nil, fmt.Errorf("--kid is given %d times for %d files", len(kids), len(files))
	}
	keys := make([]*sigkey.Key, len(files))
	for i, file := range files {
		text, err := readNamed(file)
		if err != nil {
			return nil, fmt.Errorf("file %d: %w", i+1, err)
		}
		kid := ""
		if i < len(kids) {
			kid = kids[i]
		}
		if keys[i], err = sigkey.ParsePublic(text.Whole, kid); err != nil {
			return nil, fmt.Errorf("file %d %w", i+1, err)
		}
	}
	return sigkey.Published(keys...)
}
