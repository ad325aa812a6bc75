package keytext

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

const (
	begin = "-----BEGIN "
	end   = "-----END "
	dash  = "-----"
)

var (
	errDamaged = cause.KeyDamaged.Err()
	errSeveral = cause.KeySeveral.Err()
)

// A block is one PEM block (RFC 7468) whose label was read.
type block struct {
	label string
	body  string
}

// blocks finds the blocks of text one after the other. It is not [encoding/pem], which wants the lines as tools write them: here a
// block may be on one line, with its line breaks lost or spelled out, and indented. A block begins where a line begins, so that
// one that is commented out is not read.
type blocks struct{ rest string }

// lineBreaks are those that JSON and dotenv files spell out, also where one of them is inside the other and its backslashes are
// escaped, and those of other systems. No key has a backslash in it.
var lineBreaks = strings.NewReplacer(`\\r\\n`, "\n", `\\n`, "\n", `\\r`, "\n", `\r\n`, "\n", `\n`, "\n", `\r`, "\n", "\r\n", "\n", "\r", "\n")

// next returns the next block, and false after the last one. A block that is not whole is an error, instead of text to skip: the
// one behind it may not be the one that was meant.
func (b *blocks) next() (block, bool, error) {
	for {
		before, after, found := strings.Cut(b.rest, begin)
		if !found {
			return block{}, false, nil
		}
		if strings.Trim(before[strings.LastIndexByte(before, '\n')+1:], " \t") != "" {
			_, b.rest, _ = strings.Cut(after, "\n") // the rest of this line is a comment, too
			continue
		}
		label, after, found := strings.Cut(after, dash)
		if !found || strings.Contains(label, "\n") {
			return block{}, false, errDamaged
		}
		switch {
		case label == "OPENSSH PRIVATE KEY":
			return block{}, false, cause.KeyPrivateSSH.Err()
		case strings.HasSuffix(label, "PRIVATE KEY"), strings.HasPrefix(label, "PGP PRIVATE KEY"):
			return block{}, false, cause.KeyPrivate.Err()
		}
		body, after, found := strings.Cut(after, end+label+dash)
		if !found {
			return block{}, false, errDamaged
		}
		var line string
		if line, b.rest, _ = strings.Cut(after, "\n"); strings.Trim(line, " \t") != "" {
			return block{}, false, errDamaged
		}
		return block{label, body}, true, nil
	}
}

func (b block) decode() ([]byte, error) {
	der, err := base64.StdEncoding.AppendDecode(nil, withoutSpace([]byte(b.body)))
	if err != nil {
		return nil, errDamaged
	}
	return der, nil
}

// parsePEM reads the only block of text, or the first certificate of a chain.
func parsePEM(text []byte) (Key, error) {
	found := blocks{rest: lineBreaks.Replace(string(text))}
	first, ok, err := found.next()
	if err != nil {
		return Key{}, err
	}
	if !ok {
		return Key{}, errDamaged
	}
	if c, named := labels[first.label]; named {
		if _, _, err := found.next(); IsPrivate(err) {
			return Key{}, err // as openssl ecparam -genkey writes both
		}
		return Key{}, c.Err()
	}
	der, err := first.decode()
	if err != nil {
		return Key{}, err
	}
	if first.label == "CERTIFICATE" {
		return parseChain(der, &found)
	}
	key, err := parseLabelled(first.label, der)
	if err != nil {
		return Key{}, err
	}
	if _, another, err := found.next(); another || err != nil {
		return Key{}, other(err)
	}
	return key, nil
}

// other says what is wrong with a block behind the first one.
func other(err error) error {
	if IsPrivate(err) {
		return fmt.Errorf("contains more than one PEM block, and %w", err)
	}
	return errSeveral
}

func parseLabelled(label string, der []byte) (key Key, err error) {
	switch label {
	case "PUBLIC KEY":
		key, err = parsePKIX(der)
	case "RSA PUBLIC KEY":
		key.Public, err = x509.ParsePKCS1PublicKey(der)
	default:
		return Key{}, cause.KeyPEMOther.Err()
	}
	return key, decodingError(label, err)
}

func decodingError(label string, err error) error {
	if err == nil {
		return nil
	}
	if cause.Of(err) != cause.None {
		return err
	}
	return &cause.Error{Cause: cause.KeyUndecodable, Detail: label + ": " + err.Error()}
}

// parseChain reads the certificate der, and checks that the blocks behind it are the certificates of those that issued it. Each
// must have issued the one before: two certificates that have nothing to do with each other are two keys, and it is unknown
// which of them was meant. A chain that begins with the CA would make everyone whom the CA has certified a signer.
func parseChain(der []byte, rest *blocks) (Key, error) {
	certificate, key, err := parseCertificate(der)
	if err != nil {
		return Key{}, decodingError("CERTIFICATE", err)
	}
	for leaf := certificate; ; {
		next, another, err := rest.next()
		switch {
		case err != nil:
			return Key{}, other(err)
		case !another:
			return key, nil
		case next.label != "CERTIFICATE":
			return Key{}, errSeveral
		case leaf.IsCA:
			return Key{}, errors.New("contains a chain of certificates that begins with a CA's; give the certificate of the site alone")
		}
		if der, err = next.decode(); err != nil {
			return Key{}, err
		}
		issuer, _, err := parseCertificate(der)
		if err != nil {
			return Key{}, decodingError("CERTIFICATE", err)
		}
		if !bytes.Equal(certificate.RawIssuer, issuer.RawSubject) {
			return Key{}, errors.New("contains more than one certificate, and they are not a chain; give each key a public_key line of its own")
		}
		certificate = issuer
		key.Note = "only the first certificate of the chain is used: the keys of the others belong to the CA and must not be added, because it signs for others as well"
	}
}
