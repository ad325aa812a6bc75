package keytext

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

var privateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func pemOf(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

func derOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// utf16Text encodes text as an editor of Windows saves it.
func utf16Text(text string, big bool) string {
	var b []byte
	for _, u := range utf16.Encode([]rune("\uFEFF" + text)) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

// sshLine writes a key as ssh-keygen does, with each part behind its length.
func sshLine(kind string, parts ...[]byte) string {
	var blob []byte
	for _, part := range append([][]byte{[]byte(kind)}, parts...) {
		blob = append(blob, byte(len(part)>>24), byte(len(part)>>16), byte(len(part)>>8), byte(len(part)))
		blob = append(blob, part...)
	}
	return kind + " " + base64.StdEncoding.EncodeToString(blob) + " site@host"
}

func rsaParts(key *rsa.PublicKey) (e, n []byte) {
	return big.NewInt(int64(key.E)).Bytes(), append([]byte{0}, key.N.Bytes()...)
}

// What a text becomes on its way into a configuration does not change the key.
func TestEquivalentFormsOfAKey(t *testing.T) {
	public := &privateKey().PublicKey
	der := derOf(t, public)
	whole := pemOf("PUBLIC KEY", der)
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	quoted, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	e, n := rsaParts(public)
	for name, text := range map[string]string{
		"PEM":                         whole,
		"PEM on one line with \\n":    strings.ReplaceAll(whole, "\n", `\n`),
		"PEM on one line with \\r\\n": strings.ReplaceAll(whole, "\n", `\r\n`),
		"PEM on one line with \\n, escaped twice":    strings.ReplaceAll(whole, "\n", `\\n`),
		"PEM on one line with \\r\\n, escaped twice": strings.ReplaceAll(whole, "\n", `\\r\\n`),
		"PEM in base64url":                           base64.RawURLEncoding.EncodeToString([]byte(whole)),
		"DER in base64url":                           base64.URLEncoding.EncodeToString(der),
		"DER in base64url without padding":           base64.RawURLEncoding.EncodeToString(der),
		"PEM on one line with blanks":                strings.ReplaceAll(whole, "\n", " "),
		"PEM on one line without any line break":     strings.ReplaceAll(whole, "\n", ""),
		"PEM with CR":                                strings.ReplaceAll(whole, "\n", "\r"),
		"PEM with CRLF":                              strings.ReplaceAll(whole, "\n", "\r\n"),
		"PEM that is indented":                       strings.ReplaceAll("\n"+whole, "\n", "\n      "),
		"PEM that is indented with tabs":             strings.ReplaceAll("\n"+whole, "\n", "\n\t"),
		"PEM in quotes":                              `"` + whole + `"`,
		"PEM in single quotes":                       "'" + strings.TrimSpace(whole) + "'\n",
		"PEM as a JSON string":                       string(quoted),
		"PEM as PHP writes JSON":                     strings.ReplaceAll(string(quoted), "/", `\/`),
		"PEM in base64":                              base64.StdEncoding.EncodeToString([]byte(whole)),
		"PEM in base64, wrapped":                     wrap(base64.StdEncoding.EncodeToString([]byte(whole))),
		"PEM in base64 without padding":              base64.RawStdEncoding.EncodeToString([]byte(whole)),
		"PEM in base64 in quotes":                    `"` + base64.StdEncoding.EncodeToString([]byte(whole)) + `"`,
		"PEM in UTF-16":                              utf16Text(whole, false),
		"PEM in UTF-16, big-endian, with CRLF":       utf16Text(strings.ReplaceAll(whole, "\n", "\r\n"), true),
		"PEM behind a comment with another key":      "# -----BEGIN PUBLIC KEY-----\n# AAAA\n# -----END PUBLIC KEY-----\n" + whole,
		"DER":                                        string(der),
		"DER in base64":                              base64.StdEncoding.EncodeToString(der),
		"DER in base64, wrapped":                     wrap(base64.StdEncoding.EncodeToString(der)),
		"PKCS#1 in DER":                              string(pkcs1),
		"PKCS#1 in DER, in base64":                   base64.StdEncoding.EncodeToString(pkcs1),
		"PKCS#1":                                     pemOf("RSA PUBLIC KEY", pkcs1),
		"a certificate in DER":                       string(makeCertificate(t, "site", false, nil).Raw),
		"a certificate of a CA, alone":               makeCertificate(t, "site", true, nil).pem(),
		"OpenSSH":                                    sshLine("ssh-rsa", e, n),
		"OpenSSH with a line break":                  sshLine("ssh-rsa", e, n) + "\n",
		"OpenSSH without a comment":                  strings.TrimSuffix(sshLine("ssh-rsa", e, n), " site@host"),
	} {
		t.Run(name, func(t *testing.T) {
			key, err := Read([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			portable, err := Portable([]byte(text))
			if again, err2 := Read([]byte(portable)); err != nil || err2 != nil || !public.Equal(again.Public) || !utf8.ValidString(portable) || strings.Contains(portable, "\x00") {
				t.Errorf("as text: %q %v %v", portable, err, err2)
			}
			if !public.Equal(key.Public) || key.PSSOnly || key.JSON != nil || key.Note != "" {
				t.Errorf("got %+v", key)
			}
		})
	}
}

func wrap(text string) (wrapped string) {
	for ; len(text) > 64; text = text[64:] {
		wrapped += text[:64] + "\r\n"
	}
	return wrapped + text + "\n"
}

func TestTypesOfOpenSSHKeys(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := Read([]byte(sshLine("ssh-ed25519", ed))); err != nil || !ed.Equal(key.Public) {
		t.Errorf("ssh-ed25519: got %+v %v", key, err)
	}
	for name, curve := range map[string]elliptic.Curve{"nistp256": elliptic.P256(), "nistp384": elliptic.P384(), "nistp521": elliptic.P521()} {
		ec, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := ec.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if key, err := Read([]byte(sshLine("ecdsa-sha2-"+name, []byte(name), point))); err != nil || !ec.PublicKey.Equal(key.Public) {
			t.Errorf("%s: got %+v %v", name, key, err)
		}
	}
}
