package sharedtoken

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// pieceLength is how many bytes of a token or a secret are a piece of it that must not be shown.
const pieceLength = 6

// SharesPiece reports whether six bytes in a row of value are in text too.
func SharesPiece(value, text string) bool {
	return shares(value, text, pieceLength)
}

// shares reports whether n bytes in a row of value are in text too.
func shares(value, text string, n int) bool {
	for i := 0; i+n <= len(value); i++ {
		if strings.Contains(text, value[i:i+n]) {
			return true
		}
	}
	return false
}

// Reveals reports whether value has a piece of secret in it, as the text that it is or in another writing: base64, base64url or
// hexadecimal, of the secret or of what it decodes to. A piece is as long in each of them, in bytes of the secret: with a shorter one
// in hexadecimal, most long numbers would have a piece of one of a thousand secrets.
func Reveals(value, secret string) bool {
	readings := []string{secret}
	for _, e := range []Encoding{Base64, Base64URL, Hex} {
		if decoded, err := e.Decode(secret); err == nil {
			readings = append(readings, string(decoded))
		}
	}
	standard, lower := strings.NewReplacer("-", "+", "_", "/").Replace(value), ascii.Lower(value)
	return slices.ContainsFunc(readings, func(reading string) bool {
		return SharesPiece(value, reading) ||
			shares(lower, hex.EncodeToString([]byte(reading)), 2*pieceLength) ||
			slices.ContainsFunc(inBase64(reading), func(text string) bool { return shares(standard, text, pieceLength*4/3) })
	})
}

// inBase64 returns how text is written inside longer texts in base64, such as a name and a password: in one of three ways, by the
// length of what is in front of it. Characters that depend on that are left out.
func inBase64(text string) (texts []string) {
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + text))
		texts = append(texts, encoded[(8*before+5)/6:])
	}
	return texts
}
