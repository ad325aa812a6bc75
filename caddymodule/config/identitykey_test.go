package config

import (
	"strings"
	"testing"
)

func TestIdentityKeyIsAStringOfLettersDigitsAndSigns(t *testing.T) {
	for _, claim := range []string{"sub", "identity", "user_id", "https://example.com/id", "客户", "हिन्दी", "id2", "a.b-c:d", "x"} {
		if err := CheckIdentityKey(claim); err != nil {
			t.Errorf("%q: %v", claim, err)
		}
	}
	for claim, want := range map[string]string{
		"": "empty", "exp": "time claim", "nbf": "time claim", "iat": "time claim", "user id": "other than letters", "user\tid": "other than letters",
		"a\x00": "other than letters", "{env.HOME}": "other than letters", `a"b`: "other than letters", "\xff": "UTF-8", "a#b": "other than letters", "a\u200bb": "other than letters",
	} {
		if err := CheckIdentityKey(claim); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", claim, err, want)
		}
	}
}
