// Package keytext reads a public key in the forms in which people have one: what tools write, and what editors, environment
// variables, YAML and secret managers make of it.
//
// The forms are tried in a fixed order, and no text has two of them: what a text begins with decides, and a form that fails is an
// error instead of a reason to try the next one. There is one layer of quotes and one of base64, never two. The cost is linear in
// the size. An error names the form that was found, and never quotes text, which may be a secret.
//
// It does not know which keys are strong enough, or for which algorithm one is used. Begin reading with [Read].
package keytext

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A Key is what a text contains: a key, or a JSON object that may be one.
type Key struct {
	Public any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey, or a type that no signature has; nil with JSON
	JSON   []byte // a JSON object: a JWK, or a JWK Set

	// PSSOnly reports whether the key is under the OID of RSASSA-PSS, so that its owner signs with no other scheme. PSSHash is
	// the only hash to use it with, as in SHA-256; 0 if its owner has not restricted it.
	PSSOnly bool
	PSSHash int // bits

	Note string // what its owner should know, or ""
}

// Read reads one public key. Errors continue a sentence that begins with the key's place.
func Read(text []byte) (Key, error) {
	text, err := withoutMark(text)
	if err != nil {
		return Key{}, err
	}
	if isDER(text) {
		key, _, err := parseDER(text)
		return key, err
	}
	if c := binaryOf(text); c != cause.None {
		return Key{}, c.Err()
	}
	text = unquoted(bytes.TrimSpace(text))
	switch {
	case isPlaceholder(text):
		return Key{}, cause.KeyPlaceholder.Err()
	case bytes.HasPrefix(text, []byte("{")):
		return Key{JSON: text}, nil
	case bytes.Contains(text, []byte(begin)):
		return parsePEM(text)
	case isSSH(text):
		return parseSSH(text)
	}
	if decoded := decodeBase64(text); isDER(decoded) {
		key, _, err := parseDER(decoded)
		return key, err
	} else if bytes.HasPrefix(bytes.TrimSpace(decoded), []byte(begin)) {
		return parsePEM(decoded)
	}
	return Key{}, formOf(text).Err()
}

// Portable returns the key as text that JSON can carry: binary forms become PEM, and UTF-16 becomes UTF-8. It does not check text
// that is portable already.
func Portable(text []byte) (string, error) {
	text, err := withoutMark(text)
	if err != nil || !isDER(text) {
		return string(text), err
	}
	_, label, err := parseDER(text)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: text})), nil
}

// withoutMark removes a byte-order mark, and decodes the UTF-16 that the mark announces. UTF-16 without a mark is not guessed.
func withoutMark(text []byte) ([]byte, error) {
	var unit func(b []byte) uint16
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return text[3:], nil
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		unit = func(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		unit = func(b []byte) uint16 { return uint16(b[1]) | uint16(b[0])<<8 }
	default:
		return text, nil
	}
	if len(text)%2 != 0 {
		return nil, errors.New("is UTF-16 that ends in the middle of a character; save it as UTF-8")
	}
	units := make([]uint16, 0, len(text)/2)
	for b := text[2:]; len(b) > 0; b = b[2:] {
		units = append(units, unit(b))
	}
	decoded := []byte(string(utf16.Decode(units)))
	if bytes.ContainsRune(decoded, utf8.RuneError) {
		return nil, errors.New("is UTF-16 that is damaged; save it as UTF-8")
	}
	return decoded, nil
}

// unquoted removes the quotes of a shell, of YAML or of JSON around the whole text, once.
func unquoted(text []byte) []byte {
	if len(text) < 2 || text[0] != text[len(text)-1] || text[0] != '"' && text[0] != '\'' {
		return text
	}
	var inner string
	if text[0] == '"' && json.Unmarshal(text, &inner) == nil {
		return bytes.TrimSpace([]byte(inner))
	}
	return bytes.TrimSpace(text[1 : len(text)-1])
}

// decodeBase64 decodes text that is base64 or base64url as a whole, wrapped or not, and returns nil for any other.
func decodeBase64(text []byte) []byte {
	packed := bytes.TrimRight(withoutSpace(text), "=")
	alphabet := base64.RawStdEncoding
	if bytes.ContainsAny(packed, "-_") {
		alphabet = base64.RawURLEncoding
	}
	decoded, err := alphabet.AppendDecode(nil, packed)
	if err != nil {
		return nil
	}
	return decoded
}

func withoutSpace(text []byte) []byte {
	packed := make([]byte, 0, len(text))
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			packed = append(packed, c)
		}
	}
	return packed
}
