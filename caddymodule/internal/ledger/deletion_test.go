package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
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
// has lost, or that was written back while it was deleted. What was saved or brought back after the deletion is never deleted by that, if
// the storage has it, by whomever.
func TestDeletionCoversLostIncarnations(t *testing.T) {
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		a.save(madeAt, madeAt, withTokens)
		a.change(madeAt, GenerateToken())
		file := a.Copy(madeAt)
		at := madeAt.Add(time.Minute)
		b.brings(file, at)
		b.incarnation = NameFolder
		b.add(at, b.Deletion(at))
		again := a.started(at)
		again.writer = "dddddddddddddddd"
		a.loses("acme/" + names[0])
		a.learn(b, at)
		if a.Record() != nil || len(a.Lost()) > 0 {
			t.Errorf("%v: a messenger is there that was deleted, or is written back", names)
		}
		if a.started(at).Record() != nil {
			t.Errorf("%v: what was written back while it was deleted is there", names)
		}
		again.save(at.Add(time.Second), madeAt, withTokens)
		again.learn(b, at)
		if again.Record() == nil {
			t.Errorf("%v: what the storage has is deleted by another name", names)
		}
		for _, after := range []time.Duration{0, 2 * KeepUseless, 2 * KeepDeletion} {
			useless := again.removable(at.Add(after), reappearing)
			if slices.ContainsFunc(useless, func(key vault.Key) bool {
				return key.Folder == "acme/"+names[0] && again.batches[key].facts[0].Kind == factToken
			}) {
				t.Errorf("%v: what the storage has is removed after %v", names, after)
			}
		}

		// It is brought back, and the storage loses that again.
		at = at.Add(time.Minute)
		c := incarnated(t, "cccccccccccccccc", NameFolder)
		c.learn(b, at)
		c.incarnation = "third"
		c.brings(file, at)
		c.save(at.Add(time.Second), madeAt, withTokens)
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
func TestOnlyIncarnationsWithSettingsAreRivals(t *testing.T) {
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
	if rivals := a.Rivals(); len(rivals) != 1 || !rivals["first"].Equal(at) {
		t.Errorf("got %v", rivals)
	}
}

// Clocks differ: a messenger whose clock was ahead is deleted nevertheless, and one that was saved long after a deletion that it does not know
// is not.
func TestDeletionWithDifferingClocks(t *testing.T) {
	for _, ahead := range []time.Duration{-5 * time.Minute, 5 * time.Minute, 24 * time.Hour} {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", "first"), incarnated(t, "bbbbbbbbbbbbbbbb", "second")
		a.save(madeAt.Add(ahead), madeAt, withTokens)
		b.brings(a.Copy(madeAt), madeAt)
		b.incarnation = NameFolder
		b.add(madeAt.Add(time.Minute), b.Deletion(madeAt.Add(time.Minute)))
		a.loses("acme/first")
		a.learn(b, madeAt.Add(48*time.Hour))
		if deleted := a.Record() == nil; deleted != (ahead < maxAhead) {
			t.Errorf("saved by a clock that is %v ahead: deleted is %t", ahead, deleted)
		}
	}
}

// An import that brings a deleted messenger back, with a revocation that only that had, goes on where it was.
func TestImportOfADeletedMessengerContinues(t *testing.T) {
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	w.save(madeAt, madeAt, withTokens)
	w.change(madeAt, GenerateToken())
	file := w.Copy(madeAt)
	_, facts, err := w.Revoke(revocation.Revocation{TokenID: "stolen"}, withTokens, madeAt)
	if err != nil {
		t.Fatal(err)
	}
	w.add(madeAt, facts...)
	w.incarnation = NameFolder
	w.add(madeAt, w.Deletion(madeAt))
	d, err := w.Lacking(file, madeAt)
	if err != nil || d.Incarnation != "" || d.Revocations != 1 {
		t.Fatal(d, err)
	}
	w.incarnation = "begun"
	w.add(madeAt, WithoutValid(d.Facts)...)
	if d, err = w.Lacking(file, madeAt); err != nil || d.Incarnation != "begun" || d.Revocations != 0 || d.Added != 1 {
		t.Errorf("got %+v, %v", d, err)
	}
}

// A node hears of a deletion before it notices that the storage has lost what the deletion does not name: it becomes active then.
func TestLossNoticedAfterTheDeletion(t *testing.T) {
	a, b := incarnated(t, "aaaaaaaaaaaaaaaa", "first"), incarnated(t, "bbbbbbbbbbbbbbbb", "second")
	a.save(madeAt, madeAt, withTokens)
	at := madeAt.Add(time.Minute)
	b.brings(a.Copy(madeAt), at)
	b.incarnation = NameFolder
	b.add(at, b.Deletion(at))
	a.save(at.Add(time.Minute), madeAt, withTokens) // clocks differ
	a.learn(b, at)
	a.Take()
	if a.Record() == nil || !a.IsApplied() {
		t.Error("what the storage has is deleted by another name")
	}
	listed := make(map[vault.Key]bool)
	for key := range b.batches {
		listed[key] = true
	}
	a.compare(listed, 1<<60, at)
	if a.Record() != nil || a.IsApplied() {
		t.Error("it is there although it was deleted, or stays active")
	}
}

// A write of a repair arrives late: a deletion reaches what it has written by the time of creation alone. The deletion is kept as long as that is
// there, also if the storage fails while both are removed.
func TestDeletionIsKeptWhileItCoversStoredFacts(t *testing.T) {
	for _, name := range []string{"aaaaaaaaaaaaaaaa", "yyyyyyyyyyyyyyyy"} { // their folders are before and behind that of the name
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", name), incarnated(t, "bbbbbbbbbbbbbbbb", "cccccccccccccccc")
		a.save(madeAt, madeAt, withTokens)
		a.change(madeAt, GenerateToken())
		at := madeAt.Add(time.Minute)
		b.brings(a.Copy(madeAt), at)
		b.incarnation = NameFolder
		b.add(at, b.Deletion(at))
		b.learn(a, at)
		now := at.Add(31 * 24 * time.Hour)
		for range 2 {
			for _, key := range b.removable(now, func(*batch) time.Duration { return 0 }) {
				if key.Folder == b.Folder(name) {
					continue // the storage fails
				}
				b.forget(key, b.batches[key])
				if b.started(now).Record() != nil {
					t.Fatalf("%s, without %v: a node that starts now has the deleted messenger", name, key)
				}
			}
		}
		for range 2 {
			b.prune(now)
		}
		if len(b.batches) > 1 { // the last deletion stays
			t.Errorf("%s: %d batches are kept", name, len(b.batches))
		}
	}
}

// A messenger is deleted and brought back by a file each day, on a node that runs for long. What it remembers of that, and what settings say of
// it, is bounded.
func TestDeletionsAreForgotten(t *testing.T) {
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	w.save(madeAt, madeAt, withTokens)
	file, at := w.Copy(madeAt), madeAt
	for n := range 100 {
		at = at.Add(24 * time.Hour)
		w.incarnation = NameFolder
		w.add(at, w.Deletion(at))
		w.incarnation = fmt.Sprint("life", n)
		w.brings(file, at.Add(time.Minute))
		w.prune(at.Add(time.Hour))
	}
	current := w.ledgers[w.current()].version()
	if most := int(KeepDeletion/(24*time.Hour)) + 3; len(current.Undoes) > most || len(w.deleted) > most || len(w.deletions[madeAt.UnixNano()]) > most {
		t.Errorf("%d deletions are undone, %d are remembered by their names, and %d by time; want %d at most", len(current.Undoes), len(w.deleted), len(w.deletions[madeAt.UnixNano()]), most)
	}
}
