package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

func withKeys(id string, keys ...string) *config.Messenger {
	m := &config.Messenger{IdentityKey: id}
	for _, key := range keys {
		m.PublicKey = append(m.PublicKey, config.PublicKey{Key: key})
	}
	return m
}

// A stolen key was removed, and the storage is restored from a backup with it. However often a node that knows only the backup saves other
// settings, the key stays removed when the node that knows of it writes that back: the later settings were not made from the removal.
func TestKeyRemovedBeforeARestoreStaysRemoved(t *testing.T) {
	for saves := 1; saves <= 4; saves++ {
		for _, pruned := range []bool{false, true} {
			a := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
			a.save(madeAt, madeAt, withKeys("sub", "kept", "stolen"))
			backup := a.started(madeAt)
			a.save(madeAt.Add(time.Hour), madeAt, withKeys("sub", "kept"))
			backup.writer = "bbbbbbbbbbbbbbbb"
			at := madeAt.Add(2 * time.Hour)
			for n := range saves {
				backup.save(at.Add(time.Duration(n)*time.Minute), madeAt, withKeys(fmt.Sprint("sub", n), "kept", "stolen"))
			}
			if pruned {
				at = at.Add(40 * time.Hour)
				backup.prune(at)
			}
			backup.learn(a, at.Add(time.Hour)) // the repair
			a.learn(backup, at.Add(time.Hour))
			for _, w := range []*writing{a, backup} {
				if keys := w.Record().Settings.PublicKey; len(keys) != 1 || keys[0].Key != "kept" {
					t.Errorf("%d saves, pruned %t, node %s: trusted are %v", saves, pruned, w.writer, keys)
				}
			}
		}
	}
}

// Someone names a removed key again in settings that were made from the removal, on a node that has read the settings without the fact. That
// was meant, also when a day later the versions before are removed.
func TestReaddedKeyStaysTrusted(t *testing.T) {
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	w.save(madeAt, madeAt, withKeys("sub", "kept", "key"))
	w.save(madeAt.Add(time.Minute), madeAt, withKeys("sub", "kept"))
	l := w.ledgers["first"]
	late := l.dropped[keyHash("key")]
	if len(late) != 1 {
		t.Fatalf("%d facts say that the key was removed", len(late))
	}
	dropped := *late[0]
	l.dropped = make(map[string][]*Fact) // its writer is stopped before it writes this
	w.save(madeAt.Add(2*time.Minute), madeAt, withKeys("sub", "kept", "key"))
	l.dropped[dropped.Key] = []*Fact{&dropped}
	for _, after := range []time.Duration{time.Hour, 40 * time.Hour, 400 * time.Hour} {
		at := madeAt.Add(after)
		w.prune(at)
		if keys := w.Record().Settings.PublicKey; len(keys) != 2 {
			t.Errorf("after %v: trusted are %v", after, keys)
		}
	}
	at := madeAt.Add(500 * time.Hour)
	for n := range 3 { // from then on the settings say that they know of it
		w.save(at.Add(time.Duration(n)*time.Hour), madeAt, withKeys(fmt.Sprint("sub", n), "kept", "key"))
	}
	for range 2 { // the proof goes after the version that needs it
		w.prune(at.Add(40 * time.Hour))
	}
	if keys := w.Record().Settings.PublicKey; len(keys) != 2 || len(w.ledgers["first"].versions) != 1 {
		t.Errorf("saved again: trusted are %v, with %d versions", keys, len(w.ledgers["first"].versions))
	}
}

// The storage was emptied, and a file has brought a messenger back. What is revoked on a node that knows both incarnations reaches nodes
// that know only the one that the storage has.
func TestChangesAreWrittenToAStoredIncarnation(t *testing.T) {
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		a.save(madeAt, madeAt, withTokens)
		file, at := a.Copy(madeAt), madeAt.Add(time.Minute)
		a.loses("acme/" + names[0])
		lost := a.Lost()
		b.brings(file, at)
		a.learn(b, at)
		incarnation, facts, err := a.Revoke(revocation.Revocation{Identity: "bob"}, withTokens, at)
		if err != nil {
			t.Fatal(err)
		}
		a.incarnation, a.number = incarnation, 10
		a.add(at, facts...)
		for key, batch := range a.batches { // what the storage has now
			if lost[key] == nil {
				if err := b.Add(key, batch.texts, at); err != nil {
					t.Fatal(err)
				}
			}
		}
		if fresh := b.started(at); len(fresh.Rules(at)) != 1 {
			t.Errorf("%v: written to %s, and a node that reads the storage has %d rules", names, incarnation, len(fresh.Rules(at)))
		}
	}
}

// Settings that are saved every night do not pile up.
func TestOldSettingsVersionsAreRemoved(t *testing.T) {
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	at := madeAt
	for n := range 100 {
		at = at.Add(20 * time.Hour)
		w.save(at, madeAt, &config.Messenger{IdentityKey: fmt.Sprint("k", n)})
		w.prune(at)
		if got := w.Record().Settings.IdentityKey; got != fmt.Sprint("k", n) {
			t.Fatalf("after %d saves the settings are those of %s", n+1, got)
		}
	}
	if n := len(w.ledgers["first"].versions); n > 4 {
		t.Errorf("%d versions are kept of 100", n)
	}
}

// A key that was named again stays trusted, also if what is of no use is removed while two nodes change the settings at once and neither
// succeeds.
func TestReaddedKeyStaysTrustedDuringConcurrentChanges(t *testing.T) {
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	w.save(madeAt, madeAt, withKeys("sub", "kept", "key"))
	w.save(madeAt.Add(time.Minute), madeAt, withKeys("sub", "kept"))
	l := w.ledgers["first"]
	dropped := *l.dropped[keyHash("key")][0]
	l.dropped = make(map[string][]*Fact)
	w.save(madeAt.Add(2*time.Minute), madeAt, withKeys("sub", "kept", "key"))
	l.dropped[dropped.Key] = []*Fact{&dropped}
	at := madeAt.Add(50 * time.Hour)
	w.prune(at)
	if n := len(w.Record().Settings.PublicKey); n != 2 {
		t.Fatal(n)
	}
	v, _, err := w.NextVersion(withKeys("sub2", "kept", "key"), at)
	if err != nil {
		t.Fatal(err)
	}
	w.add(at, v...)
	w.prune(at.Add(time.Second))
	w.add(at.Add(2*time.Second), w.Withdrawal(v[0], at.Add(2*time.Second)))
	if n := len(w.Record().Settings.PublicKey); n != 2 {
		t.Errorf("%d keys are trusted", n)
	}
}
