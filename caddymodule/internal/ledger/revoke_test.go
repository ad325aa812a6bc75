package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A list of revocations needs room as if each were made after the other: no more fit than that, a full list makes room once, and a contact
// who is logged out again and again takes no room from others.
func TestRevocationListCountsEveryEntry(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := newRevokable(time.Minute, time.Hour)
	list := func(n int, contact string) (list []revocation.Revocation) {
		for i := range n {
			list = append(list, revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("new ", i)), Contact: contact})
		}
		return list
	}
	full := func(n int, at time.Time) *writing {
		w := newWriting(t, "aaaaaaaaaaaaaaaa")
		var facts []*Fact
		for i := range n {
			v := revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("old ", i))}.Recorded(m, at)
			f := NewFact(factRevoke, at)
			f.Revocation = &v
			facts = append(facts, f)
		}
		w.add(at, facts...)
		return w
	}
	if _, facts, _, err := full(MaxRevocations-1, now).RevokeAll(list(2, ""), m, now); err == nil {
		t.Errorf("there is room for one, and %d of two are made", len(facts))
	}
	if _, _, added, err := full(MaxRevocations-1, now).RevokeAll(list(1, ""), m, now); err != nil || added != 1 {
		t.Errorf("there is room for one, and %d are made, %v", added, err)
	}
	later := now.Add(24 * time.Hour) // max_lifetime has passed
	if _, facts, added, err := full(MaxRevocations, now).RevokeAll(list(500, ""), m, later); err != nil || added != 500 || len(facts) != 501 {
		t.Errorf("in a list of what is over %d are made, by %d facts, %v", added, len(facts), err)
	}
	w := full(1, now)
	_, facts, added, err := w.RevokeAll(list(100, "mark"), m, now)
	if err != nil || added != 100 {
		t.Fatal(added, err)
	}
	w.add(now, facts...)
	if n := len(w.Revocations(0, now)); n > maxLogouts+2 {
		t.Errorf("one contact takes the room of %d", n)
	}
	if _, facts, added, err := w.RevokeAll(append(list(1, "mark"), list(1, "mark")...), m, now); err != nil || added > 1 {
		t.Errorf("what is revoked already is made again: %d, by %d facts, %v", added, len(facts), err)
	}
}
