package keytext

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// What people configure in place of a public key. The forms are named, with the command that makes a public key of them; they are
// not read, because each of them needs a choice, a passphrase, or a tool of its own.

// IsPrivate reports whether err says that a private key was given.
func IsPrivate(err error) bool {
	return slices.Contains([]cause.Cause{cause.KeyPrivate, cause.KeyPrivateSSH, cause.KeyPuTTY, cause.KeyPKCS12}, cause.Of(err))
}

// binaryOf names binary files that begin with a mark of their own.
func binaryOf(text []byte) cause.Cause {
	switch {
	case bytes.HasPrefix(text, []byte("\xfe\xed\xfe\xed")), bytes.HasPrefix(text, []byte("\xce\xce\xce\xce")):
		return cause.KeyJKS
	case len(text) > 8 && text[1] == 0 && text[3] == 0 && text[5] == 0, len(text) > 8 && text[0] == 0 && text[2] == 0 && text[4] == 0:
		return cause.KeyUTF16
	case bytes.IndexByte(text, 0) >= 0:
		return cause.KeyBinary
	}
	return cause.None
}

// isPlaceholder reports whether text begins like a placeholder, such as {file:/path}. Behind the first brace of a JSON object is
// a quote, white space or the other brace. Placeholders that Caddy knows are replaced before.
func isPlaceholder(text []byte) bool {
	return len(text) > 1 && text[0] == '{' && (text[1] == '$' || ascii.IsLetterOrDigit(text[1]))
}

// formOf names the form of text, which is neither PEM nor a key in another form that the gateway reads.
func formOf(text []byte) cause.Cause {
	begins := ascii.Lower(string(text[:min(len(text), 32)]))
	for _, form := range []struct {
		prefix string
		cause  cause.Cause
	}{
		{"ssh-", cause.KeyOpenSSH}, {"ecdsa-", cause.KeyOpenSSH}, {"sk-", cause.KeyOpenSSH}, {"---- begin ssh2", cause.KeySSH2}, {"putty-user-key-file", cause.KeyPuTTY},
		{"http://", cause.KeyURL}, {"https://", cause.KeyURL}, {"/", cause.KeyFileName}, {"./", cause.KeyFileName}, {"../", cause.KeyFileName},
		{"<rsakeyvalue", cause.KeyXML}, {"<?xml", cause.KeyXML}, {"<!doctype", cause.KeyHTML}, {"<html", cause.KeyHTML},
		{"mi", cause.KeyBase64}, {"[", cause.KeyArray},
	} {
		if bytes.HasPrefix([]byte(begins), []byte(form.prefix)) {
			if form.cause == cause.KeyBase64 && !bytes.HasPrefix(text, []byte("MI")) {
				continue
			}
			return form.cause
		}
	}
	switch {
	case len(text) == 0:
		return cause.KeyEmpty
	case strings.Contains(begins, "begin ") || strings.Contains(begins, "begin%20"): // without its dashes, or not in capitals
		return cause.KeyDamaged
	}
	return cause.KeyUnknown
}

// labels are what other PEM blocks contain, by the words at their BEGIN lines.
var labels = map[string]cause.Cause{
	"CERTIFICATE REQUEST": cause.KeyRequest, "NEW CERTIFICATE REQUEST": cause.KeyRequest,
	"EC PARAMETERS": cause.KeyParameters, "DH PARAMETERS": cause.KeyParameters, "DSA PARAMETERS": cause.KeyParameters, "X9.42 DH PARAMETERS": cause.KeyParameters,
	"PKCS7": cause.KeyPKCS7, "CMS": cause.KeyPKCS7,
	"PGP PUBLIC KEY BLOCK": cause.KeyOpenPGP, "PGP PRIVATE KEY BLOCK": cause.KeyPrivate,
}

// otherDER names DER that is neither a key nor a certificate, or returns [cause.None].
func otherDER(der []byte) cause.Cause {
	if _, err := x509.ParseCertificateRequest(der); err == nil {
		return cause.KeyRequest
	}
	var first struct{ Element asn1.RawValue }
	if _, err := asn1.Unmarshal(der, &first); err != nil {
		return cause.None
	}
	var version int
	var kind asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(first.Element.FullBytes, &version); err == nil && version == 3 {
		return cause.KeyPKCS12
	}
	if _, err := asn1.Unmarshal(first.Element.FullBytes, &kind); err == nil && kind.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}) {
		return cause.KeyPKCS7
	}
	return cause.None
}

// checkAlgorithm names keys that cannot sign, and those of an algorithm that the standard library does not know.
func checkAlgorithm(public any, algorithm asn1.ObjectIdentifier, err error) error {
	if _, agreement := public.(*ecdh.PublicKey); agreement || slices.Contains(agreements, algorithm.String()) {
		return cause.KeyAgreement.Err()
	}
	if err != nil && algorithm != nil && !slices.Contains(known, algorithm.String()) {
		return cause.KeyAlgorithmOther.Err()
	}
	return err
}

var (
	agreements = []string{"1.3.101.110", "1.3.101.111", "1.2.840.113549.1.3.1", "1.2.840.10046.2.1"} // X25519, X448, Diffie-Hellman
	known      = []string{"1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112", "1.2.840.10040.4.1"}
)
