package registry

import (
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// refuse makes accesses to keys fail as those of a file system to files of another user. Without keys it ends that.
func (s *nodeStorage) refuse(op string, keys func(key string) bool) {
	s.setBefore(func(at, key string) error {
		if keys != nil && at == op && keys(key) {
			return fs.ErrPermission
		}
		return nil
	})
}

// added returns which keys of a messenger one state of the storage has, and another does not.
func added(name string, before, after map[string][]byte) func(key string) bool {
	return func(key string) bool {
		return before[key] == nil && after[key] != nil && strings.Contains(key, "/"+name+"/")
	}
}

// A list has a revocation that the storage has lost. The file system refuses the listing of the messenger's folder, or one of its values:
// whether the revocation was lost is not known.
func TestRevocationImportNeedsAReadableStorage(t *testing.T) {
	for _, name := range []string{"acme", "support"} {
		for _, refused := range []string{"list", "load"} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				a.settle()
				a.kids(name)
				backup := s.backup()
				v := revocation.Revocation{TokenID: "one"}
				a.revoke(name, v, "test")
				a.settle()
				s.restore(backup)
				keys := func(key string) bool { return strings.HasSuffix(key, "/"+name) }
				if refused == "load" { // what another node has written, as another user
					time.Sleep(time.Second)
					newTestNode(t, s, "b").revoke(name, revocation.Revocation{TokenID: "two"}, "test")
					keys = added(name, backup, s.backup())
				}
				time.Sleep(time.Minute)
				a.storage.refuse(refused, keys)
				added, _, err := a.RevokeAll(t.Context(), name, []revocation.Revocation{v}, "test")
				a.storage.refuse("", nil)
				if stored := newTestNode(t, s, "c").refuses(name, "someone", "one", Now().Add(-time.Hour)); (err == nil) != stored {
					t.Errorf("%s, %s: answered with %v (%d added); a node that starts now has it: %t", name, refused, err, added, stored)
				}
			})
		}
	}
}

// A repair writes back a lost reset also if it cannot write another value of the messenger. The new token waits: what revokes that may be what
// cannot be written.
func TestRepairRevokesTokensDespiteAFailedWrite(t *testing.T) {
	for how, ring := range map[string]ledger.RingChange{"reset": ledger.ResetTokens(true), "rotate": ledger.RotateTokens(0)} {
		for _, name := range []string{"acme", "support"} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				a.settle()
				ended := a.kids(name)
				backup := s.backup()
				a.revoke(name, revocation.Revocation{Identity: "mark"}, "test")
				a.settle()
				with := s.backup()
				a.change(name, ring)
				a.settle()
				s.restore(backup)
				time.Sleep(20 * time.Minute)
				sweep(t, a)
				a.storage.refuse("store", added(name, backup, with))
				done, err := a.Repair(t.Context())
				a.storage.refuse("", nil)
				if err != nil || done.Messengers != 1 || len(done.Failed) != 1 {
					t.Errorf("%s, %s: %+v, %v", how, name, done, err)
				}
				if got := newTestNode(t, s, "c").kids(name); strings.Contains(got, ended) {
					t.Errorf("%s, %s: a node that starts after the first repair verifies %s", how, name, got)
				}
				if done, err = a.Repair(t.Context()); err != nil || done.Messengers != 1 || len(done.Failed) != 0 {
					t.Errorf("%s, %s, again: %+v, %v", how, name, done, err)
				}
				if d := newTestNode(t, s, "d"); d.state(name) != a.state(name) {
					t.Errorf("%s, %s: a node that starts after both says\n%s\nand the one that was asked\n%s", how, name, d.state(name), a.state(name))
				}
			})
		}
	}
}

// A file system refuses one value of one messenger for a month. With store_max_age, that messenger does not go on without it; the others, and
// what this node knows of them, stay.
func TestRefusedFileAffectsItsMessengerOnly(t *testing.T) {
	for _, maxAge := range []time.Duration{0, time.Hour} {
		for of, other := range map[string]string{"support": "acme", "acme": "support"} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				a.UseMaxAge(maxAge)
				prepare(t, a)
				a.settle()
				before := s.backup()
				newTestNode(t, s, "b").revoke(of, revocation.Revocation{Identity: "mark"}, "test")
				seen, kids := healthSeen{started: time.Now()}, map[string]string{of: a.kids(of), other: a.kids(other)}
				poll := func(n int) {
					for range n {
						time.Sleep(12 * time.Hour)
						a.Store.poll(t.Context())
						a.Store.checkHealth(&seen)
						a.kids(of)
						a.kids(other)
					}
				}
				a.storage.refuse("load", added(of, before, s.backup()))
				poll(29 * 2)
				want := kids[of]
				if maxAge > 0 {
					want = "keys_unavailable"
				}
				if a.Store.isAway() || a.kids(other) != kids[other] || a.kids(of) != want {
					t.Errorf("%s for %s: away: %t, %s verifies %q, %s %q", of, maxAge, a.Store.isAway(), other, a.kids(other), of, a.kids(of))
				}
				leaked := a.change(other, ledger.GenerateToken())
				backup := s.backup()
				a.change(other, ledger.RevokeToken(leaked, true))
				s.restore(backup)
				poll(2)
				if got := a.kids(other); strings.Contains(got, leaked) {
					t.Errorf("%s: %s verifies %s again", of, other, leaked)
				}
				a.storage.refuse("", nil)
				poll(2)
				if got := a.kids(of); got != kids[of] || !a.refuses(of, "mark", "", Now().Add(-40*24*time.Hour)) {
					t.Errorf("%s for %s: after the end of it, it verifies %q, before %q; mark is refused: %t", of, maxAge, got, kids[of], a.refuses(of, "mark", "", Now().Add(-40*24*time.Hour)))
				}
			})
		}
	}
}

// A lost reset is written back also if the storage has a value that cannot be read: of a file that another user wrote, nothing is known.
func TestRepairNextToAnUnreadableFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		ended, backup := a.kids("support"), s.backup()
		a.change("support", ledger.ResetTokens(true))
		a.settle()
		s.restore(backup)
		time.Sleep(20 * time.Minute)
		sweep(t, a)
		newTestNode(t, s, "b").revoke("support", revocation.Revocation{Identity: "mark"}, "test")
		a.storage.refuse("load", added("support", backup, s.backup()))
		done, err := a.Repair(t.Context())
		a.storage.refuse("", nil)
		if err != nil || len(done.Failed) != 1 {
			t.Errorf("%+v, %v", done, err)
		}
		if got := newTestNode(t, s, "c").kids("support"); strings.Contains(got, ended) {
			t.Errorf("a node that starts now verifies %s", got)
		}
	})
}

// What ends tokens is written once beside a value that cannot be written, however often that is tried.
func TestRepeatedRepairsWriteNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		backup := s.backup()
		a.revoke("support", revocation.Revocation{Identity: "mark"}, "test")
		a.settle()
		with := s.backup()
		a.change("support", ledger.ResetTokens(true))
		a.settle()
		s.restore(backup)
		time.Sleep(20 * time.Minute)
		sweep(t, a)
		a.storage.refuse("store", added("support", backup, with))
		defer a.storage.refuse("", nil)
		for range 5 {
			if _, _, err := a.ChangeRing(t.Context(), "support", ledger.KindRing, ledger.GenerateToken(), change.Condition{}); err == nil {
				t.Error("a token is generated beside what is lost")
			}
			_, _ = a.Repair(t.Context())
		}
		written := 0
		for key := range s.backup() {
			if backup[key] == nil && strings.Contains(key, "/support/") {
				written++
			}
		}
		if written != 1 {
			t.Errorf("%d values were written, want 1", written)
		}
	})
}
