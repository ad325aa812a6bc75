// Package sharedtoken is about the text of a shared token: how a generated one looks, and how the text of any other encodes
// its bytes.
//
// It knows nothing of keys, of messengers or of how tokens are stored; sigkey.ParseShared decides which secret is accepted.
//
// Begin reading with [Generate].
package sharedtoken

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A generated shared token is a prefix that secret scanners can find, at least 256 random bits, and a checksum that shows a lost
// or mistyped character before the first contact is refused. The HMAC key is the whole text, so that any JWT library takes it
// as it is.
const (
	// Prefix is what every generated shared token begins with.
	Prefix = "mst_"

	checksumLength = 6 // characters
)

// randomBytes are the sizes of the random part, which are those of the hashes: an HMAC key should have as many bits as its hash
// (RFC 7518 section 3.2).
var randomBytes = [...]int{32, 48, 64}

// Generate returns a new shared token with 32 random bytes, for HS256.
func Generate() string { return GenerateFor(randomBytes[0]) }

// GenerateFor returns a new shared token for a hash of this many bytes: 32, 48 or 64.
func GenerateFor(hash int) string {
	random := make([]byte, hash)
	_, _ = rand.Read(random) // never fails: the program ends instead
	text := Prefix + base64.RawURLEncoding.EncodeToString(random)
	return text + checksum(text)
}

func checksum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:checksumLength]
}

// Check returns an error if secret was a generated shared token and is damaged. Secrets of any other form pass.
func Check(secret string) error {
	if !strings.HasPrefix(secret, Prefix) {
		return nil
	}
	body := len(secret) - checksumLength
	whole := slices.ContainsFunc(randomBytes[:], func(n int) bool { return body == len(Prefix)+base64.RawURLEncoding.EncodedLen(n) })
	if !whole || checksum(secret[:body]) != secret[body:] {
		return errors.New("is a generated shared token (mst_…) that was damaged: a character is missing or wrong; copy the whole text again")
	}
	return nil
}

// IsIn reports whether text has a generated shared token in it, whole or cut off: what operators see must not have one.
func IsIn(text string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for {
		_, rest, found := strings.Cut(text, Prefix)
		if !found {
			return false
		}
		if len(rest)-len(strings.TrimLeft(rest, alphabet)) >= 24 {
			return true
		}
		text = rest
	}
}

// An Encoding is how the text of a shared token encodes its bytes.
type Encoding string

// The encodings of a shared token. Most JWT libraries take the bytes of the text as they are: Raw.
const (
	Raw       Encoding = "raw"
	Base64    Encoding = "base64"
	Base64URL Encoding = "base64url"
	Hex       Encoding = "hex"
)

// ErrEncoding is the error for an encoding that is not known.
var ErrEncoding = errors.New("has an encoding that is not one of: raw, base64, base64url, hex")

// Known reports whether e is one of the encodings.
func (e Encoding) Known() bool {
	return slices.Contains([]Encoding{Raw, Base64, Base64URL, Hex}, e)
}

// Decode returns the bytes that text encodes. Base64 may be padded or not. An error never quotes text.
func (e Encoding) Decode(text string) ([]byte, error) {
	var secret []byte
	var err error
	switch e {
	case Raw, "":
		// An editor's line break at the end of a file would be part of the secret here, and not at the site.
		if strings.TrimSpace(text) != text {
			return nil, errors.New("begins or ends with white space; remove it, or encode the secret and say how (base64, base64url, hex)")
		}
		if (strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff")) && strings.Contains(text, "\x00") {
			return nil, errors.New("is UTF-16; save it as UTF-8 without a byte-order mark")
		}
		if strings.HasSuffix(text, "\x00") {
			return nil, errors.New("ends in a NUL byte, which is not text; encode the secret and say how (base64, base64url, hex)")
		}
		return []byte(text), nil
	case Base64:
		secret, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	case Base64URL:
		secret, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	case Hex:
		secret, err = hex.DecodeString(text)
	default:
		return nil, ErrEncoding
	}
	switch {
	case err != nil && Unquoted(text) != text:
		return nil, errors.New("is not " + string(e) + ": it has quotes around it; remove them")
	case err != nil:
		return nil, errors.New("is not " + string(e))
	}
	return secret, nil
}

// Unquoted returns text without quotes around it.
func Unquoted(text string) string {
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	return text
}

// Joined returns text without the line breaks in it.
func Joined(text string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(text) }

// Resembles returns the encoding in which text probably encodes a key: it has the length of 32, 48 or 64 bytes, and no other
// characters. It returns [Raw] for other texts, and for generated shared tokens, which are used as they are.
func Resembles(text string) Encoding {
	if strings.HasPrefix(text, Prefix) {
		return Raw
	}
	for _, e := range []Encoding{Hex, Base64, Base64URL} {
		if secret, err := e.Decode(text); err == nil && (len(secret) == 32 || len(secret) == 48 || len(secret) == 64) {
			return e
		}
	}
	return Raw
}

// isAssignment reports whether text is a line of an env file: a name in capitals, and the secret behind it.
func isAssignment(text string) bool {
	name, value, found := strings.Cut(text, "=")
	return found && len(name) >= 3 && len(value) >= 16 && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

// Suspect returns what is probably not intended about the text of a secret that is used as it is, or [cause.None]. stated reports
// whether the configuration says that it is.
func Suspect(text string, stated bool) cause.Cause {
	switch {
	case strings.HasPrefix(text, "\xef\xbb\xbf"):
		return cause.SecretMark
	case Unquoted(text) != text:
		return cause.SecretQuoted
	case isAssignment(text):
		return cause.SecretAssigned
	case Joined(text) != text:
		return cause.SecretBroken
	case stated:
		return cause.None
	}
	switch Resembles(text) {
	case Hex:
		return cause.SecretLooksHex
	case Base64, Base64URL:
		return cause.SecretLooksBase64
	}
	return cause.None
}
