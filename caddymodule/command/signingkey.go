package command

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A signingKey makes tokens for tests of a configuration, as the site does. The gateway itself never signs.
type signingKey struct {
	algorithm string
	sign256   func(signed []byte) ([]byte, error)
}

// parseSigningKey reads an RSA private key in PEM (PKCS#8 or PKCS#1) for RS256, or takes text as a shared token for HS256. It
// refuses what a messenger would refuse as the key's other half. An error never quotes text.
func parseSigningKey(text []byte, encoding sharedtoken.Encoding) (*signingKey, error) {
	if block, _ := pem.Decode(text); block != nil {
		return parsePrivate(block)
	}
	secret, err := encoding.Decode(string(bytes.TrimRight(text, "\r\n")))
	if err != nil {
		return nil, err
	}
	if _, err := sigkey.ParseShared(secret, ""); err != nil {
		return nil, err
	}
	return &signingKey{"HS256", func(signed []byte) ([]byte, error) {
		mac := hmac.New(sha256.New, secret)
		mac.Write(signed)
		return mac.Sum(nil), nil
	}}, nil
}

func parsePrivate(block *pem.Block) (*signingKey, error) {
	var private *rsa.PrivateKey
	switch block.Type {
	case "RSA PRIVATE KEY":
		var err error
		if private, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, err
		}
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		var ok bool
		if private, ok = parsed.(*rsa.PrivateKey); !ok {
			return nil, errors.New("is not an RSA key; RS256 needs one")
		}
	case "ENCRYPTED PRIVATE KEY":
		return nil, cause.SigningKeyEncrypted.Err()
	case "OPENSSH PRIVATE KEY":
		return nil, cause.SigningKeyOpenSSH.Err()
	default:
		return nil, errors.New("is PEM, but not a private key; only its owner can sign with a key pair")
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&private.PublicKey)})
	if _, err := sigkey.ParsePublic(public, ""); err != nil {
		return nil, err
	}
	return &signingKey{"RS256", func(signed []byte) ([]byte, error) {
		digest := sha256.Sum256(signed)
		return rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	}}, nil
}

// sign returns a token with these claims, as a compact JWS. Its header has kid unless that is "".
func (k *signingKey) sign(kid string, claims map[string]any) (string, error) {
	header := map[string]any{"alg": k.algorithm, "typ": "JWT"}
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
	signature, err := k.sign256([]byte(signed))
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
