package keytext

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// spki returns a public key of the algorithm with this OID.
func spki(t *testing.T, oid ...int) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: oid}, asn1.BitString{Bytes: make([]byte, 32), BitLength: 256}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Each file that people have in place of a public key is named, with the command that makes one of it; and each cause of this
// section has such a file.
func TestUnsupportedKeyFormatsHaveACause(t *testing.T) {
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "site"}}, privateKey())
	if err != nil {
		t.Fatal(err)
	}
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := asn1.Marshal(struct {
		Kind asn1.ObjectIdentifier
		Rest asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.NullRawValue})
	if err != nil {
		t.Fatal(err)
	}
	store, err := asn1.Marshal(struct {
		Version int
		Rest    asn1.RawValue
	}{3, asn1.NullRawValue})
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("QUJD", 8)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(privateKey())
	if err != nil {
		t.Fatal(err)
	}
	public := pemOf("PUBLIC KEY", derOf(t, &privateKey().PublicKey))
	var seen []cause.Cause
	for _, tt := range []struct {
		origin, text string
		want         cause.Cause
	}{
		{"an environment variable that is set and empty", " \n", cause.KeyEmpty},
		{"a heredoc that lost its last line", public[:len(public)/2], cause.KeyDamaged},
		{"openssl rsa -RSAPublicKey_out, renamed by hand", pemOf("PUBLIC KEY", x509.MarshalPKCS1PublicKey(&privateKey().PublicKey)), cause.KeyUndecodable},
		{"ssh-keygen -t ecdsa-sk: a security token", "sk-ecdsa-sha2-nistp256@openssh.com AAAA", cause.KeyOpenSSH},
		{"ssh-keygen -e", "---- BEGIN SSH2 PUBLIC KEY ----\n" + body + "\n---- END SSH2 PUBLIC KEY ----", cause.KeySSH2},
		{"PuTTYgen 0.75", "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", cause.KeyPuTTY},
		{"gpg --armor --export", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQEN" + body + "\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----", cause.KeyOpenPGP},
		{"Windows certificate export (.p7b), text", pemOf("PKCS7", bundle), cause.KeyPKCS7},
		{"Windows certificate export (.p7b), binary", string(bundle), cause.KeyPKCS7},
		{"Windows certificate export (.pfx)", string(store), cause.KeyPKCS12},
		{"keytool -genkeypair -storetype JKS", "\xfe\xed\xfe\xed\x00\x00\x00\x02", cause.KeyJKS},
		{"a file of something else", "\x1f\x8b\x08\x00\x00\x00", cause.KeyBinary},
		{"PowerShell, with the mark cut off", utf16Text(public, false)[2:], cause.KeyUTF16},
		{".NET: RSA.ToXmlString", "<RSAKeyValue><Modulus>" + body + "</Modulus></RSAKeyValue>", cause.KeyXML},
		{"curl of an address that wants a login", "<!DOCTYPE html><title>Sign in</title>", cause.KeyHTML},
		{"openssl req -new", pemOf("CERTIFICATE REQUEST", request), cause.KeyRequest},
		{"openssl req -new -outform DER", string(request), cause.KeyRequest},
		{"openssl ecparam -name prime256v1", pemOf("EC PARAMETERS", []byte("x")), cause.KeyParameters},
		{"openssl crl", pemOf("X509 CRL", []byte("x")), cause.KeyPEMOther},
		{"two public keys in one file", public + public, cause.KeySeveral},
		{"openssl genpkey", pemOf("PRIVATE KEY", pkcs8), cause.KeyPrivate},
		{"openssl ecparam -genkey, which writes two blocks", pemOf("EC PARAMETERS", []byte("x")) + pemOf("EC PRIVATE KEY", []byte("x")), cause.KeyPrivate},
		{"ssh-keygen", "-----BEGIN OPENSSH PRIVATE KEY-----\n" + body + "\n-----END OPENSSH PRIVATE KEY-----", cause.KeyPrivateSSH},
		{"openssl genpkey -algorithm X25519", pemOf("PUBLIC KEY", derOf(t, agreement.PublicKey())), cause.KeyAgreement},
		{"openssl genpkey -algorithm X448", pemOf("PUBLIC KEY", spki(t, 1, 3, 101, 111)), cause.KeyAgreement},
		{"openssl genpkey -algorithm ML-DSA-44", pemOf("PUBLIC KEY", spki(t, 2, 16, 840, 1, 101, 3, 4, 3, 17)), cause.KeyAlgorithmOther},
		{"a URL for jwks", "https://login.example.com/jwks.json", cause.KeyURL},
		{"a path without its placeholder", "/etc/caddy/key.pem", cause.KeyFileName},
		{"a relative path without its placeholder", "../key.pem", cause.KeyFileName},
		{"a placeholder with a colon", "{file:/etc/caddy/key.pem}", cause.KeyPlaceholder},
		{"a placeholder without a dot", "{FILE /etc/caddy/key.pem}", cause.KeyPlaceholder},
		{"a variable that was not replaced", "{$CHAT_KEY}", cause.KeyPlaceholder},
		{"the keys of a JWK Set", `[{"kty":"RSA"}]`, cause.KeyArray},
		{"a console of a cloud, one line copied", base64.StdEncoding.EncodeToString(derOf(t, &privateKey().PublicKey))[:64], cause.KeyBase64},
		{"a passphrase", "correct horse", cause.KeyUnknown},
	} {
		key, err := Read([]byte(tt.text))
		if err == nil || cause.Of(err) != tt.want {
			t.Errorf("%s: got %+v %v, want %s", tt.origin, key, err, tt.want)
			continue
		}
		if !strings.HasPrefix(err.Error(), tt.want.Info().Text) || !strings.HasSuffix(err.Error(), tt.want.Info().Fix) {
			t.Errorf("%s: got the error %q, want the texts of the table", tt.origin, err)
		}
		if private := strings.Contains(tt.text, "PRIVATE KEY") || tt.want == cause.KeyPuTTY || tt.want == cause.KeyPKCS12; IsPrivate(err) != private {
			t.Errorf("%s: private is %t, want %t", tt.origin, IsPrivate(err), private)
		}
		for i := 0; i+6 <= len(body); i++ {
			if strings.Contains(err.Error(), body[i:i+6]) {
				t.Errorf("%s: the error quotes the file: %v", tt.origin, err)
			}
		}
		seen = append(seen, tt.want)
	}
	for c := cause.KeyEmpty; c < cause.SigningKeyOpenSSH; c++ {
		if !slices.Contains(seen, c) {
			t.Errorf("no file of this test leads to %s", c)
		}
	}
}
