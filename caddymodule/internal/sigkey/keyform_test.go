package sigkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// pkix returns the PKIX form of any public key.
func pkixText(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pemText("PUBLIC KEY", der)
}

// certificateText returns a self-signed certificate that has expired: it is only the envelope of a key.
func certificateText(t testing.TB) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, NotAfter: time.Unix(0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &privateKey().PublicKey, privateKey())
	if err != nil {
		t.Fatal(err)
	}
	return pemText("CERTIFICATE", der)
}

func jwkText(public *rsa.PublicKey, more string) string {
	return fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"%s"%s}`, base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()), more)
}

func TestPublicKeyFormats(t *testing.T) {
	public := &privateKey().PublicKey
	forms := map[string]string{
		"PKIX":                                 pkixText(t, public),
		"PKIX with CRLF":                       strings.ReplaceAll(pkixText(t, public), "\n", "\r\n"),
		"PKIX with a byte order mark":          "\uFEFF" + pkixText(t, public),
		"PKIX with blanks around":              "\n  " + pkixText(t, public) + "\n\n",
		"PKIX without a line break at the end": strings.TrimSpace(pkixText(t, public)),
		"PKIX behind a line of text":           "the key of our site:\n" + pkixText(t, public),
		"PKCS#1":                               pemText("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(public)),
		"an expired certificate":               certificateText(t),
		"a JWK":                                jwkText(public, ""),
		"a JWK with its purpose":               jwkText(public, `,"use":"sig","alg":"RS256","key_ops":["verify"],"x5t":"x","ext":true`),
		"a JWK with blanks":                    " \n" + strings.ReplaceAll(jwkText(public, ""), ",", " ,\n "),
	}
	want, err := newPublicKey(public, "", nil, 0, rs256)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range forms {
		t.Run(name, func(t *testing.T) {
			key, err := ParsePublic([]byte(text), "", rs256)
			if err != nil {
				t.Fatal(err)
			}
			if key.alg != RS256 || key.fingerprint != want.fingerprint || key.kid != "" {
				t.Errorf("got %s %x %q", key.alg, key.fingerprint, key.kid)
			}
			if named, err := ParsePublic([]byte(text), "k1", rs256); err != nil || named.kid != "k1" {
				t.Errorf("with a kid: got %v %v", named, err)
			}
		})
	}
	for text, want := range map[string]string{jwkText(public, `,"kid":"own"`): "own", jwkText(public, `,"kid":""`): ""} {
		if key, err := ParsePublic([]byte(text), "", rs256); err != nil || key.kid != want {
			t.Errorf("the kid of a JWK: got %v %v, want %q", key, err, want)
		}
	}
	if key, err := ParsePublic([]byte(jwkText(public, `,"kid":"own"`)), "given", rs256); err != nil || key.kid != "given" {
		t.Errorf("a kid that was given over that of a JWK: got %v %v", key, err)
	}
	for bits, e := range map[int]int{2048: 3, 3072: 65537, 8192: 1<<31 - 1} {
		if _, err := ParsePublic([]byte(pkixText(t, &rsa.PublicKey{N: modulus(bits), E: e})), "", rs256); err != nil {
			t.Errorf("%d bits, exponent %d: %v", bits, e, err)
		}
	}
}

// pkixWithExponent writes the form by hand, for exponents that the standard library would not write.
func pkixWithExponent(t *testing.T, e *big.Int) string {
	t.Helper()
	inner, err := asn1.Marshal(struct{ N, E *big.Int }{modulus(2048), e})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, asn1.BitString{Bytes: inner, BitLength: 8 * len(inner)}})
	if err != nil {
		t.Fatal(err)
	}
	return pemText("PUBLIC KEY", der)
}

func TestRefusedPublicKeysHaveACause(t *testing.T) {
	public := &privateKey().PublicKey
	pkcs8, err := x509.MarshalPKCS8PrivateKey(privateKey())
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	whole := pkixText(t, public)
	body := strings.Join(strings.Split(whole, "\n")[1:], "")
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "is empty"},
		{"blanks", " \n", "is empty"},
		{"a private key in PKCS#8", pemText("PRIVATE KEY", pkcs8), "private key, which the gateway must not have"},
		{"a private key in PKCS#1", pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(privateKey())), "private key"},
		{"an encrypted private key", pemText("ENCRYPTED PRIVATE KEY", []byte("x")), "private key"},
		{"an OpenSSH private key", pemText("OPENSSH PRIVATE KEY", []byte("x")), "private key"},
		{"a private key in front of the public one", pemText("PRIVATE KEY", pkcs8) + whole, "private key"},
		{"a private key behind the public one", whole + pemText("PRIVATE KEY", pkcs8), "more than one PEM block"},
		{"two public keys", whole + whole, "more than one PEM block"},
		{"a certificate request", pemText("CERTIFICATE REQUEST", []byte("x")), "certificate request (CSR)"},
		{"PKIX under the name of PKCS#1", strings.ReplaceAll(whole, "PUBLIC KEY", "RSA PUBLIC KEY"), "cannot be decoded"},
		{"PKCS#1 under the name of PKIX", pemText("PUBLIC KEY", x509.MarshalPKCS1PublicKey(public)), "cannot be decoded"},
		{"a damaged certificate", pemText("CERTIFICATE", []byte("x")), "cannot be decoded"},
		{"an elliptic curve key", pkixText(t, &ec.PublicKey), "is an elliptic curve key (P-256), and only RS256 is accepted; if your site signs with ES256, name it with the key: alg ES256"},
		{"an Ed25519 key", pkixText(t, ed), "is an elliptic curve key (Ed25519), and only RS256 is accepted; if your site signs with EdDSA, name it with the key: alg EdDSA"},
		{"damaged PEM", whole[:len(whole)/2], "is damaged PEM"},
		{"base64 with the end of PEM", body, "base64 that is not a whole key"},
		{"a part of an OpenSSH key", "ssh-rsa AAAAB3NzaC1yc2E", "OpenSSH public key that is damaged"},
		{"an OpenSSH key of another type", "ssh-dss AAAAB3NzaC1kc3M", "ssh-keygen -e -m PKCS8"},
		{"a URL", "https://example.com/key.pem", "for keys from a URL use jwks"},
		{"a file name", "/etc/caddy/key.pem", "{file./path/to/key.pem}"},
		{"a JSON array", "[]", "is a JSON array"},
		{"a secret", "correct horse", "text of an unknown form"},
		{"1024 bits", pkixText(t, &rsa.PublicKey{N: modulus(1024), E: 65537}), "1024 bits; 2048 to 8192"},
		{"2047 bits", pkixText(t, &rsa.PublicKey{N: modulus(2047), E: 65537}), "2047 bits; 2048 to 8192"},
		{"8193 bits", pkixText(t, &rsa.PublicKey{N: modulus(8193), E: 65537}), "8193 bits; 2048 to 8192"},
		{"an even modulus", pkixText(t, &rsa.PublicKey{N: new(big.Int).Sub(modulus(2049), big.NewInt(1)), E: 65537}), "even modulus"},
		{"exponent 1, with which everything is its own signature", pkixWithExponent(t, big.NewInt(1)), "unsound exponent"},
		{"an even exponent", pkixWithExponent(t, big.NewInt(65536)), "unsound exponent"},
		{"an exponent over 2^31-1", pkixWithExponent(t, big.NewInt(1<<31+1)), "unsound exponent"},
		{"an exponent over 64 bits", pkixWithExponent(t, new(big.Int).Lsh(big.NewInt(1), 64)), "cannot be decoded"},
		{"exponent 0", pkixWithExponent(t, big.NewInt(0)), "cannot be decoded"},
		{"a negative exponent", pkixWithExponent(t, big.NewInt(-3)), "cannot be decoded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParsePublic([]byte(tt.text), "", rs256)
			wantError(t, err, tt.want)
			if body := strings.TrimSpace(tt.text); len(body) > 200 && strings.Contains(err.Error(), body[100:140]) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

// The HMAC key is exactly the text or the decoded bytes: any JWT library of the site must come to the same key.
func TestSharedTokenBytesAreTheKey(t *testing.T) {
	for _, secret := range []string{sharedtoken.Generate(), string(bytes.Repeat([]byte{0xfb, 0xff, 'x', 1}, 8)), "MST_" + sharedtoken.Generate()[4:]} {
		key, err := ParseShared([]byte(secret), "k1", HS256)
		if err != nil || key.alg != HS256 || key.kid != "k1" || string(key.material.([]byte)) != secret {
			t.Errorf("%q: got %+v %v", secret, key, err)
		}
	}
	generated := sharedtoken.Generate()
	_, err := ParseShared([]byte(generated[:len(generated)-1]), "", HS256)
	wantError(t, err, "was damaged: a character is missing or wrong")
}

// A public key as a secret is the oldest way to let everyone sign (RFC 8725 section 3.1), a short secret the most common.
func TestSharedTokensThatAreNotSecretsAreRefused(t *testing.T) {
	der, err := x509.MarshalPKIXPublicKey(&privateKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, secret, want string }{
		{"nothing", "", "has 0 bytes"},
		{"31 bytes", strings.Repeat("x", 31), "has 31 bytes; HS256 needs at least 32"},
		{"a public key", pkixText(t, &privateKey().PublicKey), "is PEM"},
		{"a certificate", certificateText(t), "is PEM"},
		{"a public key behind text", "key: " + pkixText(t, &privateKey().PublicKey), "is PEM"},
		{"a public key in base64", base64.StdEncoding.EncodeToString([]byte(pkixText(t, &privateKey().PublicKey))), "is a public key"},
		{"a public key in DER", string(der), "is a public key"},
		{"a public key in DER, in base64", base64.StdEncoding.EncodeToString(der), "is a public key"},
		{"a JWK of a secret", `{"kty":"oct","k":"` + testSecret + `"}`, "is a JSON object"},
		{"a JWK of a public key", jwkText(&privateKey().PublicKey, ""), "is a JSON object"},
		{"three NULs at the end, which HMAC does not see", testSecret + "\x00\x00\x00", "more than 2 NUL"},
		{"nothing but NULs", strings.Repeat("\x00", 32), "NUL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseShared([]byte(tt.secret), "", HS256)
			wantError(t, err, tt.want)
			if strings.Contains(err.Error(), testSecret[:8]) {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
	if _, err := ParseShared([]byte(strings.Repeat("x", 32)), "", HS256); err != nil {
		t.Errorf("32 bytes: %v", err)
	}
	// One of 256 random secrets decodes to bytes that end in NUL.
	bare, err := ParseShared([]byte(testSecret), "", HS256)
	if err != nil {
		t.Fatal(err)
	}
	if padded, err := ParseShared([]byte(testSecret+"\x00"), "", HS256); err != nil || !padded.Same(bare) {
		t.Errorf("with a NUL at the end: got %v, which is the same key for HMAC", err)
	}
	long := strings.Repeat("x", 64)
	whole, err := ParseShared([]byte(long), "", HS256)
	if err != nil {
		t.Fatal(err)
	}
	if longer, err := ParseShared([]byte(long+"\x00"), "", HS256); err != nil || longer.Same(whole) {
		t.Errorf("beyond the block of the hash a NUL counts: %v", err)
	}
	if _, err := ParseShared([]byte("{"+testSecret), "", HS256); err != nil {
		t.Errorf("a secret that merely begins with a brace: %v", err)
	}
}
