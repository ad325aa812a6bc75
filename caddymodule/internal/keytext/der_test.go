package keytext

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// A made certificate; issuer is nil for one that signs itself.
type made struct {
	*x509.Certificate
	key *rsa.PrivateKey
}

func makeCertificate(t *testing.T, name string, ca bool, issuer *made) *made {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(0, 0), IsCA: ca, BasicConstraintsValid: true}
	key, parent := privateKey(), template
	if issuer == nil {
		issuer = &made{template, key}
	} else {
		parent = issuer.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &made{certificate, key}
}

func (m *made) pem() string { return pemOf("CERTIFICATE", m.Raw) }

// pssText writes the key under the OID of RSA-PSS, as openssl genpkey -algorithm RSA-PSS does.
func pssText(t *testing.T, parameters []byte) string {
	t.Helper()
	inner := x509.MarshalPKCS1PublicKey(&privateKey().PublicKey)
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: oidRSAPSS, Parameters: asn1.RawValue{FullBytes: parameters}}, asn1.BitString{Bytes: inner, BitLength: 8 * len(inner)}})
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PUBLIC KEY", der)
}

func pssParameters(t *testing.T, hash, mask int, salt int) []byte {
	t.Helper()
	identifier := func(bits int) pkix.AlgorithmIdentifier {
		for oid, known := range pssHashes {
			if known == bits {
				var id asn1.ObjectIdentifier
				for part := range strings.SplitSeq(oid, ".") {
					n := 0
					for _, c := range part {
						n = 10*n + int(c-'0')
					}
					id = append(id, n)
				}
				return pkix.AlgorithmIdentifier{Algorithm: id, Parameters: asn1.NullRawValue}
			}
		}
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}} // SHA-1
	}
	inner, err := asn1.Marshal(identifier(mask))
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt int                      `asn1:"explicit,tag:2"`
	}{identifier(hash), pkix.AlgorithmIdentifier{Algorithm: oidMGF1, Parameters: asn1.RawValue{FullBytes: inner}}, salt})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A key under the OID of RSA-PSS says what its owner signs with, which is a restriction and not decoration.
func TestKeysForRSAPSS(t *testing.T) {
	for _, tt := range []struct {
		name       string
		parameters []byte
		hash       int
		complaint  string
	}{
		{"no parameters", nil, 0, ""},
		{"SHA-256", pssParameters(t, 256, 256, 32), 256, ""},
		{"SHA-256 with a shorter salt as the least", pssParameters(t, 256, 256, 20), 256, ""},
		{"SHA-512", pssParameters(t, 512, 512, 64), 512, ""},
		{"SHA-256 with a longer salt than PS256 has", pssParameters(t, 256, 256, 33), 0, "no algorithm of JWTs"},
		{"SHA-256 with the mask of SHA-512", pssParameters(t, 256, 512, 32), 0, "no algorithm of JWTs"},
		{"SHA-1", pssParameters(t, 160, 160, 20), 0, "no algorithm of JWTs"},
		{"the defaults, which are SHA-1", []byte{0x30, 0}, 0, "no algorithm of JWTs"},
		{"NULL", []byte{5, 0}, 0, "no algorithm of JWTs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := Read([]byte(pssText(t, tt.parameters)))
			if tt.complaint != "" {
				wantComplaint(t, err, tt.complaint)
				return
			}
			der, _ := pem.Decode([]byte(pssText(t, tt.parameters)))
			portable, err2 := Portable(der.Bytes)
			if again, err3 := Read([]byte(portable)); err2 != nil || err3 != nil || again.PSSOnly != key.PSSOnly || again.PSSHash != key.PSSHash {
				t.Errorf("as text the key has lost its restriction: %+v %v %v", again, err2, err3)
			}
			if err != nil || !key.PSSOnly || key.PSSHash != tt.hash || !privateKey().PublicKey.Equal(key.Public) {
				t.Errorf("got %+v %v", key, err)
			}
		})
	}
}

// Of a chain the first certificate is the site's. Everything that looks like a chain and is none is refused.
func TestChainsOfCertificates(t *testing.T) {
	root := makeCertificate(t, "root", true, nil)
	intermediate := makeCertificate(t, "intermediate", true, root)
	site := makeCertificate(t, "site", false, intermediate)
	key, err := Read([]byte(site.pem() + intermediate.pem() + root.pem()))
	if err != nil || !site.key.PublicKey.Equal(key.Public) || !strings.Contains(key.Note, "must not be added") {
		t.Fatalf("got %+v %v", key, err)
	}
	if key, err := Read([]byte(site.pem())); err != nil || key.Note != "" {
		t.Errorf("one certificate: got %+v %v", key, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(site.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"the CA first", root.pem() + site.pem(), "begins with a CA's"},
		{"the intermediate first", intermediate.pem() + root.pem(), "begins with a CA's"},
		{"two certificates of one CA", site.pem() + makeCertificate(t, "other", false, intermediate).pem(), "not a chain"},
		{"a gap", site.pem() + root.pem(), "not a chain"},
		{"a public key behind the chain", site.pem() + intermediate.pem() + pemOf("PUBLIC KEY", derOf(t, &site.key.PublicKey)), "more than one PEM block"},
		{"a private key behind it, as web servers have it", site.pem() + pemOf("PRIVATE KEY", private), "private key"},
		{"a damaged one behind it", site.pem() + intermediate.pem()[:200], "more than one PEM block"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read([]byte(tt.text))
			wantComplaint(t, err, tt.want)
		})
	}
}

func wantComplaint(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got the error %v, want one that says %q", err, want)
	}
}
