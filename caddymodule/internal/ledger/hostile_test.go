package ledger

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// hostileFacts are facts that no gateway writes, but that an attacker with access to an unsealed storage can write.
var hostileFacts = []string{
	`[null]`, `[{}]`, `[[]]`, `[{"id":"a","kind":"x","at":"2026-01-01T00:00:00Z"}]`,
	`[{"id":"a","kind":"token","at":"9999-12-31T23:59:59Z","kid":"k","token":"t","end":"0001-01-01T00:00:00Z","knows":["a","a"]}]`,
	`[{"id":"a","kind":"token","at":"2026-01-01T00:00:00Z","kid":"k","token":"t"},{"id":"a","kind":"token","at":"2026-01-01T00:00:00Z","kid":"other","token":"t"}]`,
	`[{"id":"a","kind":"settings","at":"2026-01-01T00:00:00Z","created":"2026-01-01T00:00:00Z","number":18446744073709551615,"parent":"a","settings":{"identity_key":"sub"}}]`,
	`[{"id":"a","kind":"settings","at":"2026-01-01T00:00:00Z","created":"2026-01-01T00:00:00Z","number":1,"parent":"b","settings":null},{"id":"b","kind":"settings","at":"2026-01-01T00:00:00Z","created":"2026-01-01T00:00:00Z","number":1,"parent":"a","settings":[]}]`,
	`[{"id":"a","kind":"revocation","at":"2026-01-01T00:00:00Z","revocation":{"all":true,"issued_before":"9999-12-31T23:59:59.999999999Z","clock_skew":9223372036854775807}}]`,
	`[{"id":"a","kind":"revocation","at":"0001-01-01T00:00:01Z","revocation":{"identity":"m","issued_before":"0000-01-01T00:00:00Z","clock_skew":-9223372036854775808,"covers":true}}]`,
	`[{"id":"a","kind":"revocation","at":"2026-01-01T00:00:00Z","revocation":{"jti_sha256":"AAAA"}}]`,
	`[{"id":"a","kind":"revocation","at":"2026-01-01T00:00:00Z","revocation":{"jti":"x"}},{"id":"b","kind":"revocation","at":"2026-01-01T00:00:00Z","revocation":{"jti":"y","covers":true}}]`,
	`[{"id":"a","kind":"revocation_undone","at":"2026-01-01T00:00:00Z","of":["a",""]}]`,
	`[{"id":"a","kind":"tokens_reset","at":"2026-01-01T00:00:00Z","knows":["a"]}]`,
	`[{"id":"a","kind":"token_expiry","at":"2026-01-01T00:00:00Z","of":["a"],"end":"9999-12-31T23:59:59Z"}]`,
	`[{"id":"a","kind":"key_dropped","at":"2026-01-01T00:00:00Z","key":"sha256"}]`,
}

// Facts with any content are refused, or they are used: no request, command or page fails half-way, and what can be made of them
// can be written again.
func FuzzHostileFacts(f *testing.F) {
	for _, text := range hostileFacts {
		f.Add([]byte(text))
	}
	w := &factMaker{Rand: rand.New(rand.NewPCG(1, 15)), now: time.Unix(1_800_000_000, 0).UTC()}
	for range 60 {
		w.make()
	}
	texts, err := Encode(w.facts)
	if err != nil {
		f.Fatal(err)
	}
	all, _ := json.Marshal(texts)
	f.Add(all)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text []byte) {
		var texts []json.RawMessage
		if json.Unmarshal(text, &texts) != nil {
			return
		}
		facts, err := Decode(texts)
		if err != nil {
			return
		}
		if _, err := Encode(facts); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
		one, other := newLedger(), newLedger()
		for i, fact := range facts {
			one.add(fact, new(Effect))
			other.add(facts[len(facts)-1-i], new(Effect))
		}
		if a, b := stateOf(one, now), stateOf(other, now); a != b && haveTheirOwnIDs(facts) {
			t.Errorf("the order decides:\n%s\n%s", a, b)
		}
		for _, change := range []RingChange{GenerateToken(), RotateTokens(time.Hour), ResetTokens(true), RevokeToken("k", false)} {
			_, _, _ = testRing{one}.of(change, now) // it may be refused
		}
		_, _ = one.revocationFacts(revocation.Revocation{Identity: "m", Created: now}, now, now, time.Hour)
		for _, fact := range facts {
			_ = one.isOfUse(fact, now)
		}
		one.setAside(now)

		j := New("acme", KindStored)
		key := vault.Key{Folder: "acme/aaaaaaaaaaaaaaaa", Writer: "bbbbbbbbbbbbbbbb", Number: 1}
		if err := j.Add(key, texts, now); err == nil {
			_, _ = fmt.Sprint(j.Record()), j.Revocations(0, now)
			_, _ = j.Health()
			_ = j.Damage()
		}
	})
}

// haveTheirOwnIDs reports whether no two facts have the same ID. No gateway writes two different facts with one ID. Nodes that read
// such facts in different orders may disagree.
func haveTheirOwnIDs(facts []*Fact) bool {
	ids := make(map[string]bool)
	for _, f := range facts {
		if ids[f.ID] {
			return false
		}
		ids[f.ID] = true
	}
	return true
}
