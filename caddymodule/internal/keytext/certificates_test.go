package keytext

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// authority returns a certificate in DER, and its private key in PEM.
func authority(t *testing.T) (der []byte, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

// A CA file is copied by the same people as a key file. What is not a certificate is named, and a private key is never taken.
func TestCertificateFormats(t *testing.T) {
	der, private := authority(t)
	other, _ := authority(t)
	one, two := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other}))
	wide := []byte("\xff\xfe")
	for _, unit := range utf16.Encode([]rune(one)) {
		wide = append(wide, byte(unit), byte(unit>>8))
	}
	damaged := append([]byte(nil), der...)
	damaged[5] ^= 0xff
	for name, tt := range map[string]struct {
		text string
		want int    // how many certificates
		says string // otherwise
	}{
		"one":                             {one, 1, ""},
		"two, as in a bundle":             {"# the root\n" + one + "\n# the other\n" + two, 2, ""},
		"twice the same":                  {one + one, 2, ""},
		"on one line":                     {strings.ReplaceAll(one+two, "\n", `\n`), 2, ""},
		"in quotes":                       {`"` + strings.ReplaceAll(one, "\n", `\n`) + `"`, 1, ""},
		"indented by YAML":                {"\n    " + strings.ReplaceAll(one+two, "\n", "\n    "), 2, ""},
		"with CR alone":                   {strings.ReplaceAll(one, "\n", "\r"), 1, ""},
		"in UTF-16":                       {string(wide), 1, ""},
		"with a byte-order mark":          {"\xef\xbb\xbf" + one, 1, ""},
		"DER":                             {string(der), 1, ""},
		"base64 of DER":                   {base64.StdEncoding.EncodeToString(der), 1, ""},
		"base64 of PEM, as in a Secret":   {base64.StdEncoding.EncodeToString([]byte(one + two)), 2, ""},
		"base64 of that":                  {base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(one)))), 0, "is not PEM"},
		"with a private key":              {one + private, 0, "private key"},
		"a private key in front":          {private + one, 0, "private key"},
		"a private key alone":             {private, 0, "private key"},
		"a public key":                    {"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", 0, "not a certificate"},
		"a bundle of Windows":             {"-----BEGIN PKCS7-----\nMIIB\n-----END PKCS7-----", 0, "PKCS#7"},
		"a request":                       {"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----", 0, "request"},
		"cut off":                         {one[:len(one)-20], 0, "damaged"},
		"cut off behind a whole one":      {one + two[:100], 0, "damaged"},
		"a certificate that is damaged":   {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: damaged})), 0, "cannot be read"},
		"a file name":                     {"/etc/ssl/ca.pem", 0, "is not PEM"},
		"a page":                          {"<html>", 0, "is not PEM"},
		"nothing":                         {"", 0, "is not PEM"},
		"a certificate that is commented": {"# " + strings.ReplaceAll(one, "\n", "\n# "), 0, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Certificates([]byte(tt.text))
			if tt.says == "" && (err != nil || len(got) != tt.want) || tt.says != "" && (err == nil || len(got) > 0 || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %d certificates and %v, want %d and %q", len(got), err, tt.want, tt.says)
			}
		})
	}
}
