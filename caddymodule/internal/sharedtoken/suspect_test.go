package sharedtoken

import (
	"slices"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Secrets as tools and files make them, of which one side often reads something other than the other.
func TestSuspiciousSecretsAreReported(t *testing.T) {
	const base64Of64 = "u3Vt0mJ1x8pQyq2b5v7n9w4zA6cDfGhJkLmNpQrStUvWxYz0123456789+/abcdE\nFGHIJKLMNOPQRSTUVWXYZ=="
	var seen []cause.Cause
	for _, tt := range []struct {
		origin, text string
		stated       bool
		want         cause.Cause
	}{
		{"docker run --env-file, which keeps quotes", `"` + testSecret + `"`, false, cause.SecretQuoted},
		{"the same, with the encoding stated", "'" + testSecret + "'", true, cause.SecretQuoted},
		{"Notepad of Windows 10 and older, saved as UTF-8", "\xef\xbb\xbf" + testSecret, false, cause.SecretMark},
		{"a line of an env file", "CHAT_SECRET=" + testSecret, false, cause.SecretAssigned},
		{"openssl rand -base64 64, which makes two lines", base64Of64, false, cause.SecretBroken},
		{"openssl rand -base64 32", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=", false, cause.SecretLooksBase64},
		{"Python: secrets.token_urlsafe(32)", "3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs", false, cause.SecretLooksBase64},
		{"openssl rand -hex 32", strings.Repeat("0a", 32), false, cause.SecretLooksHex},

		{"openssl rand -hex 32, with the encoding stated", strings.Repeat("0a", 32), true, cause.None},
		{"a passphrase", "correct horse battery staple and more", false, cause.None},
		{"a quote inside", `it's not "quoted" but long enough to be`, false, cause.None},
		{"a generated shared token", Generate(), false, cause.None},
		{"base64 of an odd length", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ", false, cause.None},
	} {
		if got := Suspect(tt.text, tt.stated); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.origin, got, tt.want)
		}
		seen = append(seen, tt.want)
	}
	for c := cause.SecretQuoted; c < cause.KeyEmpty; c++ {
		if !slices.Contains(seen, c) {
			t.Errorf("no secret of this test leads to %s", c)
		}
	}
}

func TestPartsOfASecretAreFound(t *testing.T) {
	for value, want := range map[string]bool{"": false, "short": false, "secret": true, "xx43-chaxx": true, "another text": false, testSecret: true} {
		if got := SharesPiece(value, testSecret); got != want {
			t.Errorf("%q: got %t, want %t", value, got, want)
		}
	}
}

// Errors of decoding say what the text has that the encoding does not, and nothing of the text.
func TestDecodingErrorsDescribeTheText(t *testing.T) {
	for _, tt := range []struct {
		encoding   Encoding
		text, want string
	}{
		{Base64, `"3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="`, "quotes around it"}, {Hex, "'" + strings.Repeat("0a", 32) + "'", "quotes around it"},
		{Base64URL, "a passphrase", "is not base64url"}, {Raw, "\xff\xfec\x00h\x00a\x00t\x00", "UTF-16"}, {"", "\xfe\xff\x00c\x00h\x00a\x00t", "UTF-16"},
	} {
		if _, err := tt.encoding.Decode(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "0a0a") {
			t.Errorf("%s %q: got %v, want %s", tt.encoding, tt.text, err, tt.want)
		}
	}
}
