package sigkey

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keytext"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// ParsePublic reads a public key for the one of the accepted algorithms that it fits, in any form in which people have it: see
// package keytext, and parseJSONKey for JWKs. The kid of a JWK is used unless kid is given. An error names the form that was found
// and, where another algorithm would help, what to write; it never quotes text.
func ParsePublic(text []byte, kid string, accepted Algorithms) (*Key, error) {
	k, err := parsePublic(text, kid, accepted)
	if unfit := new(unfitError); errors.As(err, &unfit) {
		return nil, fmt.Errorf("%w; if your site signs with %s, name it with the key: alg %[2]s", err, unfit.needs)
	}
	return k, err
}

func parsePublic(text []byte, kid string, accepted Algorithms) (*Key, error) {
	found, err := keytext.Read(text)
	if err != nil {
		return nil, err
	}
	if found.JSON != nil {
		return parseJSONKey(found.JSON, kid, accepted)
	}
	var only Algorithms
	if found.PSSOnly {
		only = pssOnly(found.PSSHash)
	}
	k, err := newPublicKey(found.Public, kid, nil, only, accepted)
	if err != nil {
		return nil, err
	}
	k.Note = found.Note
	return k, nil
}

// pssOnly returns the algorithms for a key whose owner signs with RSA-PSS alone, with a hash of this many bits or, for 0, with any hash.
func pssOnly(bits int) Algorithms {
	only := AlgorithmsOf(PS256, PS384, PS512)
	for _, a := range only.List() {
		if 8*algorithms[a].hash.Size() == bits {
			return AlgorithmsOf(a)
		}
	}
	return only
}

// IsSecret reports whether err says that a private key or a secret was given in place of a public key.
func IsSecret(err error) bool {
	return keytext.IsPrivate(err) || errors.Is(err, errPrivateJWK) || errors.Is(err, errSecretJWK)
}

// ParseShared makes secret a key for one of the algorithms with secrets. It refuses what is not a secret, above all a public key: a
// messenger that took one as its HMAC key would accept tokens from everyone (RFC 8725 section 3.1).
func ParseShared(secret []byte, kid string, alg Algorithm) (*Key, error) {
	switch {
	case !alg.IsSymmetric():
		return nil, fmt.Errorf("is a secret, and %s needs a key pair; a shared token is for %s", alg, Symmetric.Text())
	case bytes.Contains(secret, []byte("-----BEGIN ")):
		return nil, errors.New("is PEM; a shared token is a secret, and everyone who knows a public key could sign with it (use public_key for a key pair)")
	case isPublicKey(secret):
		return nil, errors.New("is a public key; a shared token is a secret, and everyone who knows a public key could sign with it (use public_key for a key pair)")
	case len(secret) > 0 && secret[0] == '{' && strictjson.Object(secret, nil) == nil:
		return nil, errors.New("is a JSON object; give the secret alone (of a JWK, its member k with base64url)")
	case sharedtoken.Check(string(secret)) != nil:
		return nil, sharedtoken.Check(string(secret))
	case len(secret) < alg.MinSecret():
		return nil, fmt.Errorf("has %d bytes; %s needs at least %d (RFC 7518 section 3.2)", len(secret), alg, alg.MinSecret())
	case len(secret)-len(withoutPadding(secret, alg)) > maxPadding:
		return nil, fmt.Errorf("ends in more than %d NUL bytes, which HMAC does not distinguish from the secret without them (RFC 2104); make a random one", maxPadding)
	}
	return newSecretKey(bytes.Clone(secret), kid, alg), nil
}

// maxPadding is how many NUL bytes a secret may end in. HMAC fills a key up to its block with them, so that they add nothing to it.
// One of 256 random secrets ends in one, and one of 16 million in three.
const maxPadding = 2

// withoutPadding returns the bytes of a secret that count: two secrets are the same key for HMAC if these are equal.
func withoutPadding(secret []byte, alg Algorithm) []byte {
	if len(secret) > alg.Hash().New().BlockSize() {
		return secret // it is hashed first
	}
	return bytes.TrimRight(secret, "\x00")
}

// isPublicKey reports whether secret is a public key in any form in which public_key takes one, except JSON.
func isPublicKey(secret []byte) bool {
	found, err := keytext.Read(secret)
	return err == nil && found.JSON == nil
}
