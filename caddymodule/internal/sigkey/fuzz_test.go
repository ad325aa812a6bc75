package sigkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// FuzzPublicKey loads anything as a public key. What loads is a sound RSA key, and is the same when it is written out and
// loaded again; no error quotes the text.
func FuzzPublicKey(f *testing.F) {
	public := &rsa.PublicKey{N: modulus(2048), E: 65537}
	for _, text := range []string{
		pkixText(f, public), pemText("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(public)), jwkText(public, ""), jwkText(public, `,"kid":"a","use":"sig","key_ops":["verify"]`),
		jwkText(public, `,"d":"AA"`), `{"kty":"oct","k":"AAAA"}`, `{"keys":[]}`, `{"kty":"RSA","n":"AQ","e":"AQAAAAAAAQAB"}`, pemText("PRIVATE KEY", []byte("x")), "ssh-rsa AAAA", "-----BEGIN ",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublic(text, "", rs256)
		if err != nil {
			for i := 0; i+40 <= len(text); i += 10 {
				if strings.Contains(err.Error(), string(text[i:i+40])) {
					t.Errorf("%q is quoted: %v", text, err)
				}
			}
			return
		}
		public, ok := key.material.(*rsa.PublicKey)
		if !ok || key.alg != RS256 || public.N.BitLen() < 2048 || public.N.BitLen() > 8192 || public.N.Bit(0) == 0 || public.E < 3 || public.E%2 == 0 || public.E >= 1<<31 {
			t.Fatalf("%q is accepted as %+v", text, key)
		}
		again, err := ParsePublic([]byte(pkixText(t, public)), "", rs256)
		if err != nil || again.fingerprint != key.fingerprint {
			t.Errorf("%q: written out and loaded again: %v", text, err)
		}
		if json.Valid(text) { // a JWK; its private members have names of their own
			var members map[string]any
			if err := json.Unmarshal(text, &members); err == nil && (members["d"] != nil || members["kty"] != "RSA") {
				t.Errorf("%q is accepted", text)
			}
		}
	})
}

// FuzzSharedToken loads any text as a shared token. What is accepted is long enough, is not PEM and does not end in a NUL; an error
// does not quote the text.
func FuzzSharedToken(f *testing.F) {
	for _, text := range []string{testSecret, "short", "-----BEGIN PUBLIC KEY-----", sharedtoken.Generate(), `{"kty":"oct"}`, "AAAA====", strings.Repeat("ab", 32), strings.Repeat("00", 32)} {
		for i := range encodings {
			f.Add(uint8(i), text)
		}
	}
	f.Fuzz(func(t *testing.T, encoding uint8, text string) {
		secret, err := encodings[int(encoding)%len(encodings)].Decode(text)
		var key *Key
		if err == nil {
			key, err = ParseShared(secret, "", HS256)
		}
		if err != nil {
			if len(text) >= 24 && strings.Contains(err.Error(), text[:24]) {
				t.Errorf("%q is quoted: %v", text, err)
			}
			return
		}
		material := key.material.([]byte)
		if !bytes.Equal(material, secret) || len(material) < 32 || material[len(material)-1] == 0 || bytes.Contains(material, []byte("-----BEGIN ")) {
			t.Errorf("%q is accepted", text)
		}
	})
}

var encodings = []sharedtoken.Encoding{sharedtoken.Raw, sharedtoken.Base64, sharedtoken.Base64URL, sharedtoken.Hex}
