package command

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
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

// generateOptions are the flags of "caddy messenger generate".
type generateOptions struct {
	rsa, ec, ed25519 string // paths
	algorithm        string
}

func generateCommand() *cobra.Command {
	var o generateOptions
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Generates a shared token, or a key pair",
		Long: `
Prints a new shared token on standard output, and nothing else, so that it can
be piped into a file or a secret store. It is 256 random bits with a prefix and
a checksum; 384 or 512 bits with --alg HS384 or HS512. Give it to a messenger
with shared_token, and unchanged to the site's JWT library.

With --rsa an RSA key pair of 2048 bits is written instead: <path>.key.pem, with
which the site signs (only you can read the file), and <path>.pub.pem, for the
option public_key of a messenger. --ec makes a pair on the curve P-256 for
ES256, or on that of --alg ES384 or ES512, and --ed25519 one for EdDSA. Existing
files are not overwritten. For a messenger with jwks, make a key set from
<path>.pub.pem with "caddy messenger jwks".`,
		Args: noArguments("generate takes no argument; --rsa, --ec and --ed25519 name the path of a key pair"),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.generate(cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.rsa, "rsa", "", "Write an RSA key pair to `path`.key.pem and path.pub.pem")
	flags.StringVar(&o.ec, "ec", "", "Write a key pair of an elliptic curve to `path`.key.pem and path.pub.pem")
	flags.StringVar(&o.ed25519, "ed25519", "", "Write an Ed25519 key pair to `path`.key.pem and path.pub.pem")
	flags.StringVar(&o.algorithm, "alg", "", "The `algorithm` to make it for (default HS256, RS256, ES256 or EdDSA)")
	cmd.MarkFlagsMutuallyExclusive("rsa", "ec", "ed25519")
	return cmd
}

func (o *generateOptions) generate(w io.Writer) error {
	alg, err := algorithmOf(o.algorithm)
	if err != nil {
		return err
	}
	path := o.rsa + o.ec + o.ed25519
	if path == "" {
		alg = cmp.Or(alg, sigkey.HS256)
		if !alg.IsSymmetric() {
			return fmt.Errorf("--alg %s needs a key pair: name its path with --rsa, --ec or --ed25519", alg)
		}
		_, err := fmt.Fprintln(w, sharedtoken.GenerateFor(alg.MinSecret()))
		return err
	}
	private, err := o.keyPair(alg)
	if err != nil {
		return err
	}
	der, public, err := publicOf(private, alg)
	if err != nil {
		return fmt.Errorf("--alg %s does not fit: the key %w", alg, err)
	}
	return writeKeyPair(w, path, private, der, public.Algorithm())
}

// algorithmOf returns the algorithm that the flag --alg names, or none for "".
func algorithmOf(name string) (sigkey.Algorithm, error) {
	alg, known := sigkey.ParseAlgorithm(name)
	if name != "" && !known {
		return 0, fmt.Errorf("--alg %q is not an algorithm; name %s", name, (sigkey.Asymmetric | sigkey.Symmetric).Text())
	}
	return alg, nil
}

// accepting returns the algorithms for which a key is read: the one that --alg names, or without --alg the usual one of each type.
func accepting(alg sigkey.Algorithm) sigkey.Algorithms {
	if alg == 0 {
		return sigkey.Natural
	}
	return sigkey.AlgorithmsOf(alg)
}

// publicOf returns the public half of a key, as DER and as a gateway reads it.
func publicOf(private crypto.Signer, alg sigkey.Algorithm) (der []byte, public *sigkey.Key, err error) {
	if der, err = x509.MarshalPKIXPublicKey(private.Public()); err == nil {
		public, err = sigkey.ParsePublic(der, "", accepting(alg))
	}
	return der, public, err
}

func (o *generateOptions) keyPair(alg sigkey.Algorithm) (crypto.Signer, error) {
	switch {
	case o.rsa != "":
		return rsa.GenerateKey(rand.Reader, 2048)
	case o.ed25519 != "":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case alg == sigkey.ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case alg == sigkey.ES512:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
}

func writeKeyPair(w io.Writer, path string, key crypto.Signer, public []byte, alg sigkey.Algorithm) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
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
	option := ""
	if alg != sigkey.RS256 {
		option = ", with alg " + alg.String()
	}
	return printable.Printf(w, "%s  the private key, only for the site\n%s  the public key, for the messenger%s\n", privateName, publicName, option)
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
	var kids, algs []string
	cmd := &cobra.Command{
		Use:   "jwks <public key file>...",
		Short: "Makes a key set (JWKS) from public keys",
		Long: `
Prints a JWK Set of the public keys in the files (PEM, DER, OpenSSH or JWK;
private keys are refused). The site publishes it at the URL in the option jwks
of a messenger.

Every key has a kid, which the site writes into the header of its tokens: the
first --kid is for the first file, and so on. The default is the kid of a JWK,
or the key's thumbprint (RFC 7638). --alg names the algorithm of each key in the
same way; the default is RS256 for RSA, ES256, ES384 or ES512 by the curve, and
EdDSA for Ed25519. To rotate a key, publish the old and the new key together,
with different kids, before the site signs with the new one.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name at least one file with a public key, such as support.pub.pem")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := keySet(args, kids, algs)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(append(set, '\n'))
			return err
		},
	}
	cmd.Flags().StringArrayVar(&kids, "kid", nil, "The key `ID` of the first file, of the second if repeated, and so on")
	cmd.Flags().StringArrayVar(&algs, "alg", nil, "The `algorithm` of the key in the first file, and so on (default: the usual one of the key)")
	for _, flag := range []string{"kid", "alg"} {
		mayBeEmpty(cmd, flag, "is the default")
	}
	return cmd
}

func keySet(files, kids, algs []string) ([]byte, error) {
	if len(kids) > len(files) {
		return nil, fmt.Errorf("--kid is given %d times for %d files", len(kids), len(files))
	}
	if len(algs) > len(files) {
		return nil, fmt.Errorf("--alg is given %d times for %d files", len(algs), len(files))
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
		accepted := sigkey.Natural
		if i < len(algs) && algs[i] != "" {
			alg, known := sigkey.ParseAlgorithm(algs[i])
			if !known || alg.IsSymmetric() {
				return nil, fmt.Errorf("--alg %q is not an algorithm of public keys; name %s", algs[i], sigkey.Asymmetric.Text())
			}
			accepted = sigkey.AlgorithmsOf(alg)
		}
		if keys[i], err = sigkey.ParsePublic(text.Whole, kid, accepted); err != nil {
			return nil, fmt.Errorf("file %d %w", i+1, err)
		}
	}
	return sigkey.Published(keys...)
}
