package sigkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

const (
	minRSABits = 2048 // RFC 7518 section 3.3
	maxRSABits = 8192 // a verification with a longer key takes milliseconds, for every token that an attacker sends
	minSecret  = 32   // bytes; RFC 7518 section 3.2
)

// ParsePublic reads an RSA public key for RS256 in any form in which people have it: PEM with a PKIX or PKCS#1 public key or an
// X.509 certificate (whose dates are ignored), or a JWK. The kid of a JWK is used unless kid is given. An error names the form that
// was found, and never quotes text.
func ParsePublic(text []byte, kid string) (*Key, error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	if len(text) > 0 && text[0] == '{' {
		k, err := parseJWK(text)
		if err != nil {
			return nil, fmt.Errorf("the JWK %w", err)
		}
		if kid != "" {
			k.kid = kid
		}
		return k, nil
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("is " + describe(text) + ", not a public key; give PEM or a JWK")
	}
	public, err := parsePEM(block)
	if err != nil {
		return nil, err
	}
	if another, _ := pem.Decode(rest); another != nil {
		return nil, errors.New("contains more than one PEM block; give each key a public_key line of its own")
	}
	return newPublicKey(public, kid)
}

func parsePEM(block *pem.Block) (any, error) {
	switch kind := block.Type; {
	case strings.HasSuffix(kind, "PRIVATE KEY"):
		return nil, errors.New("contains a private key, which the gateway must not have; give the public one: openssl pkey -in key.pem -pubout")
	case kind == "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		return public, decodingError(kind, err)
	case kind == "RSA PUBLIC KEY":
		public, err := x509.ParsePKCS1PublicKey(block.Bytes)
		return public, decodingError(kind, err)
	case kind == "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, decodingError(kind, err)
		}
		return certificate.PublicKey, nil
	default:
		return nil, errors.New("contains a PEM block of another kind; give PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE")
	}
}

func decodingError(kind string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("contains a PEM block %q that cannot be decoded: %w", kind, err)
}

// newPublicKey checks public and makes it an RS256 key.
func newPublicKey(public any, kid string) (*Key, error) {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("is a key of type %s; RS256 needs an RSA key", strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", public), "*"), "ed25519."))
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("is an RSA key of %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
	}
	if key.N.Bit(0) == 0 {
		return nil, errors.New("is an RSA key with an even modulus, which is not a product of two large primes")
	}
	if key.E < 3 || key.E%2 == 0 || key.E > math.MaxInt32 {
		return nil, errors.New("is an RSA key with an unsound exponent; it must be odd, at least 3 and below 2^31")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("is an RSA key that cannot be encoded: %w", err)
	}
	return &Key{alg: jwa.RS256, kid: kid, material: key, fingerprint: sha256.Sum256(der)}, nil
}

const (
	maxSmallRSABits  = 4096
	maxSmallExponent = 65537
)

// CheckSmall refuses a sound key that costs more than usual ones. A verification with a key of 8192 bits and a large exponent takes
// a hundred times as long as one with 2048 bits and the usual exponent, for every token that an attacker sends. The operator of the
// gateway may choose that; a site owner, who does not pay for the gateway's processor, may not.
func (k *Key) CheckSmall() error {
	public, ok := k.material.(*rsa.PublicKey)
	switch {
	case !ok:
		return nil
	case public.N.BitLen() > maxSmallRSABits:
		return fmt.Errorf("is an RSA key of %d bits; a stored messenger takes %d to %d: make a key of 2048 or 3072 bits", public.N.BitLen(), minRSABits, maxSmallRSABits)
	case public.E > maxSmallExponent:
		return fmt.Errorf("is an RSA key with the exponent %d; a stored messenger takes at most %d, the exponent that tools choose", public.E, maxSmallExponent)
	}
	return nil
}

// ParseShared makes secret an HS256 key. It refuses what is not a secret, above all a public key: a messenger that took one as
// its HMAC key would accept tokens from everyone (RFC 8725 section 3.1).
func ParseShared(secret []byte, kid string) (*Key, error) {
	switch {
	case bytes.Contains(secret, []byte("-----BEGIN ")):
		return nil, errors.New("is PEM; a shared token is a secret, and everyone who knows a public key could sign with it (use public_key for a key pair)")
	case len(secret) > 0 && secret[0] == '{' && strictjson.Object(secret, nil) == nil:
		return nil, errors.New("is a JSON object; give the secret alone (of a JWK, its member k with base64url)")
	case sharedtoken.Check(string(secret)) != nil:
		return nil, sharedtoken.Check(string(secret))
	case len(secret) < minSecret:
		return nil, fmt.Errorf("has %d bytes; HS256 needs at least %d (RFC 7518 section 3.2)", len(secret), minSecret)
	case secret[len(secret)-1] == 0:
		return nil, errors.New("ends in a NUL byte, and HMAC does not distinguish it from the secret without that byte (RFC 2104)")
	}
	return newSecretKey(bytes.Clone(secret), kid), nil
}

// describe says what text looks like, for people who configured something else instead of a public key.
func describe(text []byte) string {
	has := func(prefix string) bool { return bytes.HasPrefix(text, []byte(prefix)) }
	switch {
	case len(text) == 0:
		return "empty"
	case has("-----BEGIN ") && bytes.Contains(text, []byte(`\n`)):
		return `PEM whose line breaks are written as \n`
	case has("-----BEGIN "):
		return "damaged PEM"
	case has("ssh-"):
		return "an OpenSSH key (convert it: ssh-keygen -e -m PKCS8 -f key.pub)"
	case has("http://"), has("https://"):
		return "a URL (for keys from a URL use jwks)"
	case has("/"), has("./"):
		return "a file name (write {file./path/to/key.pem})"
	case has("MI"):
		return "base64 without PEM lines around it (-----BEGIN PUBLIC KEY-----)"
	case has("["):
		return "a JSON array"
	default:
		return "text of an unknown form"
	}
}
