package ascii

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// Of all characters that Unicode folds to an ASCII letter, or brings to one by changing the case, none equals it here.
func TestOnlyASCIILettersAreFolded(t *testing.T) {
	met := 0
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if unicode.SimpleFold(r) == r {
			continue // it is folded to nothing
		}
		for letter := 'A'; letter <= 'z'; letter++ {
			if !unicode.IsLetter(letter) || !strings.EqualFold(string(r), string(letter)) {
				continue
			}
			met++
			if EqualFold(string(r), string(letter)) || Lower(string(r)) != string(r) {
				t.Errorf("%U is taken for %q", r, letter)
			}
		}
	}
	if met != 4 { // U+017F and U+212A, each for two cases
		t.Errorf("Unicode folds %d characters to letters of ASCII, want 4", met)
	}
}

func TestComparisonsOfEveryByte(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			one, other := string([]byte{byte(a)}), string([]byte{byte(b)})
			want := a == b || a < 0x80 && b < 0x80 && strings.EqualFold(one, other)
			if got := EqualFold("x"+one+"y", "X"+other+"Y"); got != want {
				t.Errorf("%q and %q: got %v, want %v", one, other, got, want)
			}
		}
		letterOrDigit := a < 0x80 && (unicode.IsLetter(rune(a)) || unicode.IsDigit(rune(a)))
		if got := IsLetterOrDigit(byte(a)); got != letterOrDigit {
			t.Errorf("%q: a letter or digit: got %v", rune(a), got)
		}
		want, err := strconv.ParseUint(string([]byte{'1', byte(a)}), 16, 8)
		if got, ok := Hex([]byte{'1', byte(a)}); ok != (err == nil) || got != rune(want) {
			t.Errorf("%q: as a hexadecimal digit: got %x, %v", rune(a), got, ok)
		}
	}
}

func TestHex(t *testing.T) {
	for text, want := range map[string]rune{"0": 0, "7f": 0x7f, "fF": 0xff, "D83d": 0xd83d, "fffffff": 0xfffffff} {
		if got, ok := Hex([]byte(text)); !ok || got != want {
			t.Errorf("%s: got %x, %v, want %x", text, got, ok, want)
		}
	}
	for _, text := range []string{"g", "0x1", "-1", "+1", "1_0", " 1", "1 ", "\uff11"} {
		if got, ok := Hex([]byte(text)); ok || got != 0 {
			t.Errorf("%q: got %x, %v", text, got, ok)
		}
	}
}

func TestEqualFoldAndLower(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"websocket", "WebSocket", true}, {"websocket", "websocke", false}, {"websocket", "websocket ", false},
		{"webſocket", "websocket", false}, {"web\u017focket", "web\u017focket", true}, {"\u212aeep-alive", "keep-alive", false},
		{"@[`{", "`{@[", false}, {"É", "é", false},
	} {
		if got := EqualFold(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: got %v, want %v", test.a, test.b, got, test.want)
		}
	}
	for text, want := range map[string]string{"": "", "abc": "abc", "aBC-1": "abc-1", "É\u212aK": "É\u212ak", "Z[@": "z[@"} {
		if got := Lower(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
