package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// Two nodes make and revoke tokens of the same messenger at once, on a storage that is slow. What was acknowledged is there: no
// change is lost because of another.
func TestNoUpdateIsLostBetweenTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		want := make(chan string, 100)
		work := func(n *testNode) {
			n.storage.setSlow(newChance(7, 100))
			for i := range 10 {
				kid := n.change("support", ledger.GenerateToken())
				if i < 8 { // each leaves two
					n.change("support", ledger.RevokeToken(kid, false))
					continue
				}
				want <- kid
			}
		}
		together(func() { together(func() { work(a) }, func() { work(a) }) }, func() { together(func() { work(b) }, func() { work(b) }) })
		a.storage.setSlow(nil)
		b.storage.setSlow(nil)
		close(want)
		var kids []string
		for kid := range want {
			kids = append(kids, kid)
		}
		slices.Sort(kids)
		agree(t, "afterwards", a, b)
		if got := b.kids("support"); got != strings.Join(kids, " ") {
			t.Errorf("the ring has %q, want %v", got, kids)
		}
	})
}

// Of two nodes that change the same settings at once, or create a messenger of one name, at most one is told that it succeeded,
// and its settings are there afterwards, for all.
func TestAtMostOneConcurrentSettingsWriteSucceeds(t *testing.T) {
	succeeded := 0
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			nodes := []*testNode{newTestNode(t, s, "a"), newTestNode(t, s, "b")}
			if seed%2 == 0 {
				prepare(t, nodes[0])
			}
			agree(t, "before", nodes...)
			var errs [2]error
			var seen [2]time.Duration
			put := func(i int) func() {
				return func() {
					n := nodes[i]
					n.storage.setSlow(newChance(seed*2+uint64(i), 100))
					r, err := n.Record(t.Context(), "acme", ledger.KindStored)
					if err != nil {
						t.Error(err)
					}
					c := change.Condition{Absent: r == nil}
					if r != nil {
						c.Revision, seen[i] = r.Revision, time.Duration(r.Settings.MaxLifetime)
					}
					_, _, errs[i] = n.Put(t.Context(), "acme", sharedTokenSettings(time.Duration(i+1)*time.Hour), c)
					n.storage.setSlow(nil)
				}
			}
			together(put(0), put(1))
			agree(t, "afterwards", nodes...)
			for i, err := range errs {
				var answer caddy.APIError
				switch m, rej := nodes[1-i].Find(t.Context(), "acme"); {
				case err == nil && errs[1-i] == nil && (seen[0] > 0 || seen[1] > 0): // one after the other
				case err == nil && errs[1-i] == nil:
					t.Errorf("seed %d: both were told that they succeeded", seed)
				case err == nil && (rej != nil || time.Duration(m.MaxLifetime) != time.Duration(i+1)*time.Hour):
					t.Errorf("seed %d: the settings of the one that succeeded are not there: %v", seed, rej)
				case err == nil:
					succeeded++
				case !errors.As(err, &answer) || answer.HTTPStatus != http.StatusConflict && answer.HTTPStatus != http.StatusPreconditionFailed:
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	if succeeded == 0 {
		t.Error("none succeeded, which shows nothing")
	}
}

// A node dies between any two of the accesses that make a change, or right after one. What is there is whole, the others find
// it, and they can go on.
func TestNodeCrashDuringAChange(t *testing.T) {
	ops := map[string]func(n *testNode) error{
		"generate": func(n *testNode) error {
			_, _, err := n.ChangeRing(context.Background(), "support", ledger.KindRing, ledger.GenerateToken(), change.Condition{})
			return err
		},
		"reset": func(n *testNode) error {
			_, _, err := n.ChangeRing(context.Background(), "acme", ledger.KindStored, ledger.ResetTokens(false), change.Condition{})
			return err
		},
		"revoke": func(n *testNode) error {
			_, err := n.Revoke(context.Background(), "acme", revocation.Revocation{Identity: "mark"}, "test")
			return err
		},
		"change": func(n *testNode) error {
			_, _, err := n.Put(context.Background(), "acme", sharedTokenSettings(time.Hour), change.Condition{})
			return err
		},
		"create": func(n *testNode) error {
			_, _, err := n.Put(context.Background(), "bolt", sharedTokenSettings(0), change.Condition{})
			return err
		},
		"delete": func(n *testNode) error {
			_, _, err := n.Remove(context.Background(), "acme", change.Condition{})
			return err
		},
	}
	for name, op := range ops {
		for write := 1; write <= 8; write++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, write %d, after it: %t", name, write, after), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := newServer()
						a, b, c := newTestNode(t, s, "a"), newTestNode(t, s, "b"), newTestNode(t, s, "c")
						prepare(t, a)
						agree(t, "before", b, c)
						writes := 0
						a.storage.setBefore(func(string, string) error { return nil })
						a.storage.setDies(func() (before, afterwards bool) {
							writes++
							return writes > write || writes == write && !after, writes == write && after
						})
						err := op(a)
						if err == nil && writes >= write {
							t.Error("a node that died has acknowledged its change")
						}
						a.stop()
						for range 16 { // what was about to be done is told without ringing
							b.settle()
							c.settle()
						}
						time.Sleep(2 * aboutTo)
						agree(t, "after the death", b, c)
						for _, again := range []string{"support", "acme"} {
							_, _, _ = b.ChangeRing(t.Context(), again, b.kind(again), ledger.GenerateToken(), change.Condition{})
						}
						if _, _, err := c.Put(t.Context(), "acme", sharedTokenSettings(3*time.Hour), change.Condition{}); err != nil {
							t.Error(err)
						}
						agree(t, "at the end", b, c)
					})
				})
			}
		}
	}
}
