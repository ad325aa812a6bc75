package command

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
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
	alg    sigkey.Algorithm
	secret any // a private key, or the bytes of a shared token
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
	return &signingKey{alg, secret}, nil
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
	return &signingKey{public.Algorithm(), private}, nil
}

// token returns a token with these claims, as a compact JWS. Its header has typ and kid, unless they are "".
func (k *signingKey) token(typ, kid string, claims map[string]any) (string, error) {
	var payload bytes.Buffer
	encoder := json.NewEncoder(&payload)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(claims); err != nil {
		return "", err
	}
	return k.alg.Sign(k.secret, typ, kid, bytes.TrimSpace(payload.Bytes()))
}
