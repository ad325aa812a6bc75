package sharedtoken

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
)

const testSecret = "not-a-secret-but-43-characters-of-some-text"

func TestGeneratedSharedTokenIsPlainText(t *testing.T) {
	seen := make(map[string]bool)
	for hash, form := range map[int]string{32: `^mst_[A-Za-z0-9_-]{49}$`, 48: `^mst_[A-Za-z0-9_-]{70}$`, 64: `^mst_[A-Za-z0-9_-]{92}$`} {
		for range 100 {
			text := GenerateFor(hash)
			if !regexp.MustCompile(form).MatchString(text) || seen[text] || len(text) < hash {
				t.Fatal("a generated token has another form, or comes twice")
			}
			seen[text] = true
			if err := Check(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(Generate()) != 53 {
		t.Error("a token for nothing else is not one for HS256")
	}
}

// A secret that lost a character on the clipboard still makes signatures, but invalid ones: people would look for the
// mistake everywhere but there.
func TestDamagedGeneratedSharedTokenIsFoundAtLoad(t *testing.T) {
	for _, hash := range randomBytes {
		damage(t, GenerateFor(hash))
	}
	for name, secret := range map[string]string{"empty": "", "of another form": "MST_" + Generate()[4:]} {
		if err := Check(secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func damage(t *testing.T, text string) {
	t.Helper()
	for i := len(Prefix); i < len(text); i++ {
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		for name, damaged := range map[string]string{
			"changed":  text[:i] + string([]byte{other}) + text[i+1:],
			"lost":     text[:i] + text[i+1:],
			"repeated": text[:i] + text[i:i+1] + text[i:],
			"cut off":  text[:i],
		} {
			if err := Check(damaged); err == nil {
				t.Fatalf("character %d %s: no error", i, name)
			} else if strings.Contains(err.Error(), text[len(Prefix):len(Prefix)+8]) {
				t.Fatal("the error quotes the secret")
			}
		}
	}
}

func TestEncodingsOfASharedToken(t *testing.T) {
	secret := bytes.Repeat([]byte{0xfb, 0xff, 'x', 1}, 8)
	for encoding, texts := range map[Encoding][]string{
		Raw:       {string(secret)},
		"":        {string(secret)},
		Base64:    {base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret)},
		Base64URL: {base64.URLEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret)},
		Hex:       {hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret))},
	} {
		for _, text := range texts {
			got, err := encoding.Decode(text)
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%q: got %x %v", encoding, got, err)
			}
		}
	}
	for _, tt := range []struct {
		name     string
		encoding Encoding
		text     string
		want     string
	}{
		{"a line break at the end", Raw, testSecret + "\n", "white space"},
		{"a blank in front", Raw, " " + testSecret, "white space"},
		{"a NUL at the end", Raw, testSecret + "\x00", "NUL"},
		{"base64url called base64", Base64, "-_-_", "is not base64"},
		{"base64 called base64url", Base64URL, "+/+/", "is not base64url"},
		{"text called hex", Hex, testSecret, "is not hex"},
		{"half a byte of hex", Hex, "abc", "is not hex"},
		{"an unknown encoding", "base32", testSecret, "not one of: raw, base64, base64url, hex"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.encoding.Decode(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), testSecret[:8]) {
				t.Errorf("the error quotes the secret: %v", err)
			}
			if tt.encoding.Known() != (tt.encoding != "base32") {
				t.Errorf("Known: got %v", tt.encoding.Known())
			}
		})
	}
}
