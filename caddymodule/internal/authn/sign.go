package authn

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// A SigningKey makes tokens. The gateway itself never signs; this serves the tools around it.
type SigningKey struct {
	alg      jwa.SignatureAlgorithm
	material any
}

// ParseSigningKey reads an RSA private key in PEM (PKCS#8 or PKCS#1) for RS256, or takes text as a shared token for
// HS256. An error never quotes text.
func ParseSigningKey(text []byte, encoding Encoding) (*SigningKey, error) {
	if block, _ := pem.Decode(text); block != nil {
		private, err := parsePrivate(block)
		if err != nil {
			return nil, err
		}
		if _, err := newPublicKey(&private.PublicKey, ""); err != nil {
			return nil, err
		}
		return &SigningKey{alg: jwa.RS256, material: private}, nil
	}
	secret, err := encoding.Decode(string(bytes.TrimRight(text, "\r\n")))
	if err != nil {
		return nil, err
	}
	key, err := ParseSharedToken(secret, "")
	if err != nil {
		return nil, err
	}
	return &SigningKey{alg: jwa.HS256, material: key.material}, nil
}

func parsePrivate(block *pem.Block) (*rsa.PrivateKey, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if private, ok := parsed.(*rsa.PrivateKey); ok {
			return private, nil
		}
		return nil, errors.New("is no RSA key; RS256 needs one")
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("is an encrypted private key; decrypt it first: openssl pkey -in key.pem")
	default:
		return nil, errors.New("is PEM, but no private key; only its owner can sign with a key pair")
	}
}

// Sign returns a token with these claims, as a compact JWS. its header has kid unless that is "".
func (k *SigningKey) Sign(kid string, claims map[string]any) (string, error) {
	signer, err := jws.NewSigner(k.alg)
	if err != nil {
		return "", err
	}
	header := map[string]any{"alg": k.alg.String(), "typ": "JWT"}
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
	signature, err := signer.Sign([]byte(signed), k.material)
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
