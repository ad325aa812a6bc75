package authn

import (
	"context"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// rsaKeyNamed returns a key of which only the form is real; nothing was ever signed with it.
func rsaKeyNamed(t testing.TB, kid string, bits int) *sigkey.Key {
	t.Helper()
	return publicKey(t, &rsa.PublicKey{N: modulus(bits), E: 65537}, kid)
}

func TestKeySetHasOneMethodAndUniqueKids(t *testing.T) {
	hs, err := sigkey.ParseShared([]byte(testSecret), "a", sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]*sigkey.Key, maxKeys+1)
	for i := range many {
		many[i] = rsaKeyNamed(t, fmt.Sprint("k", i), 2048+i)
	}
	for _, tt := range []struct {
		name string
		keys []*sigkey.Key
		want string // "" is no error
	}{
		{"no key", nil, "no key is given"},
		{"keys of both methods", []*sigkey.Key{rsaKeyNamed(t, "a", 2048), hs}, "different methods"},
		{"one kid twice", []*sigkey.Key{rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "a", 2049)}, "same kid"},
		{"eleven keys", many, "11 keys are given; a messenger accepts at most 10"},
		{"ten keys", many[:maxKeys], ""},
		{"kids that differ in case", []*sigkey.Key{rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "A", 2049)}, ""},
		{"several keys without a kid", []*sigkey.Key{rsaKeyNamed(t, "", 2048), rsaKeyNamed(t, "", 2049)}, ""},
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

func TestKidSelectsTheKeysWithItAndThoseWithoutAKid(t *testing.T) {
	named := []*sigkey.Key{rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "b", 2049)}
	mixed := append([]*sigkey.Key{rsaKeyNamed(t, "", 2050)}, named...)
	five := append([]*sigkey.Key{rsaKeyNamed(t, "c", 2051), rsaKeyNamed(t, "d", 2052)}, mixed...)
	nameless := make([]*sigkey.Key, maxCandidates+1)
	for i := range nameless {
		nameless[i] = rsaKeyNamed(t, "", 2060+i)
	}
	kid := func(id string) header { return header{kid: id, hasKID: true} }
	for _, tt := range []struct {
		name string
		keys []*sigkey.Key
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
			tt.h.algorithm = sigkey.RS256
			keys, _, rej := set.candidates(tt.h)
			var tried []string
			for _, k := range keys {
				tried = append(tried, fmt.Sprint(k.Info().Bits))
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

// During a rotation there are several secrets. All of them are tried, even more than four: that costs almost nothing.
func TestEverySharedTokenOfAMessengerIsTried(t *testing.T) {
	var keys []*sigkey.Key
	var secrets []string
	for i := range maxKeys {
		secrets = append(secrets, fmt.Sprintf("%s %d", testSecret, i))
		key, err := sigkey.ParseShared([]byte(secrets[i]), "", sigkey.HS256)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	v := verifierOf(t, Policy{}, keys...)
	for _, secret := range secrets {
		token := macWith(secret, segment(`{"alg":"HS256","kid":"any"}`)+"."+segment(`{"identity":"mark"}`))
		if _, rej := v.Verify(context.Background(), token); rej != nil {
			t.Errorf("got %+v, want ok", rej)
		}
	}
	if _, rej := v.Verify(context.Background(), signHS256(`{"identity":"mark"}`)); outcomeText(rej) != "signature_invalid" {
		t.Errorf("another secret: got %s, want signature_invalid", outcomeText(rej))
	}
}

// A kid only selects a key; it does not make another key's signature valid.
func TestKidOfAnotherKeyIsRefused(t *testing.T) {
	one, err := sigkey.ParseShared([]byte(testSecret), "one", sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	two, err := sigkey.ParseShared([]byte(testSecret+"2"), "two", sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	v := verifierOf(t, Policy{}, one, two)
	for kid, want := range map[string]string{`"one"`: "ok", `"\u006fne"`: "ok", `"two"`: "signature_invalid", `"three"`: "key_unknown", `"one "`: "key_unknown"} {
		_, rej := v.Verify(context.Background(), forgeHS256(`{"alg":"HS256","kid":`+kid+`}`, `{"identity":"mark"}`))
		if got := outcomeText(rej); got != want {
			t.Errorf("kid %s: got %s, want %s", kid, got, want)
		}
	}
}

func TestSharedFindsKeysThatTwoMessengersHaveInCommon(t *testing.T) {
	set := func(keys ...*sigkey.Key) *KeySet { return newKeySet(keys) }
	a, b, c := rsaKeyNamed(t, "a", 2048), rsaKeyNamed(t, "b", 2049), rsaKeyNamed(t, "other name", 2048)
	if !shareKeys(set(a, b), set(c)) {
		t.Error("one key under two kids is not found")
	}
	if shareKeys(set(a), set(b)) {
		t.Error("two keys count as one")
	}
	if !slices.Equal(set(a, b).active(), []*sigkey.Key{a, b}) {
		t.Error("active does not return all keys")
	}
}

// A token that no key verifies may cause the key set to be fetched once more. Those of its keys that were tried are not tried
// again, and all together are as many as one token may cost.
func TestOneTokenCostsAtMostFourVerifications(t *testing.T) {
	keys := make([]*sigkey.Key, 12)
	for i := range keys {
		keys[i] = rsaKeyNamed(t, fmt.Sprint("k", i), 2048+i)
	}
	renamed, secret := rsaKeyNamed(t, "another name", 2048), secretKey(t, testSecret, "")
	for _, tt := range []struct {
		name         string
		newer, tried []*sigkey.Key
		want         []*sigkey.Key
	}{
		{"none was tried", keys[:4], nil, keys[:4]},
		{"four were tried", keys[4:8], keys[:4], nil},
		{"one was tried", keys[4:8], keys[:1], keys[4:7]},
		{"the same again", keys[:3], keys[:3], nil},
		{"one more than before", keys[:4], keys[:3], keys[3:4]},
		{"one under another kid", []*sigkey.Key{renamed, keys[5]}, keys[:1], keys[5:6]},
		{"secrets cost almost nothing", []*sigkey.Key{secret}, keys[:4], []*sigkey.Key{secret}},
	} {
		if got := untried(tt.newer, tt.tried); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %d keys, want %d", tt.name, len(got), len(tt.want))
		}
	}
}

// The list of a stored messenger may be long, and so may a token: the cost is not their product.
func TestLongListsAreSearchedByHash(t *testing.T) {
	for _, n := range []int{1, fewTexts, fewTexts + 1, 100} {
		var list, members, audiences []string
		for i := range n {
			list = append(list, fmt.Sprint("claim", i))
			members = append(members, fmt.Sprintf(`"claim%d":%d`, i, i))
			audiences = append(audiences, fmt.Sprintf(`"aud%d"`, i))
		}
		v := sharedTokenVerifier(t, Policy{RequiredClaims: list, Audiences: []string{"x", fmt.Sprint("aud", n-1)}})
		wide := sharedTokenVerifier(t, Policy{Audiences: append(slices.Clone(list), "aud0")})
		for claims, want := range map[string]string{
			strings.Join(members, ",") + `,"aud":[` + strings.Join(audiences, ",") + `]`:     "ok",
			strings.Join(members[1:], ",") + `,"aud":[` + strings.Join(audiences, ",") + `]`: "claim_missing",
			strings.Join(members, ",") + `,"aud":["aud` + fmt.Sprint(n) + `"]`:               "audience_not_allowed",
		} {
			if _, rej := v.Verify(context.Background(), signHS256(`{"identity":"mark",`+strings.TrimPrefix(claims, ",")+`}`)); outcomeText(rej) != want {
				t.Errorf("%d: got %s, want %s", n, outcomeText(rej), want)
			}
		}
		for aud, want := range map[string]string{`"aud0"`: "ok", `["z","aud0"]`: "ok", `"claim0"`: "ok", `["z"]`: "audience_not_allowed"} {
			if _, rej := wide.Verify(context.Background(), signHS256(`{"identity":"mark","aud":`+aud+`}`)); outcomeText(rej) != want {
				t.Errorf("%d audiences, %s: got %s, want %s", n+1, aud, outcomeText(rej), want)
			}
		}
	}
}
