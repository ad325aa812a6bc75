package ledger

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// creation is a journal in which a messenger is created at that time.
func creation(t *testing.T, at time.Time) (facts []*Fact, incarnation string) {
	t.Helper()
	facts, incarnation, err := New("acme", KindStored).NextVersion(&config.Messenger{IdentityKey: "sub", SharedToken: new(config.SharedToken)}, at)
	if err != nil {
		t.Fatal(err)
	}
	return facts, incarnation
}

// An earlier creation whose writer has died is not decided, and delays changes of the messenger that was created after it. That has
// an end on every node: on one that has the messenger in memory by its own clock, and on one that reads it anew for every change.
func TestUndecidedCreationTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		dead, deadIncarnation := creation(t, begun)
		later, incarnation := creation(t, begun.Add(time.Second))
		journal := func() *Journal {
			j := New("acme", KindStored)
			addFacts(t, j, deadIncarnation, 1, time.Now(), dead...)
			addFacts(t, j, incarnation, 2, time.Now(), append(slices.Clone(later), NewFact(factConfirmed, begun.Add(2*time.Second), later[0].ID))...)
			return j
		}
		open := func(j *Journal) bool {
			lost, open := j.Contest(incarnation)
			if lost {
				t.Error("a confirmed creation has lost against one that is not confirmed")
			}
			return open
		}
		time.Sleep(time.Minute)
		kept := journal()
		if !open(kept) || !open(journal()) {
			t.Error("an earlier creation is not waited for")
		}
		time.Sleep(Undecided + time.Second)
		if open(kept) {
			t.Error("a node that has known it for longer than its writer would be acknowledged still waits")
		}
		if !open(journal()) {
			t.Error("a node does not allow for clocks that are an hour apart")
		}
		time.Sleep(maxAhead)
		if open(journal()) {
			t.Error("a node that has just read it waits for it, whatever the clocks say")
		}
	})
}

// Of two confirmed creations the one counts that is settled, also if the other one was made earlier and arrives later.
func TestSettledCreationHasPrecedence(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	late, lateIncarnation := creation(t, now)
	settled, incarnation := creation(t, now.Add(time.Second))
	j := New("acme", KindStored)
	addFacts(t, j, incarnation, 1, now, append(slices.Clone(settled), NewFact(factConfirmed, now, settled[0].ID), NewFact(factSettled, now))...)
	addFacts(t, j, lateIncarnation, 2, now, append(slices.Clone(late), NewFact(factConfirmed, now, late[0].ID))...)
	if j.Current() != incarnation {
		t.Error("a creation that arrives late has replaced one that was settled")
	}
	if lost, open := j.Contest(lateIncarnation); !lost || open {
		t.Error("the writer of the late one is not told so")
	}
}

// The history has every kind of change of shared tokens.
func TestEventsOfSharedTokens(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	version, incarnation := creation(t, now)
	j := New("acme", KindStored)
	addFacts(t, j, incarnation, 1, now, version...)
	var want []trail.Action
	for i, change := range []RingChange{
		GenerateToken(), ImportToken([]byte("a secret of the site, which is long enough"), "before"), RotateTokens(time.Hour),
		ExtendToken("before", 2*time.Hour), RevokeToken("before", false), ResetTokens(false),
	} {
		_, _, facts, err := j.ChangeRing(change, now.Add(time.Duration(i)*time.Minute))
		if err != nil {
			t.Fatalf("%s: %v", change.Action, err)
		}
		addFacts(t, j, incarnation, uint64(i+2), now, facts...)
		before := len(want)
		for _, e := range j.Events() {
			if e.At.Equal(facts[0].At) {
				want = append(want, e.Action)
			}
		}
		if len(want) == before {
			t.Errorf("%s is not in the history", change.Action)
		}
	}
}
