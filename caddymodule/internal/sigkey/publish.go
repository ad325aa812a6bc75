package sigkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
)

// A publishedKey is a public key as a JWK.
type publishedKey struct {
	KeyType   string `json:"kty"`
	KeyID     string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	Modulus   string `json:"n,omitempty"`
	Exponent  string `json:"e,omitempty"`
}

// Published returns the JWK Set (RFC 7517 section 5) of public keys, for their owner to publish. The kid of a key without one is
// its thumbprint (RFC 7638), which is never that of another key.
func Published(keys ...*Key) ([]byte, error) {
	var set struct {
		Keys []publishedKey `json:"keys"`
	}
	kids := make(map[string]bool)
	for _, k := range keys {
		published, thumbprint, err := k.publish()
		if err != nil {
			return nil, err
		}
		published.KeyID, published.Use, published.Algorithm = k.kid, "sig", k.alg.String()
		if published.KeyID == "" {
			sum := sha256.Sum256([]byte(thumbprint))
			published.KeyID = base64.RawURLEncoding.EncodeToString(sum[:])
		}
		if kids[published.KeyID] {
			return nil, errors.New("two keys have the same kid; give each key a kid of its own")
		}
		kids[published.KeyID] = true
		set.Keys = append(set.Keys, published)
	}
	return json.MarshalIndent(set, "", "  ")
}

// publish returns the members that are the key itself, and the text whose hash is its thumbprint.
func (k *Key) publish() (p publishedKey, thumbprint string, err error) {
	encode := base64.RawURLEncoding.EncodeToString
	switch public := k.material.(type) {
	case *rsa.PublicKey:
		p.KeyType, p.Modulus, p.Exponent = "RSA", encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())
		return p, `{"e":"` + p.Exponent + `","kty":"RSA","n":"` + p.Modulus + `"}`, nil
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, then x and y, which are as long as the field is (RFC 7518 section 6.2.1.2)
		if err != nil {
			return p, "", err
		}
		half := 1 + len(point)/2
		p.KeyType, p.Curve, p.X, p.Y = "EC", algorithms[k.alg].curve, encode(point[1:half]), encode(point[half:])
		return p, `{"crv":"` + p.Curve + `","kty":"EC","x":"` + p.X + `","y":"` + p.Y + `"}`, nil
	case ed25519.PublicKey:
		p.KeyType, p.Curve, p.X = "OKP", "Ed25519", encode(public)
		return p, `{"crv":"Ed25519","kty":"OKP","x":"` + p.X + `"}`, nil
	}
	return p, "", errors.New("a shared token is a secret, and must not be published")
}
