package keytext

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
)

// One step further than the forms above is not taken.
func TestInvalidKeyFormsAreRefused(t *testing.T) {
	public := &privateKey().PublicKey
	der := derOf(t, public)
	whole := pemOf("PUBLIC KEY", der)
	base64Of := base64.StdEncoding.EncodeToString
	pkcs8, err := x509.MarshalPKCS8PrivateKey(privateKey())
	if err != nil {
		t.Fatal(err)
	}
	e, n := rsaParts(public)
	line := sshLine("ssh-rsa", e, n)
	for _, tt := range []struct{ name, text, want string }{
		{"base64 of base64", base64Of([]byte(base64Of(der))), "base64 that is not a whole key|unknown form"},
		{"base64 of a JWK", base64Of([]byte(`{"kty":"RSA"}`)), "unknown form"},
		{"base64url of more than the DER", base64.RawURLEncoding.EncodeToString(append(bytes.Clone(der), 0xff, 0xff, 0xff)), "not a whole key"},
		{"base64 and base64url in one text", base64.RawStdEncoding.EncodeToString(append([]byte{0xfb, 0xff, 0xfe}, der...)) + "-_", "unknown form"},
		{"hex of the DER", "308201", "unknown form"},
		{"quotes in quotes", `"'` + whole + `'"`, "damaged PEM"},
		{"line breaks that are escaped three times", strings.ReplaceAll(whole, "\n", `\\\\n`), "damaged PEM"},
		{"line breaks with a backslash too many", strings.ReplaceAll(whole, "\n", `\\\n`), "damaged PEM"},
		{"backslashes within the base64", strings.Replace(whole, "A", `\A`, 1), "damaged PEM"},
		{"dashes of a word processor", strings.ReplaceAll(whole, "-----", "—"), "damaged PEM"},
		{"BEGIN and END in small letters", strings.NewReplacer("BEGIN", "begin", "END", "end").Replace(whole), "damaged PEM"},
		{"percent-encoded PEM", "-----BEGIN%20PUBLIC%20KEY-----%0AMII", "damaged PEM"},
		{"an assignment", "KEY=" + whole, "damaged PEM"},
		{"PEM that is commented out", "# " + strings.ReplaceAll(whole, "\n", "\n# "), "damaged PEM"},
		{"PEM whose end has another label", strings.Replace(whole, "END PUBLIC", "END RSA PUBLIC", 1), "damaged PEM"},
		{"PEM without its last line", whole[:len(whole)-20], "damaged PEM"},
		{"PEM with a header inside", strings.Replace(whole, "KEY-----\n", "KEY-----\nComment: x\n\n", 1), "damaged PEM"},
		{"a damaged block in front of a whole one", whole[:200] + "\n" + whole, "damaged PEM"},
		{"text behind the end, on its line", strings.TrimSpace(whole) + " x", "damaged PEM"},
		{"a second key on the same line", strings.ReplaceAll(whole+whole, "\n", ""), "damaged PEM"},
		{"a second key with \\n", strings.ReplaceAll(whole+whole, "\n", `\n`), "more than one PEM block"},
		{"UTF-16 without a mark", utf16Text(whole, false)[2:], "UTF-16 without a byte-order mark"},
		{"UTF-16 that is cut", utf16Text(whole, false)[:len(whole)], "damaged PEM|UTF-16"},
		{"UTF-16 with half a character", utf16Text(whole, false) + "x", "middle of a character"},
		{"UTF-16 with a lone surrogate", "\xff\xfe\x00\xd8-\x00", "UTF-16 that is damaged"},
		{"DER with a byte behind it", string(der) + "\n", "binary|unknown"},
		{"DER without its last byte", string(der[:len(der)-1]), "binary|unknown"},
		{"DER of something else", "\x30\x03\x02\x01\x05", "neither a public key nor a certificate"},
		{"a private key in DER", string(pkcs8), "private key"},
		{"a private key of PKCS#1 in DER", string(x509.MarshalPKCS1PrivateKey(privateKey())), "private key"},
		{"a private key in DER, in base64", base64Of(pkcs8), "private key"},
		{"a private key in PEM, in base64", base64Of([]byte(pemOf("PRIVATE KEY", pkcs8))), "private key"},
		{"a private key with \\n", strings.ReplaceAll(pemOf("PRIVATE KEY", pkcs8), "\n", `\n`), "private key"},
		{"a private key in UTF-16", utf16Text(pemOf("RSA PRIVATE KEY", pkcs8), false), "private key"},
		{"a private key that is cut off", pemOf("PRIVATE KEY", pkcs8)[:90], "private key"},
		{"a private key behind a public one", whole + pemOf("PRIVATE KEY", pkcs8), "private key"},
		{"two lines of OpenSSH", line + "\n" + line, "more than one line"},
		{"options in front of an OpenSSH key", "restrict " + line, "unknown form"},
		{"an OpenSSH certificate", "ssh-rsa-cert-v01@openssh.com AAAA", "OpenSSH key of another type"},
		{"a key of a security token", "sk-ssh-ed25519@openssh.com AAAA", "OpenSSH key of another type"},
		{"an OpenSSH key of another type than its line says", strings.Replace(line, "ssh-rsa", "ssh-ed25519", 1), "is damaged"},
		{"an OpenSSH key with bytes behind it", sshLine("ssh-rsa", e, n, []byte("x")), "is damaged"},
		{"an OpenSSH key whose modulus is negative", sshLine("ssh-rsa", e, n[1:]), "is damaged"},
		{"an OpenSSH key with a zero too many", sshLine("ssh-rsa", e, append([]byte{0}, n...)), "is damaged"},
		{"an OpenSSH key with an exponent of 40 bits", sshLine("ssh-rsa", []byte{1, 0, 0, 0, 1}, n), "is damaged"},
		{"an OpenSSH key of a point that is not on the curve", sshLine("ecdsa-sha2-nistp256", []byte("nistp256"), append([]byte{4}, make([]byte, 64)...)), "is damaged"},
		{"an OpenSSH key of another curve", sshLine("ecdsa-sha2-nistp256", []byte("nistp384"), nil), "is damaged"},
		{"a length beyond the end", "ssh-rsa " + base64Of([]byte{0xff, 0xff, 0xff, 0xff}), "is damaged"},
		{"RFC 4716", "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "RFC 4716"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := Read([]byte(tt.text))
			if err == nil {
				t.Fatalf("got %+v", key)
			}
			for want := range strings.SplitSeq(tt.want, "|") {
				if strings.Contains(err.Error(), want) {
					return
				}
			}
			t.Errorf("got the error %v, want %q", err, tt.want)
		})
	}
}

// FuzzRead: nothing panics, nothing is read twice, and whatever is read is a key.
func FuzzRead(f *testing.F) {
	public := &privateKey().PublicKey
	der := derOf(f, public)
	whole := pemOf("PUBLIC KEY", der)
	e, n := rsaParts(public)
	for _, seed := range []string{whole, string(der), base64.StdEncoding.EncodeToString(der), utf16Text(whole, true), sshLine("ssh-rsa", e, n),
		strings.ReplaceAll(whole, "\n", `\n`), `"` + whole + `"`, `{"keys":[]}`, whole + whole, "# " + whole} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		key, err := Read(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the text was changed")
		}
		switch {
		case err != nil && (key.Public != nil || key.JSON != nil):
			t.Fatalf("an error and a key: %v", err)
		case err != nil:
			return
		case (key.Public == nil) == (key.JSON == nil):
			t.Fatalf("got %+v", key)
		case key.JSON != nil:
			return
		}
		// The key in the usual form is the same key.
		again, err := x509.MarshalPKIXPublicKey(key.Public)
		if err != nil {
			return // a type that no signature has
		}
		public, comparable := key.Public.(interface{ Equal(crypto.PublicKey) bool })
		if second, err := Read(again); err == nil && comparable && !public.Equal(second.Public) {
			t.Fatalf("in the usual form it is another key: %+v and %+v", key, second)
		}
	})
}
