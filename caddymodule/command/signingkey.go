package command

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A signingKey makes tokens for tests of a configuration, as the site does. The gateway itself never signs.
type signingKey struct {
	alg  sigkey.Algorithm
	sign func(signed []byte) ([]byte, error)
}

// parseSigningKey reads a private key in PEM (PKCS#8, PKCS#1 or SEC 1), or takes text as a shared token. named is the algorithm to sign
// with; if it is "", the key decides. A key is refused if a messenger would refuse its public key, or the same shared token. An
// error never quotes text.
func parseSigningKey(text []byte, encoding sharedtoken.Encoding, named string) (*signingKey, error) {
	alg, known := sigkey.ParseAlgorithm(named)
	if named != "" && !known {
		return nil, fmt.Errorf("cannot sign with --alg %q; name %s", named, (sigkey.Asymmetric | sigkey.Symmetric).Text())
	}
	if block := privateBlock(text); block != nil {
		return parsePrivate(block, alg)
	}
	alg = cmp.Or(alg, sigkey.HS256)
	secret, err := encoding.Decode(string(bytes.TrimRight(text, "\r\n")))
	if err != nil {
		return nil, err
	}
	if _, err := sigkey.ParseShared(secret, "", alg); err != nil {
		return nil, err
	}
	return &signingKey{alg, func(signed []byte) ([]byte, error) {
		mac := hmac.New(alg.Hash().New, secret)
		mac.Write(signed)
		return mac.Sum(nil), nil
	}}, nil
}

// privateBlock returns the PEM block that should be the private key. It skips the block with the curve that openssl ecparam writes
// first.
func privateBlock(text []byte) *pem.Block {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" {
		if next, _ := pem.Decode(rest); next != nil {
			return next
		}
	}
	return block
}

func parsePrivate(block *pem.Block, alg sigkey.Algorithm) (*signingKey, error) {
	var private crypto.Signer
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		var parsed any
		if parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			var ok bool
			if private, ok = parsed.(crypto.Signer); !ok {
				return nil, errors.New("is not a key for signatures; give one of RSA, of an elliptic curve, or Ed25519")
			}
		}
	case "ENCRYPTED PRIVATE KEY":
		return nil, cause.SigningKeyEncrypted.Err()
	case "OPENSSH PRIVATE KEY":
		return nil, cause.SigningKeyOpenSSH.Err()
	default:
		return nil, errors.New("is PEM, but not a private key; only its owner can sign with a key pair")
	}
	if err != nil {
		return nil, err
	}
	_, public, err := publicOf(private, alg)
	if err != nil {
		return nil, err
	}
	return &signingKey{public.Algorithm(), func(signed []byte) ([]byte, error) { return signWith(private, public.Algorithm(), signed) }}, nil
}

// signWith makes a signature in the form of JWS (RFC 7518 section 3, RFC 8037 section 3.1).
func signWith(private crypto.Signer, alg sigkey.Algorithm, signed []byte) ([]byte, error) {
	if alg == sigkey.EdDSA {
		return private.Sign(nil, signed, crypto.Hash(0))
	}
	hash := alg.Hash().New()
	hash.Write(signed)
	digest := hash.Sum(nil)
	switch key := private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	case *rsa.PrivateKey:
		if alg.IsPSS() {
			return rsa.SignPSS(rand.Reader, key, alg.Hash(), digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	}
	return private.Sign(rand.Reader, digest, alg.Hash())
}

// token returns a token with these claims, as a compact JWS. Its header has typ and kid, unless they are "".
func (k *signingKey) token(typ, kid string, claims map[string]any) (string, error) {
	header := map[string]any{"alg": k.alg.String()}
	if typ != "" {
		header["typ"] = typ
	}
	if kid != "" {
		header["kid"] = kid
	}
	encodedHeader, err := encodeSegment(header)
	if err != nil {
		return "", err
	}
	encodedClaims, err := encodeSegment(claims)
	if err != nil {
		return "", err
	}
	signed := encodedHeader + "." + encodedClaims
	signature, err := k.sign([]byte(signed))
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func encodeSegment(members map[string]any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(members); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}
