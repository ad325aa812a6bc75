package keytext

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Certificates reads the certificates of authorities: PEM with one or more, in the forms in which people have it, or one in DER.
// Errors continue a sentence that begins with the text's place.
func Certificates(text []byte) ([]*x509.Certificate, error) {
	text, err := withoutMark(text)
	if err != nil {
		return nil, err
	}
	if isDER(text) {
		return derCertificate(text)
	}
	if c := binaryOf(text); c != cause.None {
		return nil, c.Err()
	}
	text = unquoted(bytes.TrimSpace(text))
	if !bytes.Contains(text, []byte(begin)) {
		decoded := decodeBase64(text)
		if isDER(decoded) {
			return derCertificate(decoded)
		}
		if text = bytes.TrimSpace(decoded); !bytes.HasPrefix(text, []byte(begin)) {
			return nil, errors.New("is not PEM; give the certificates of the authority (-----BEGIN CERTIFICATE-----)")
		}
	}
	var list []*x509.Certificate
	for found := (blocks{rest: lineBreaks.Replace(string(text))}); ; {
		next, another, err := found.next()
		switch {
		case err != nil && IsPrivate(err):
			return nil, errors.New("contains a private key, which the gateway must not have; give the certificates alone")
		case err != nil:
			return nil, err
		case !another && len(list) == 0:
			return nil, errDamaged
		case !another:
			return list, nil
		}
		if c, named := labels[next.label]; named {
			return nil, c.Err()
		}
		if next.label != "CERTIFICATE" {
			return nil, errors.New("contains a block that is not a certificate; give the certificates of the authority alone (-----BEGIN CERTIFICATE-----)")
		}
		der, err := next.decode()
		if err != nil {
			return nil, err
		}
		certificate, err := derCertificate(der)
		if err != nil {
			return nil, err
		}
		list = append(list, certificate...)
	}
}

// PortableCertificates returns the certificates of text as PEM.
func PortableCertificates(text []byte) (string, error) {
	certificates, err := Certificates(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, certificate := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	}
	return strings.TrimSpace(b.String()), nil
}

func derCertificate(der []byte) ([]*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(der)
	switch {
	case err == nil:
		return []*x509.Certificate{certificate}, nil
	case isPrivate(der):
		return nil, errors.New("is a private key, which the gateway must not have; give the certificate of the authority")
	case otherDER(der) != cause.None:
		return nil, otherDER(der).Err()
	}
	return nil, errors.New("contains a certificate that cannot be read; export it again, as PEM")
}
