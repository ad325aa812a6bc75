package ledger

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A version is made as registry makes it, and may stay without confirmation.
func nextVersion(t *testing.T, j *Journal, number uint64, settings *config.Messenger, now time.Time, confirmed bool) *Fact {
	t.Helper()
	before := j.Record()
	facts, incarnation, err := j.NextVersion(settings, now)
	if err != nil {
		t.Fatal(err)
	}
	addFacts(t, j, incarnation, number, now, facts...)
	if confirmed {
		addFacts(t, j, incarnation, number+1, now, j.Confirmation(facts[0], before, settings, now)...)
	}
	return facts[0]
}

// The time of a previous method passes without any fact. Whoever goes back to shared tokens later begins without those from before,
// also if what the settings were made from did that already and is withdrawn afterwards.
func TestTokensOfAnExpiredMethodStayRevoked(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	shared := &config.Messenger{IdentityKey: "sub", SharedToken: new(config.SharedToken)}
	moved := &config.Messenger{IdentityKey: "sub", PublicKey: []config.PublicKey{{Key: "a key"}}, Previous: &config.Previous{Until: now.Add(time.Hour), SharedToken: new(config.SharedToken)}}
	for _, withdrawn := range []bool{false, true} {
		j := New("acme", KindStored)
		nextVersion(t, j, 1, shared, now, true)
		incarnation, _, facts, err := j.ChangeRing(GenerateToken(), now)
		if err != nil {
			t.Fatal(err)
		}
		addFacts(t, j, incarnation, 3, now, facts...)
		nextVersion(t, j, 4, moved, now.Add(time.Minute), true)
		if n := len(j.Record().Tokens); n != 1 {
			t.Fatalf("after the move there are %d shared tokens, want 1", n)
		}
		later := now.Add(2 * time.Hour)
		first := nextVersion(t, j, 6, shared, later, !withdrawn)
		if n := len(j.Record().Tokens); n != 0 {
			t.Errorf("after going back there are %d shared tokens", n)
		}
		if !withdrawn {
			continue
		}
		nextVersion(t, j, 8, shared, later, true) // by another node, which has read the first
		addFacts(t, j, incarnation, 10, later, j.Withdrawal(first, later))
		if r := j.Record(); r.Settings.SharedToken == nil || len(r.Tokens) != 0 {
			t.Errorf("a version that was withdrawn has given %d shared tokens back, method %s", len(r.Tokens), r.Settings.Method())
		}
	}
}

// Two nodes import one secret at the same instant, and one of the two tokens is revoked: so is the secret. It is not imported again, in
// whatever form HMAC does not tell from it.
func TestRevocationCoversEveryCopyOfASecret(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	secret := []byte(strings.Repeat("secret", 6))
	both := newLedger()
	var kid string
	for range 2 {
		made, facts, err := newTestRing().of(ImportToken(secret, ""), now)
		if err != nil {
			t.Fatal(err)
		}
		kid = made.KeyID
		both.add(facts[0], new(Effect))
	}
	if ring := both.ring(); len(ring) != 2 {
		t.Fatalf("%d tokens, want 2", len(ring))
	}
	_, revoked, err := testRing{both}.of(RevokeToken(kid, false), now)
	if err != nil {
		t.Fatal(err)
	}
	both.add(revoked[0], new(Effect))
	if ring := both.ring(); len(ring) != 0 {
		t.Errorf("%d tokens have the secret still", len(ring))
	}
	for _, again := range [][]byte{secret, append(slices.Clone(secret), 0)} {
		if _, _, err := (testRing{both}).of(ImportToken(again, "another kid"), now); !errors.Is(err, errSecretDead) {
			t.Errorf("importing it again: %v", err)
		}
	}
}

// A secret fits the algorithm that it was imported for. One that is too short for another algorithm does not make other secrets
// unusable.
func TestImportedSecretsUnderAnotherAlgorithm(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	l := newLedger()
	for _, secret := range []string{strings.Repeat("x", 40), strings.Repeat("y", 80), strings.Repeat("z", 70) + "\x00\x00\x00"} {
		_, facts, err := testRing{l}.of(ImportToken([]byte(secret), ""), now)
		if err != nil {
			t.Fatal(err)
		}
		l.add(facts[0], new(Effect))
	}
	for alg, want := range map[sigkey.Algorithm]int{sigkey.HS256: 3, sigkey.HS512: 1} {
		fit := 0
		for _, token := range l.ring() {
			if token.Fits(alg) {
				fit++
			}
		}
		if _, err := l.record("").Keys(alg, func(string) *atomic.Int64 { return new(atomic.Int64) }); err != nil || fit != want {
			t.Errorf("%s: %d secrets fit, want %d; %v", alg, fit, want, err)
		}
	}
}

// A shared token has leaked and was revoked. A site cannot import its text as its own secret, as long as it is remembered that it was.
func TestRevokedTokenCannotBeImportedAsASecret(t *testing.T) {
	for _, wait := range []time.Duration{time.Minute, 26 * time.Hour, 29 * 24 * time.Hour} {
		for name, end := range map[string]func(kid string) RingChange{
			"revoked": func(kid string) RingChange { return RevokeToken(kid, false) },
			"reset":   func(string) RingChange { return ResetTokens(false) },
			"expired": func(string) RingChange { return RotateTokens(time.Second) },
		} {
			w := newWriting(t, "aaaaaaaaaaaaaaaa")
			leaked := w.change(madeAt, GenerateToken())
			if name == "revoked" {
				w.change(madeAt.Add(time.Second), GenerateToken())
			}
			w.change(madeAt.Add(2*time.Second), end(leaked.KeyID))
			at := madeAt.Add(wait)
			w.prune(at)
			if _, _, _, err := w.ChangeRing(ImportToken([]byte(leaked.Token), ""), at); !errors.Is(err, errSecretDead) {
				t.Errorf("%s, after %v: %v", name, wait, err)
			}
		}
	}
}

// The same after the messenger had another validation method for a while, which revokes its tokens.
func TestTokenOfAPreviousMethodCannotBeImportedAsASecret(t *testing.T) {
	for _, wait := range []time.Duration{time.Minute, 26 * time.Hour, 29 * 24 * time.Hour} {
		w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
		w.save(madeAt, madeAt, withTokens)
		leaked := w.change(madeAt, GenerateToken())
		w.save(madeAt.Add(time.Second), madeAt, &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://keys.example/"}})
		at := madeAt.Add(wait)
		w.prune(at)
		w.save(at, madeAt, withTokens)
		if _, _, _, err := w.ChangeRing(ImportToken([]byte(leaked.Token), ""), at); !errors.Is(err, errSecretDead) {
			t.Errorf("after %v: %v", wait, err)
		}
	}
}

// A secret is in two incarnations of a messenger. What ends it names both tokens: some nodes may know one of them alone.
func TestRevocationOfASecretNamesAllItsTokens(t *testing.T) {
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		a.save(madeAt, madeAt, withTokens)
		a.change(madeAt, ImportToken([]byte(strings.Repeat("secret", 6)), "site"))
		b.brings(a.Copy(madeAt), madeAt.Add(time.Minute))
		at := madeAt.Add(time.Hour)
		alone := []*writing{a.started(at), b.started(at)}
		a.learn(b, at)
		for how, end := range map[string]RingChange{"revoked": RevokeToken("site", false), "rotated": RotateTokens(0), "rotated with an overlap": RotateTokens(time.Minute), "reset": ResetTokens(false)} {
			_, _, facts, err := a.ChangeRing(end, at)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range alone {
				other := one.started(at)
				other.writer = "cccccccccccccccc"
				other.add(at, facts...)
				if slices.ContainsFunc(other.ActiveTokens(at.Add(time.Hour)), func(t Token) bool { return t.KeyID == "site" }) {
					t.Errorf("%s, on a node that knows %s alone: the secret is valid", how, other.incarnation)
				}
			}
		}
	}
}

// Another node changes the method back before the change is confirmed, and makes a token. The confirmation does not end that.
func TestConfirmationDoesNotRevokeLaterTokens(t *testing.T) {
	other := &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://keys.example/"}}
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	w.save(madeAt, madeAt, withTokens)
	leaked := w.change(madeAt, GenerateToken())
	before, at := w.Record(), madeAt.Add(time.Minute)
	facts, _, err := w.NextVersion(other, at)
	if err != nil {
		t.Fatal(err)
	}
	w.add(at, facts...)
	w.save(at.Add(time.Second), madeAt, withTokens)
	made := w.change(at.Add(2*time.Second), GenerateToken())
	w.add(at.Add(3*time.Second), w.Confirmation(facts[0], before, other, at.Add(3*time.Second))...)
	if w.accepts(leaked, at) || !w.accepts(made, at) {
		t.Errorf("the one from before is valid: %t, the later one: %t", w.accepts(leaked, at), w.accepts(made, at))
	}
}
