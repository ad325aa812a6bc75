package ledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/configtest"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A testRing is a ring that is changed directly.
type testRing struct{ *ledger }

func newTestRing() testRing { return testRing{newLedger()} }

// of returns the token and the facts of a change, without making it.
func (r testRing) of(change RingChange, now time.Time) (*NewToken, []*Fact, error) {
	return change.facts(change, r.ledger, now, now)
}

func (r testRing) change(now time.Time, change RingChange) (*NewToken, error) {
	made, facts, err := r.of(change, now)
	for _, f := range facts {
		r.add(f, new(Effect))
	}
	return made, err
}

// keysOf returns the keys of a ring without recording their uses.
func keysOf(ring []Token) (authn.Keys, error) {
	r := &Record{Tokens: ring}
	return r.Keys(sigkey.HS256, func(string) *atomic.Int64 { return new(atomic.Int64) })
}

// verdicts returns what a verifier with the ring says to a token of made, without and with its kid.
func verdicts(t *testing.T, keys authn.Keys, made *NewToken) string {
	t.Helper()
	verifier := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, keys)
	var said []string
	for _, kid := range []string{"", made.KeyID} {
		contact, rej := verifier.Verify(context.Background(), configtest.Token(made.Token, kid))
		switch {
		case rej != nil:
			said = append(said, string(rej.Code))
		case contact.Identity == "mark":
			said = append(said, "mark")
		}
	}
	return strings.Join(said, " ")
}

// A site rotates and forgets about it: the old token is good up to the last nanosecond of the overlap, and not for one
// more. Nothing has to be read or called for that. The clock is faked.
func TestOverlapExpiresByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestRing()
		old, err := r.change(time.Now(), GenerateToken())
		if err != nil {
			t.Fatal(err)
		}
		renewed, err := r.change(time.Now(), RotateTokens(DefaultOverlap))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := keysOf(r.ring())
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			wait time.Duration
			want string
		}{{0, "mark mark"}, {DefaultOverlap - time.Nanosecond, "mark mark"}, {time.Nanosecond, "signature_invalid key_unknown"}, {time.Hour, "signature_invalid key_unknown"}} {
			time.Sleep(step.wait)
			if got := verdicts(t, keys, old); got != step.want {
				t.Errorf("%s later the old token is %q, want %q", step.wait, got, step.want)
			}
			if got := verdicts(t, keys, renewed); got != "mark mark" {
				t.Errorf("%s later the new token is %q", step.wait, got)
			}
		}
	})
}

// A verified connection may not outlive the token that it was opened with: the contact knows the end of the overlap.
func TestContactHasTheExpiryOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestRing()
		old, _ := r.change(time.Now(), GenerateToken())
		if _, err := r.change(time.Now(), RotateTokens(time.Hour)); err != nil {
			t.Fatal(err)
		}
		keys, err := keysOf(r.ring())
		if err != nil {
			t.Fatal(err)
		}
		contact, rej := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, keys).Verify(context.Background(), configtest.Token(old.Token, ""))
		if rej != nil || !contact.Until.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("got %+v, %v", contact, rej)
		}
	})
}

// A second rotation shortens no overlap that ends earlier, and lengthens none.
func TestRotatingTwiceKeepsTheEarlierExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, r := time.Now(), newTestRing()
		first, _ := r.change(now, GenerateToken())
		second, err := r.change(now, RotateTokens(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		third, err := r.change(now.Add(time.Minute), RotateTokens(24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		ends := make(map[string]time.Duration)
		for _, token := range r.ring() {
			if token.End != nil {
				ends[token.KeyID] = token.End.Sub(now)
			}
		}
		if ends[first.KeyID] != time.Hour || ends[second.KeyID] != 24*time.Hour+time.Minute || ends[third.KeyID] != 0 {
			t.Errorf("got %v", ends)
		}
		if _, err := r.change(now.Add(2*time.Minute), RotateTokens(0)); err != nil || len(activeTokens(r.ring(), now.Add(2*time.Minute))) != 1 {
			t.Errorf("without an overlap these are left: %v, %v", r.ring(), err)
		}
	})
}

func TestRingRefusals(t *testing.T) {
	now, r := time.Now(), newTestRing()
	if _, err := r.change(now, RotateTokens(time.Hour)); !errors.Is(err, errEmptyRing) {
		t.Errorf("rotating nothing: %v", err)
	}
	if _, err := r.change(now, RevokeToken("2026-01-01-abcdef", false)); !errors.Is(err, ErrNoToken) {
		t.Errorf("revoking nothing: %v", err)
	}
	for range maxRing {
		if _, err := r.change(now, GenerateToken()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.change(now, GenerateToken()); !errors.Is(err, errRingFull) {
		t.Errorf("an eleventh: %v", err)
	}
	for _, overlap := range []time.Duration{-1, maxOverlap + 1} {
		if _, err := r.change(now, RotateTokens(overlap)); err == nil {
			t.Errorf("an overlap of %s is accepted", overlap)
		}
	}
	// Those that have expired take no place.
	if _, err := r.change(now, ResetTokens(false)); err != nil || len(r.ring()) != 1 {
		t.Errorf("after a reset: %v, %v", r.ring(), err)
	}
	full, end := newTestRing(), now.Add(time.Minute)
	for range maxRing {
		if _, err := full.change(now, GenerateToken()); err != nil {
			t.Fatal(err)
		}
	}
	for _, token := range full.ring() {
		expiry := NewFact(factExpiry, now, token.id)
		expiry.End = &end
		full.add(expiry, new(Effect))
	}
	if _, err := full.change(end, GenerateToken()); err != nil || len(activeTokens(full.ring(), end)) != 1 {
		t.Errorf("after all have expired: %v, %v", full.ring(), err)
	}
}

// Nodes that make tokens at the same instant can exceed the limit together. The union works, up to what a verifier takes.
func TestConcurrentRotationsMayExceedTheRingLimit(t *testing.T) {
	now, union := time.Now(), newTestRing()
	for range 4 {
		node := newTestRing()
		for range maxRing {
			if _, err := node.change(now, GenerateToken()); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range node.facts {
			union.add(f, new(Effect))
		}
	}
	if _, err := keysOf(union.ring()); err != nil {
		t.Error(err)
	}
}

// Two nodes reset the tokens at the same instant, and neither knows of the other's reset. The token that each has made outlives
// the other's reset, once its node has looked again; the tokens from before do not.
func TestTwoResetsAtTheSameInstant(t *testing.T) {
	now := time.Now()
	a, b := newTestRing(), newTestRing()
	_, old, _ := a.of(GenerateToken(), now)
	all := old
	var made []*NewToken
	for _, node := range []testRing{a, b} {
		node.add(old[0], new(Effect))
		token, facts, err := node.of(ResetTokens(false), now)
		if err != nil {
			t.Fatal(err)
		}
		made, all = append(made, token), append(all, facts...)
	}
	union := newTestRing()
	for _, f := range all {
		union.add(f, new(Effect))
	}
	if ring := union.ring(); len(ring) != 0 {
		t.Errorf("before the nodes have looked again these are accepted: %v", ring)
	}
	for _, f := range all {
		if f.Kind == factToken && f.ID != old[0].ID {
			kept := NewFact(factKept, now, f.ID)
			kept.Knows = union.resetIDs()
			union.add(kept, new(Effect))
		}
	}
	if ring := union.ring(); len(ring) != 2 || ring[0].KeyID != made[0].KeyID && ring[0].KeyID != made[1].KeyID {
		t.Errorf("got %v, want %v", ring, made)
	}
}

// A token that is valid for long stays in use, however many others expire after it.
func TestExpiredTokensDoNotDisplaceValidOnes(t *testing.T) {
	w := newWriting(t, "aaaaaaaaaaaaaaaa")
	w.change(madeAt, GenerateToken())
	long := w.ActiveTokens(madeAt)[0]
	w.change(madeAt.Add(time.Minute), RotateTokens(365*24*time.Hour))
	at := madeAt
	for range 40 {
		at = at.Add(18 * time.Hour)
		w.change(at, RotateTokens(time.Hour))
		w.prune(at)
	}
	r := w.Record()
	used := newestOf(r.Tokens, authn.MaxRing, at.Add(2*time.Hour))
	if !slices.ContainsFunc(used, func(t Token) bool { return t.id == long.id }) || len(used) != authn.MaxRing || len(r.Tokens) <= authn.MaxRing {
		t.Errorf("of %d tokens %d are used, and not the one that is valid for a year", len(r.Tokens), len(used))
	}
	if !slices.IsSortedFunc(used, func(a, b Token) int { return a.at.Compare(b.at) }) {
		t.Error("the order has changed")
	}
	if all := newestOf(r.Tokens, 1, at); len(all) != 1 || all[0].id != r.Tokens[len(r.Tokens)-1].id {
		t.Errorf("of the valid ones the newest is not used: %v", all)
	}
}
