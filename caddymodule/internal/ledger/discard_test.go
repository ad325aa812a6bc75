package ledger

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// addFacts adds a batch of its own for facts of an incarnation.
func addFacts(t *testing.T, j *Journal, incarnation string, number uint64, now time.Time, facts ...*Fact) vault.Key {
	t.Helper()
	texts, err := Encode(facts)
	if err != nil {
		t.Fatal(err)
	}
	key := vault.Key{Folder: j.Folder(incarnation), Writer: "aaaaaaaaaaaaaaaa", Number: number}
	if err := j.Add(key, texts, now); err != nil {
		t.Fatal(err)
	}
	return key
}

// A fact that was removed must not mean anything if it reappears: settings that were withdrawn, and of which nothing says so any
// more, are removed before that can be. What is of use for another hour stays.
func TestWithdrawnSettingsAreRemovedFirst(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := New("acme", KindStored)
	settings := func(number uint64, at time.Time) *Fact {
		f := NewFact(factSettings, at)
		f.Number, f.Created, f.Settings = number, &now, json.RawMessage(`{"identity_key":"sub","shared_token":{}}`)
		return f
	}
	first, second := settings(1, now), settings(2, now)
	second.Parent = first.ID
	addFacts(t, j, "inc", 1, now, first)
	addFacts(t, j, "inc", 2, now, NewFact(factConfirmed, now, first.ID))
	withdrawn := addFacts(t, j, "inc", 3, now, second)
	addFacts(t, j, "inc", 4, now, NewFact(factWithdrawn, now, second.ID))
	expired := now
	revoked := NewFact(factRevoke, now)
	revoked.Revocation = &revocation.Revocation{TokenHash: authn.NewTokenID("x"), Until: &expired, Exact: true}
	logout := addFacts(t, j, "inc", 5, now, revoked)
	for after, want := range map[time.Duration][]vault.Key{
		KeepUseless - 61*time.Minute: nil,
		KeepUseless - 59*time.Minute: {withdrawn},
		KeepUseless + time.Minute:    {withdrawn, logout},
	} {
		keys := j.removable(now.Add(after), reappearing)
		slices.SortFunc(keys, vault.Key.Compare)
		if !slices.Equal(keys, want) {
			t.Errorf("after %s: removed are %v, want %v", after, keys, want)
		}
	}
}

// Facts that cannot be read any more may have revoked any token. So their replacement revokes all of them.
func TestReplacingUnreadableFactsRevokesAllTokens(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := New("support", KindRing)
	_, made, facts, err := j.ChangeRing(GenerateToken(), now)
	if err != nil {
		t.Fatal(err)
	}
	addFacts(t, j, ConfigIncarnation, 1, now, facts...)
	j.SetUnreadable(vault.Key{Folder: j.Folder(ConfigIncarnation), Writer: "bbbbbbbbbbbbbbbb", Number: 1}, vault.ErrDamaged)
	if j.Damage() == nil || len(j.Record().Tokens) != 1 {
		t.Fatal("the test needs a damaged journal with a token")
	}
	incarnation, facts := j.Replacement(now.Add(time.Minute))
	addFacts(t, j, incarnation, 2, now, facts...)
	if tokens := j.Record().Tokens; len(tokens) != 0 {
		t.Errorf("the token %s is still valid", made.KeyID)
	}
	for _, bound := range []time.Duration{0, time.Hour} { // no max_lifetime ends it
		if list := j.Revocations(bound, now.Add(100*time.Hour)); len(list) != 1 || !list[0].All || list[0].Until != nil || list[0].Before.Before(now) {
			t.Errorf("with max_lifetime %s revoked is %+v", bound, list)
		}
	}
	if _, made, _, err := j.ChangeRing(GenerateToken(), now.Add(2*time.Minute)); err != nil || made == nil {
		t.Errorf("a new token: %v", err)
	}
}

// A stored messenger of which something cannot be read is deleted with all its incarnations, unless only a deleted one is concerned.
func TestReplacingUnreadableFactsDeletesAStoredMessenger(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := New("acme", KindStored)
	version, incarnation, err := j.NextVersion(&config.Messenger{IdentityKey: "sub", SharedToken: new(config.SharedToken)}, now)
	if err != nil {
		t.Fatal(err)
	}
	addFacts(t, j, incarnation, 1, now, version...)
	lost := vault.Key{Folder: j.Folder("bbbbbbbbbbbbbbbb"), Writer: "bbbbbbbbbbbbbbbb", Number: 1}
	j.SetUnreadable(lost, vault.ErrDamaged)
	if j.IsDeleted(lost) || j.Record() == nil {
		t.Fatal("the test needs a messenger")
	}
	folder, facts := j.Replacement(now.Add(time.Minute))
	addFacts(t, j, folder, 1, now, facts...)
	if !j.IsDeleted(lost) || j.Record() != nil || j.Damage() != nil {
		t.Errorf("it is not deleted: %v", j.Damage())
	}
	if _, facts := j.Replacement(now.Add(time.Hour)); len(facts) != 0 {
		t.Error("it is deleted once more")
	}
}

// Everything that cannot be read is replaced, on a node whose clock is hours behind that of the node that made a token: the token is revoked.
func TestReplacementWithDifferingClocks(t *testing.T) {
	j := New("support", KindRing)
	_, _, facts, err := j.ChangeRing(GenerateToken(), madeAt.Add(3*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	addFacts(t, j, ConfigIncarnation, 1, madeAt, facts...)
	_, replaced := j.Replacement(madeAt.Add(time.Minute))
	addFacts(t, j, ConfigIncarnation, 2, madeAt, replaced...)
	if n := len(j.Record().Tokens); n > 0 {
		t.Errorf("%d tokens are valid after all were revoked", n)
	}
}
