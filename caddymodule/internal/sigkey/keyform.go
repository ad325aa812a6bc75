package sigkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keytext"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

const (
	minRSABits = 2048 // RFC 7518 section 3.3
	maxRSABits = 8192 // a verification with a longer key takes milliseconds, for every token that an attacker sends
	minSecret  = 32   // bytes; RFC 7518 section 3.2
)

// ParsePublic reads an RSA public key for RS256 in any form in which people have it: see package keytext, and parseJSONKey for
// JWKs. The kid of a JWK is used unless kid is given. An error names the form that was found, and never quotes text.
func ParsePublic(text []byte, kid string) (*Key, error) {
	found, err := keytext.Read(text)
	if err != nil {
		return nil, err
	}
	if found.JSON != nil {
		return parseJSONKey(found.JSON, kid)
	}
	if found.PSSOnly {
		return nil, errors.New("is an RSA key for RSA-PSS alone, with which RS256 cannot be verified; give a key under the usual OID: openssl rsa -in key.pem -pubout")
	}
	k, err := newPublicKey(found.Public, kid)
	if err != nil {
		return nil, err
	}
	k.Note = found.Note
	return k, nil
}

// IsSecret reports whether err says that a private key or a secret was given in place of a public key.
func IsSecret(err error) bool {
	return keytext.IsPrivate(err) || errors.Is(err, errPrivateJWK) || errors.Is(err, errSecretJWK)
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
	case isPublicKey(secret):
		return nil, errors.New("is a public key; a shared token is a secret, and everyone who knows a public key could sign with it (use public_key for a key pair)")
	case len(secret) > 0 && secret[0] == '{' && strictjson.Object(secret, nil) == nil:
		return nil, errors.New("is a JSON object; give the secret alone (of a JWK, its member k with base64url)")
	case sharedtoken.Check(string(secret)) != nil:
		return nil, sharedtoken.Check(string(secret))
	case len(secret) < minSecret:
		return nil, fmt.Errorf("has %d bytes; HS256 needs at least %d (RFC 7518 section 3.2)", len(secret), minSecret)
	case len(secret)-len(withoutPadding(secret)) > maxPadding:
		return nil, fmt.Errorf("ends in more than %d NUL bytes, which HMAC does not distinguish from the secret without them (RFC 2104); make a random one", maxPadding)
	}
	return newSecretKey(bytes.Clone(secret), kid), nil
}

// maxPadding is how many NUL bytes a secret may end in. HMAC fills a key up to its block with them, so that they add nothing to it.
// One of 256 random secrets ends in one, and one of 16 million in three.
const maxPadding = 2

// withoutPadding returns the bytes of a secret that count: two secrets are the same key for HMAC if these are equal.
func withoutPadding(secret []byte) []byte {
	if len(secret) > sha256.BlockSize {
		return secret // it is hashed first
	}
	return bytes.TrimRight(secret, "\x00")
}

// isPublicKey reports whether secret is a public key in any form in which public_key takes one, except JSON.
func isPublicKey(secret []byte) bool {
	found, err := keytext.Read(secret)
	return err == nil && found.JSON == nil
}
