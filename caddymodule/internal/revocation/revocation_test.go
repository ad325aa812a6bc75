package revocation

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// What fits by its size fits as it is written, whatever characters it has.
func TestSizeIsAnUpperBound(t *testing.T) {
	characters := []rune("a\"\\<>&\x00\x1f\n\u00e9\u2028\u2029\ufffd\U0001f600")
	latest := time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	before := latest.In(time.FixedZone("", -14*3600-59*60)) // only this one is stored as an operator wrote it
	for range 1000 {
		var text strings.Builder
		for range rand.IntN(50) {
			text.WriteRune(characters[rand.IntN(len(characters))])
		}
		odd := text.String() + []string{"", "\xff", "\xe2\x82"}[rand.IntN(3)]
		for _, v := range []Revocation{
			{TokenID: TokenID(odd), Contact: odd}, {Identity: odd, Contact: odd}, {TokenHash: authn.NewTokenID(odd), Contact: odd}, {All: true},
		} {
			v.Before, v.Until, v.Issued, v.Created = &before, &latest, &latest, latest.Truncate(time.Second)
			v.Skew, v.Exact, v.Covers = caddy.Duration(config.MaxClockSkew), true, true
			written, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if len(written) > v.Size() {
				t.Fatalf("%d bytes are written of one whose size is %d: %q", len(written), v.Size(), written)
			}
		}
	}
}

// A jti is named as it is in the token: a string, or an integer, which means the text of its digits.
func TestTokenIDIsAStringOrAnInteger(t *testing.T) {
	for text, want := range map[string]TokenID{`"a"`: "a", `""`: "", `"\u00e9"`: "é", `0`: "0", `-7`: "-7", `123456789012345678901234567890`: "123456789012345678901234567890"} {
		var id TokenID
		if err := json.Unmarshal([]byte(text), &id); err != nil || id != want {
			t.Errorf("%s: %q, %v", text, id, err)
		}
	}
	for _, text := range []string{`-0`, `1.0`, `1e3`, `true`, `[]`, `{}`, `["a"]`} {
		var id TokenID
		if err := json.Unmarshal([]byte(text), &id); err == nil {
			t.Errorf("%s was taken for %q", text, id)
		}
	}
}

// Of two revocations of one target the one that is left revokes all that either did, for as long.
func TestReplacementCoversBothRevocations(t *testing.T) {
	base := time.Unix(1_800_000_000, 0)
	at := func() *time.Time {
		if rand.IntN(3) == 0 {
			return nil
		}
		when := base.Add(time.Duration(rand.IntN(10)) * time.Minute)
		return &when
	}
	for range 10_000 {
		some := func() Revocation {
			before := base.Add(time.Duration(rand.IntN(10)) * time.Minute)
			return Revocation{Identity: "mark", Before: &before, Skew: caddy.Duration(time.Duration(rand.IntN(3)) * time.Minute), Until: at(), Exact: rand.IntN(2) == 0, Created: base}
		}
		a, b := some(), some()
		v := b.Replacing(a)
		for _, old := range []Revocation{a, b} {
			if v.Reach().Before(old.Reach()) || v.Until != nil && (old.Until == nil || v.Until.Before(*old.Until)) || v.Exact && !old.Exact {
				t.Fatalf("%+v lacks what %+v says", v, old)
			}
		}
	}
}
