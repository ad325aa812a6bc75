package printable

import (
	"encoding/json"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// Every character is either printed as it is, or escaped so that JSON reads it back.
func TestControlCharactersAreEscaped(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		large := r >= 0x20000 && r < 0xe0000 || r >= 0xf0000 // whole planes of ideographs, of nothing, and for private use
		if !utf8.ValidRune(r) || large && r%16 != 0 && r&0xffff < 0xfff0 && !testsize.Soaking() {
			continue
		}
		text := Line(string(r))
		if text == string(r) {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || unicode.In(r, unicode.Cf, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Co, unicode.Bidi_Control, unicode.Join_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
				t.Errorf("U+%04X is printed as it is", r)
			}
			continue
		}
		var back string
		if err := json.Unmarshal([]byte(`"`+text+`"`), &back); err != nil || back != string(r) {
			t.Errorf("U+%04X is escaped as %s, which JSON reads as %q (%v)", r, text, back, err)
		}
	}
	for text, want := range map[string]string{"\xff": "\ufffd", "a\xc0\x80": "a\ufffd\ufffd", "Zoë 客户 ❤": "Zoë 客户 ❤", "a\nb\tc": `a\u000ab\u0009c`, "": ""} {
		if got := Line(text); got != want {
			t.Errorf("printable(%q) is %q, want %q", text, got, want)
		}
	}
	if got := Text("a\nb\tc\r"); got != "a\nb\tc\\u000d" {
		t.Errorf("got %q", got)
	}
}
