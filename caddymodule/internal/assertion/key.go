package assertion

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// The algorithms that a gateway can sign with.
const (
	EdDSA = "EdDSA"
	ES256 = "ES256"
	RS256 = "RS256"
)

// Algorithms are all algorithms that a gateway can sign with; the first is the default.
var Algorithms = []string{EdDSA, ES256, RS256}

const rsaBits = 2048

// A Key is one signing key. It does not change.
type Key struct {
	fact
	private crypto.Signer
	jwk     json.RawMessage // of the public key
	header  string          // of its tokens, encoded
}

// A fact is a key as it is stored.
type fact struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	At      time.Time `json:"at"`
	Alg     string    `json:"alg"`
	Private []byte    `json:"private"` // PKCS #8
}

// kind names the facts of this package.
const kind = "assertion_key"

// newKey makes a key at that time.
func newKey(alg string, at time.Time) (*Key, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return (fact{ID: strings.ToLower(rand.Text()[:16]), Kind: kind, At: at.UTC(), Alg: alg, Private: der}).key()
}

// readKey reads a stored key. Its errors do not quote it.
func readKey(text json.RawMessage) (*Key, error) {
	var f fact
	if json.Unmarshal(text, &f) != nil || f.ID == "" || f.At.IsZero() {
		return nil, vault.ErrDamaged
	}
	if f.Kind != kind {
		return nil, vault.ErrNewer
	}
	return f.key()
}

func (f fact) key() (*Key, error) {
	private, err := x509.ParsePKCS8PrivateKey(f.Private)
	if err != nil {
		return nil, vault.ErrDamaged
	}
	encode := base64.RawURLEncoding.EncodeToString
	public := map[string]string{"kid": f.ID, "alg": f.Alg, "use": "sig"}
	switch private := private.(type) {
	case ed25519.PrivateKey:
		public["kty"], public["crv"], public["x"] = "OKP", "Ed25519", encode(private.Public().(ed25519.PublicKey))
	case *ecdsa.PrivateKey:
		point, err := private.PublicKey.Bytes()
		if err != nil || private.Curve != elliptic.P256() {
			return nil, vault.ErrDamaged
		}
		public["kty"], public["crv"], public["x"], public["y"] = "EC", "P-256", encode(point[1:33]), encode(point[33:])
	case *rsa.PrivateKey:
		public["kty"], public["n"], public["e"] = "RSA", encode(private.N.Bytes()), encode(big.NewInt(int64(private.E)).Bytes())
	default:
		return nil, vault.ErrDamaged
	}
	if kinds := map[string]string{EdDSA: "OKP", ES256: "EC", RS256: "RSA"}; kinds[f.Alg] != public["kty"] {
		return nil, vault.ErrDamaged // a key has one algorithm (RFC 8725 section 3.1)
	}
	jwk, err := json.Marshal(public)
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(map[string]string{"alg": f.Alg, "kid": f.ID, "typ": "JWT"})
	return &Key{fact: f, private: private.(crypto.Signer), jwk: jwk, header: encode(header)}, err
}

// sign returns the token of a payload in compact form.
func (k *Key) sign(payload []byte) (string, error) {
	text := k.header + "." + base64.RawURLEncoding.EncodeToString(payload)
	var signature []byte
	var err error
	switch private := k.private.(type) {
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, []byte(text))
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256([]byte(text))
		r, s, failed := ecdsa.Sign(rand.Reader, private, digest[:])
		if err = failed; err == nil { // RFC 7518 section 3.4: two numbers of 32 bytes, and not ASN.1
			signature = make([]byte, 64)
			r.FillBytes(signature[:32])
			s.FillBytes(signature[32:])
		}
	case *rsa.PrivateKey:
		digest := sha256.Sum256([]byte(text))
		signature, err = rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:])
	}
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
