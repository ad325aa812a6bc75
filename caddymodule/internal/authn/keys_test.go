package authn

import (
	"context"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rsaKeyNamed returns a key of which only the form is real; nothing was ever signed with it.
func rsaKeyNamed(t testing.TB, kid string, bits int) *Key {
	t.Helper()
	key, err := newPublicKey(&rsa.PublicKey{N: modulus(bits), E: 65537}, kid)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeySetIsOfOneMethodAndItsKidsDiffer(t *testing.T) {
	hs, err := ParseSharedToken([]byte(testSecret), "a")
	if err != nil {
		t.Fatal(err)
	}
	many := make([]*Key, maxKeys+1)
	for i := range many {
		many[i] = rsaKeyNamed(t, fmt.Sprint("k", i), 2048+i)
	}
	for _, tt := range []struct {
		name string
		keys []*Key
		want string // "" is no error
	}{
		{"no key", nil, "no key is given"},
		{"keys of both methods", []*Key{rsaKeyNamed(t, "a", 2048), hs}, "different methods"},
		{"one kid twice", []*Key{rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "a", 2049)}, "same kid"},
		{"eleven keys", many, "11 keys are given, and a messenger takes at most 10"},
		{"ten keys", many[:maxKeys], ""},
		{"kids that differ in case", []*Key{rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "A", 2049)}, ""},
		{"several keys without a kid", []*Key{rsaKeyNamed(t, "", 2048), rsaKeyNamed(t, "", 2049)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewKeySet(tt.keys...)
			if tt.want != "" {
				wantError(t, err, tt.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKidSelectsTheKeysThatHaveItAndThoseThatHaveNone(t *testing.T) {
	named := []*Key{rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "b", 2049)}
	mixed := append([]*Key{rsaKeyNamed(t, "", 2050)}, named...)
	five := append([]*Key{rsaKeyNamed(t, "c", 2051), rsaKeyNamed(t, "d", 2052)}, mixed...)
	nameless := make([]*Key, maxCandidates+1)
	for i := range nameless {
		nameless[i] = rsaKeyNamed(t, "", 2060+i)
	}
	kid := func(id string) header { return header{kid: id, hasKID: true} }
	for _, tt := range []struct {
		name string
		keys []*Key
		h    header
		want string // the lengths of the keys that are tried, or the code
	}{
		{"no kid: all keys", mixed, header{}, "2050 2048 2049"},
		{"a kid of a key", named, kid("b"), "2049"},
		{"a kid of a key, and a key without one", mixed, kid("b"), "2049 2050"},
		{"an unknown kid, and a key without one", mixed, kid("x"), "2050"},
		{"an unknown kid", named, kid("x"), "key_unknown"},
		{"a kid in another case", named, kid("A"), "key_unknown"},
		{"an empty kid is unknown", named, kid(""), "key_unknown"},
		{"an empty kid, and a key without one", mixed, kid(""), "2050"},
		{"no kid, and more keys than are tried", five, header{}, "key_unknown"},
		{"a kid among more keys than are tried", five, kid("c"), "2051 2050"},
		{"four keys without a kid", nameless[:maxCandidates], kid("x"), "2060 2061 2062 2063"},
		{"five keys without a kid", nameless, kid("x"), "key_unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := NewKeySet(tt.keys...)
			if err != nil {
				t.Fatal(err)
			}
			keys, _, rej := set.candidates(tt.h)
			var tried []string
			for _, k := range keys {
				tried = append(tried, fmt.Sprint(k.material.(*rsa.PublicKey).N.BitLen()))
			}
			got := strings.Join(tried, " ")
			if rej != nil {
				got += string(rej.Code)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// During a change of secrets both are there, and more than four of them cost next to nothing to try.
func TestEverySharedTokenOfAMessengerIsTried(t *testing.T) {
	var keys []*Key
	var secrets []string
	for i := range maxKeys {
		secrets = append(secrets, fmt.Sprintf("%s %d", testSecret, i))
		key, err := ParseSharedToken([]byte(secrets[i]), "")
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	v := verifierOf(t, Policy{}, keys...)
	for _, secret := range secrets {
		token := macWith(secret, segment(`{"alg":"HS256","kid":"any"}`)+"."+segment(`{"identity":"mark"}`))
		if _, rej := v.Verify(context.Background(), token, nil); rej != nil {
			t.Errorf("got %+v, want ok", rej)
		}
	}
	if _, rej := v.Verify(context.Background(), signHS256(`{"identity":"mark"}`), nil); outcomeText(rej) != "signature_invalid" {
		t.Errorf("a secret that is none of them: got %s, want signature_invalid", outcomeText(rej))
	}
}

// A kid says which key is meant; it does not make another key's signature good.
func TestKidOfAnotherKeyIsRefused(t *testing.T) {
	one, err := ParseSharedToken([]byte(testSecret), "one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := ParseSharedToken([]byte(testSecret+"2"), "two")
	if err != nil {
		t.Fatal(err)
	}
	v := verifierOf(t, Policy{}, one, two)
	for kid, want := range map[string]string{`"one"`: "ok", `"\u006fne"`: "ok", `"two"`: "signature_invalid", `"three"`: "key_unknown", `"one "`: "key_unknown"} {
		_, rej := v.Verify(context.Background(), forgeHS256(`{"alg":"HS256","kid":`+kid+`}`, `{"identity":"mark"}`), nil)
		if got := outcomeText(rej); got != want {
			t.Errorf("kid %s: got %s, want %s", kid, got, want)
		}
	}
}

func TestSharedFindsKeysThatTwoMessengersHaveInCommon(t *testing.T) {
	set := func(keys ...*Key) *KeySet { return newKeySet(keys) }
	a, b, c := rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "b", 2049), rsaKeyNamed(t, "other name", 2048)
	if !Shared(set(a, b), set(c)) {
		t.Error("one key under two kids is not found")
	}
	if Shared(set(a), set(b)) {
		t.Error("two keys are taken for one")
	}
	if !slices.Equal(set(a, b).active(), []*Key{a, b}) {
		t.Error("active does not return all keys")
	}
}
