package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A name that was created and deleted 1,000 times within a month is read as fast as any other.
func BenchmarkRecordAfterManyDeletions(b *testing.B) {
	t := new(testing.T)
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "")
	at := madeAt
	for n := range 1001 {
		at = at.Add(time.Minute)
		facts, _, err := w.NextVersion(withTokens, at)
		if err != nil {
			b.Fatal(err)
		}
		w.incarnation = fmt.Sprint(n)
		w.add(at, append(facts, NewFact(factConfirmed, at, facts[0].ID))...)
		if n < 1000 {
			w.incarnation = NameFolder
			w.add(at, w.Deletion(at))
		}
	}
	for b.Loop() {
		if w.Record() == nil {
			b.Fatal("it is not there")
		}
	}
}

// loses makes the storage lack what it had of a folder until now.
func (j *Journal) loses(folder string) {
	for key := range j.batches {
		if key.Folder == folder {
			j.missing[key] = true
		}
	}
	j.noteLost(j.missing)
}

// A messenger that was deleted is deleted on a node, too, that still knows an incarnation which the deletion does not name and the storage
// has lost. What the storage has is never deleted by that: it was brought back on purpose, by whomever.
func TestADeletionReachesIncarnationsThatAreLost(t *testing.T) {
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		a.save(madeAt, madeAt, withTokens)
		a.change(madeAt, GenerateToken())
		file := a.Copy(madeAt)
		at := madeAt.Add(time.Minute)
		b.brings(file, at)
		b.incarnation = NameFolder
		b.add(at, b.Deletion(at))
		a.loses("acme/" + names[0])
		a.learn(b, at)
		if a.Record() != nil || len(a.Lost()) > 0 {
			t.Errorf("%v: a messenger is there that was deleted, or is written back", names)
		}
		stored := a.started(at)
		if stored.Record() == nil {
			t.Errorf("%v: what the storage has is deleted by another name", names)
		}
		for _, after := range []time.Duration{0, 2 * KeepUseless, 2 * KeepDeletion} {
			if useless := stored.removable(at.Add(after), reappearing); slices.ContainsFunc(useless, func(key vault.Key) bool { return key.Folder == "acme/"+names[0] }) {
				t.Errorf("%v: what the storage has is removed after %v", names, after)
			}
		}

		// It is brought back where the deletion is not known, and the storage loses that again.
		at = at.Add(time.Minute)
		c := incarnated(t, "cccccccccccccccc", "third")
		c.brings(file, at)
		a.learn(c, at)
		if a.Current() != "third" {
			t.Errorf("%v: it is not there after it was brought back", names)
		}
		a.loses("acme/third")
		if a.Current() != "third" || len(a.Lost()) == 0 {
			t.Errorf("%v: what was brought back is not written back", names)
		}

		// The storage forgets the batches that are of no use all together, whatever their order.
		a.compare(map[vault.Key]bool{}, 1<<60, at.Add(2*KeepUseless))
		for key := range a.batches {
			if key.Folder == "acme/"+names[0] {
				t.Errorf("%v: a part of what was deleted is kept", names)
			}
		}
	}
}

// Another messenger is a rival also if the storage still has something of the old one, or has lost a part of the new one: its settings
// decide.
func TestARivalIsOneWithSettings(t *testing.T) {
	a, b := incarnated(t, "aaaaaaaaaaaaaaaa", "first"), incarnated(t, "bbbbbbbbbbbbbbbb", "second")
	a.save(madeAt, madeAt, withTokens)
	for key := range a.batches {
		a.missing[key] = true
	}
	a.change(madeAt, GenerateToken()) // acknowledged while the storage lacks the settings
	at := madeAt.Add(time.Minute)
	b.save(at, at, withTokens)
	b.change(at, GenerateToken())
	a.learn(b, at)
	for key, batch := range a.batches {
		if key.Folder == "acme/second" && batch.facts[0].Kind == factToken {
			a.missing[key] = true
		}
	}
	a.noteLost(a.missing)
	if created, found := a.Rival(); !found || !created.Equal(at) {
		t.Errorf("got %v, %t", created, found)
	}
}
