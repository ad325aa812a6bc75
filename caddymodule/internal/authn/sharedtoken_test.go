package authn

import (
	"regexp"
	"testing"
)

func TestGeneratedSharedTokenIsTextThatAnyLibraryTakes(t *testing.T) {
	form := regexp.MustCompile(`^mst_[A-Za-z0-9_-]{49}$`)
	seen := make(map[string]bool)
	for range 100 {
		text := GenerateSharedToken()
		if !form.MatchString(text) || seen[text] {
			t.Fatal("a generated token has another form, or comes twice")
		}
		seen[text] = true
		key, err := ParseSharedToken([]byte(text), "")
		if err != nil {
			t.Fatal(err)
		}
		if string(key.material.([]byte)) != text {
			t.Fatal("the HMAC key is not the text itself")
		}
	}
}

// A secret that lost a character on the clipboard still makes signatures, only no good ones: people would look for the
// mistake everywhere but there.
func TestDamagedGeneratedSharedTokenIsFoundAtLoad(t *testing.T) {
	text := GenerateSharedToken()
	for i := len(sharedTokenPrefix); i < len(text); i++ {
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		for name, damaged := range map[string]string{
			"changed": text[:i] + string([]byte{other}) + text[i+1:],
			"lost":    text[:i] + text[i+1:],
			"twice":   text[:i] + text[i:i+1] + text[i:],
			"cut off": text[:i],
		} {
			_, err := ParseSharedToken([]byte(damaged), "")
			if err == nil {
				t.Fatalf("character %d %s: no error", i, name)
			}
			wantError(t, err, "was damaged on the way")
		}
	}
	if _, err := ParseSharedToken([]byte("MST_"+text[4:]), ""); err != nil {
		t.Errorf("a secret of the operator's own, of another form: %v", err)
	}
}
