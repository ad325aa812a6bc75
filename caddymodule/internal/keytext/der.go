package keytext

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// isDER reports whether text is exactly one DER sequence, with which every form of a key begins. Its length is in it, so that
// text is never taken for one.
func isDER(text []byte) bool {
	if len(text) == 0 || text[0] != 0x30 {
		return false
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(text, &outer)
	return err == nil && len(rest) == 0
}

// parseDER reads a key without a label, and returns the label that it would have in PEM. The structures of the forms exclude
// each other.
func parseDER(der []byte) (key Key, label string, err error) {
	if isPrivate(der) {
		return Key{}, "", cause.KeyPrivate.Err()
	}
	if public, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return Key{Public: public}, "RSA PUBLIC KEY", nil
	}
	if _, key, err = parseCertificate(der); err == nil {
		return key, "CERTIFICATE", nil
	}
	if c := otherDER(der); c != cause.None {
		return Key{}, "", c.Err()
	}
	if key, err = parsePKIX(der); err != nil {
		if cause.Of(err) == cause.KeyAgreement {
			return Key{}, "", err
		}
		return Key{}, "", fmt.Errorf("is DER that is neither a public key nor a certificate: %w", err)
	}
	return key, "PUBLIC KEY", nil
}

func isPrivate(der []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return true
	}
	_, err := x509.ParseECPrivateKey(der)
	return err == nil
}

// parseCertificate reads a certificate as the envelope of a key: its dates and its issuer's signature are not checked.
func parseCertificate(der []byte) (*x509.Certificate, Key, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, Key{}, err
	}
	key, err := parsePKIX(certificate.RawSubjectPublicKeyInfo)
	return certificate, key, err
}

var (
	oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}

	pssHashes = map[string]int{"2.16.840.1.101.3.4.2.1": 256, "2.16.840.1.101.3.4.2.2": 384, "2.16.840.1.101.3.4.2.3": 512}
)

// parsePKIX reads a SubjectPublicKeyInfo (RFC 5280 section 4.1). The standard library does not know RSA keys under the OID of
// RSASSA-PSS (RFC 4055 section 1.2).
func parsePKIX(der []byte) (Key, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil {
		info.Algorithm.Algorithm = nil
	}
	if len(rest) > 0 || !info.Algorithm.Algorithm.Equal(oidRSAPSS) {
		public, err := x509.ParsePKIXPublicKey(der)
		if err := checkAlgorithm(public, info.Algorithm.Algorithm, err); err != nil {
			return Key{}, err
		}
		return Key{Public: public}, nil
	}
	hash, err := pssHash(info.Algorithm.Parameters.FullBytes)
	if err != nil {
		return Key{}, err
	}
	var public *rsa.PublicKey
	if public, err = x509.ParsePKCS1PublicKey(info.Key.RightAlign()); err != nil {
		return Key{}, err
	}
	return Key{Public: public, PSSOnly: true, PSSHash: hash}, nil
}

// pssHash returns the hash to which the parameters of a key restrict it (RFC 4055 section 3.1); 0 without parameters.
func pssHash(parameters []byte) (bits int, err error) {
	if len(parameters) == 0 {
		return 0, nil
	}
	var p struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF     pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt    int                      `asn1:"optional,explicit,tag:2,default:20"`
		Trailer int                      `asn1:"optional,explicit,tag:3,default:1"`
	}
	var mask pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(parameters, &p); err == nil && len(rest) == 0 {
		if rest, err = asn1.Unmarshal(p.MGF.Parameters.FullBytes, &mask); err == nil && len(rest) == 0 {
			bits = pssHashes[p.Hash.Algorithm.String()]
		}
	}
	if bits == 0 || !p.MGF.Algorithm.Equal(oidMGF1) || !mask.Algorithm.Equal(p.Hash.Algorithm) || p.Salt < 0 || p.Salt > bits/8 || p.Trailer != 1 {
		return 0, errors.New("its parameters for RSA-PSS match no algorithm of JWTs")
	}
	return bits, nil
}
