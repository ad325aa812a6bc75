package registry_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// agree checks that every node trusts what stands in the storage.
func agree(t testing.TB, what string, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		n.settle(t)
	}
	for _, name := range slices.Concat(testConfigured, testStored) {
		want := nodes[0].written(t, name)
		for _, n := range nodes {
			if got := n.trusted(t, name); got != want {
				t.Errorf("%s: %s trusts %q of %s, and the storage has %q", what, n.storage.Node, got, name, want)
			}
		}
	}
}

// perform makes one random change, or looks at the list of changes, or asks for a messenger. What it returns is of
// interest to nobody: what was refused, or failed, must do no harm either.
func (n *testNode) perform(ctx context.Context, random *rand.Rand) {
	name := slices.Concat(testConfigured, testStored)[random.IntN(4)]
	switch random.IntN(9) {
	case 0, 1:
		_, _ = n.ChangeTokens(ctx, name, admin.GenerateToken(), registry.Condition{}, "test")
	case 2:
		_, _ = n.ChangeTokens(ctx, name, admin.RotateTokens(time.Duration(random.IntN(2))*time.Hour), registry.Condition{}, "test")
	case 3:
		_, _ = n.ChangeTokens(ctx, name, admin.ResetTokens(false), registry.Condition{}, "test")
	case 4:
		if r, err := n.Tokens(ctx, name); err == nil && len(r.Tokens) > 0 {
			_, _ = n.ChangeTokens(ctx, name, admin.RevokeToken(r.Tokens[random.IntN(len(r.Tokens))].KeyID, false), registry.Condition{}, "test")
		}
	case 5:
		_, _, _ = n.Put(ctx, testStored[random.IntN(2)], &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}, registry.Condition{}, "test")
	case 6:
		if random.IntN(3) == 0 {
			_ = n.Remove(ctx, testStored[random.IntN(2)], registry.Condition{}, "test")
		}
	case 7:
		n.Store.Poll(ctx)
	case 8:
		_, _ = n.Find(ctx, name)
	}
}

// Two nodes on one storage, each with several administrators and with requests, in every order that chance brings, on a
// storage that is slow and fails. At the next look at the list of changes both trust what is written there.
func TestNodesAgreeAfterAnyInterleaving(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		s := newServer()
		nodes := []*testNode{newTestNode(t, s, fmt.Sprint(" a", round)), newTestNode(t, s, fmt.Sprint(" b", round))}
		for _, n := range nodes {
			n.storage.delay = 100 * time.Microsecond
			if round%2 == 1 {
				n.storage.failures = 0.1
			}
		}
		var all sync.WaitGroup
		for i, n := range nodes {
			for worker := range 3 {
				all.Go(func() {
					random := rand.New(rand.NewPCG(uint64(round), uint64(10*i+worker)))
					for range 25 {
						n.perform(t.Context(), random)
					}
				})
			}
		}
		all.Wait()
		for _, n := range nodes {
			s.mu.Lock()
			n.storage.failures, n.storage.delay = 0, 0
			s.mu.Unlock()
			(*n.Store.Failed()).Store(0)
		}
		if agree(t, fmt.Sprintf("round %d", round), nodes...); t.Failed() {
			return
		}
	}
}

// A node gives the lock back, and before it goes on, another changes the same ring and the node itself reads that. What it
// wrote is older by then and must not come into force.
func TestAnOlderChangeDoesNotOvertakeANewerOne(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", a, b)
	for _, name := range []string{"support", "acme"} {
		s.mu.Lock()
		a.storage.unlocked = func() {
			if _, err := b.ChangeTokens(t.Context(), name, admin.ResetTokens(false), registry.Condition{}, "test"); err != nil {
				t.Error(err)
			}
			a.Store.Poll(t.Context())
		}
		s.mu.Unlock()
		if _, err := a.ChangeTokens(t.Context(), name, admin.GenerateToken(), registry.Condition{}, "test"); err != nil {
			t.Fatal(err)
		}
		agree(t, "afterwards", a, b)
	}
}

// Both nodes make and revoke tokens of the same messengers at once. What was acknowledged holds: no change is made over
// the head of another.
func TestNoUpdateIsLostBetweenTwoNodes(t *testing.T) {
	s := newServer()
	nodes := []*testNode{newTestNode(t, s, " a"), newTestNode(t, s, " b")}
	for _, n := range nodes {
		n.storage.delay = 100 * time.Microsecond
	}
	var mu sync.Mutex
	want := make(map[string]bool)
	var all sync.WaitGroup
	for _, n := range nodes {
		for range 2 {
			all.Go(func() {
				for i := range 20 {
					made, err := n.ChangeTokens(t.Context(), "support", admin.GenerateToken(), registry.Condition{}, "test")
					if err != nil {
						t.Errorf("generating: %v", err)
						return
					}
					if i < 18 { // each of the four leaves two
						if _, err := n.ChangeTokens(t.Context(), "support", admin.RevokeToken(made.KeyID, false), registry.Condition{}, "test"); err != nil {
							t.Errorf("revoking: %v", err)
						}
						continue
					}
					mu.Lock()
					want[made.KeyID] = true
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	if got := nodes[0].written(t, "support"); got != strings.Join(slices.Sorted(maps.Keys(want)), " ") {
		t.Errorf("the ring has %q, want %v", got, want)
	}
	agree(t, "afterwards", nodes...)
}

// A node dies between any two of the writes that make a change, or right after one. What is there is whole, and the others
// find it, whether or not somebody makes another change before they look.
func TestANodeDiesInTheMiddleOfAChange(t *testing.T) {
	ops := map[string]func(n *testNode) error{
		"generate": func(n *testNode) error {
			_, err := n.ChangeTokens(context.Background(), "support", admin.GenerateToken(), registry.Condition{}, "test")
			return err
		},
		"reset": func(n *testNode) error {
			_, err := n.ChangeTokens(context.Background(), "acme", admin.ResetTokens(false), registry.Condition{}, "test")
			return err
		},
		"create": func(n *testNode) error {
			_, _, err := n.Put(context.Background(), "bolt", &config.Messenger{IdentityKey: "sub", SharedToken: new(config.SharedToken)}, registry.Condition{}, "test")
			return err
		},
		"delete": func(n *testNode) error { return n.Remove(context.Background(), "acme", registry.Condition{}, "test") },
	}
	for name, op := range ops {
		for write := 1; write <= 3; write++ {
			for _, after := range []bool{false, true} {
				for _, between := range []string{"nobody", "another name", "the same name"} {
					t.Run(fmt.Sprintf("%s, write %d, after %t, then %s", name, write, after, between), func(t *testing.T) {
						t.Parallel()
						s := newServer()
						a, b, c := newTestNode(t, s, "a"), newTestNode(t, s, "b"), newTestNode(t, s, "c")
						prepare(t, a)
						agree(t, "before", b, c) // they hold all of it
						s.mu.Lock()
						a.storage.diesAt, a.storage.after, a.storage.writes = write, after, 0
						s.mu.Unlock()
						if err := op(a); err == nil {
							t.Error("a node that died has acknowledged its change")
						}
						agree(t, "after the death", b)
						switch between {
						case "another name":
							if _, err := b.ChangeTokens(t.Context(), "sales", admin.GenerateToken(), registry.Condition{}, "test"); err != nil {
								t.Fatal(err)
							}
						case "the same name":
							for _, again := range []string{"support", "acme"} {
								_, _ = b.ChangeTokens(t.Context(), again, admin.GenerateToken(), registry.Condition{}, "test")
							}
						}
						agree(t, "at the end", b, c, newTestNode(t, s, "d"))
					})
				}
			}
		}
	}
}

func prepare(t *testing.T, n *testNode) {
	t.Helper()
	if _, _, err := n.Put(t.Context(), "acme", &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}, registry.Condition{}, "test"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"support", "sales", "acme"} {
		if _, err := n.ChangeTokens(t.Context(), name, admin.GenerateToken(), registry.Condition{}, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

// The list of changes is no source of trust, and nothing depends on its being there. Whoever meets a list that does not
// go on where the last one ended reads again what it holds.
func TestAListOfChangesThatIsLostDamagedOrSetBack(t *testing.T) {
	change := func(t *testing.T, n *testNode, name string) {
		t.Helper()
		if _, err := n.ChangeTokens(t.Context(), name, admin.ResetTokens(false), registry.Condition{}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for what, spoil := range map[string]func(t *testing.T, a *testNode, old []byte){
		"lost":    func(_ *testing.T, a *testNode, _ []byte) { a.storage.set(vault.ChangesKey, nil) },
		"damaged": func(_ *testing.T, a *testNode, _ []byte) { a.storage.set(vault.ChangesKey, []byte("x")) },
		"in clear": func(_ *testing.T, a *testNode, _ []byte) {
			a.storage.set(vault.ChangesKey, []byte(`{"epoch":"","number":0}`))
		},
		"set back":   func(_ *testing.T, a *testNode, old []byte) { a.storage.set(vault.ChangesKey, old) },
		"never told": func(_ *testing.T, a *testNode, _ []byte) {},
		"lost, then another change": func(t *testing.T, a *testNode, _ []byte) {
			a.storage.set(vault.ChangesKey, nil)
			change(t, a, "sales")
		},
		"damaged, then another change": func(t *testing.T, a *testNode, _ []byte) {
			a.storage.set(vault.ChangesKey, []byte("x"))
			change(t, a, "sales")
		},
		"set back, then another change": func(t *testing.T, a *testNode, old []byte) {
			a.storage.set(vault.ChangesKey, old)
			change(t, a, "sales")
		},
		"set back, then as many changes of others": func(t *testing.T, a *testNode, old []byte) {
			a.storage.set(vault.ChangesKey, old)
			for range 8 {
				change(t, a, "sales")
			}
		},
		"more changes than it holds": func(t *testing.T, a *testNode, _ []byte) {
			for range vault.MaxChanges + 1 {
				change(t, a, "sales")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newServer()
			a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
			prepare(t, a)
			old := s.get(vault.ChangesKey)
			for range 3 {
				change(t, a, "acme")
				agree(t, "before", b)
			}
			change(t, a, "support")
			change(t, a, "acme")
			spoil(t, a, old)
			agree(t, "afterwards", b)
		})
	}
}

// A reload ends the re-reading that its configuration began. The next configuration goes on with it.
func TestAReloadDoesNotEndWhatIsToBeReadAgain(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	if _, err := a.ChangeTokens(t.Context(), "support", admin.ResetTokens(false), registry.Condition{}, "test"); err != nil {
		t.Fatal(err)
	}
	s.set(vault.ChangesKey, nil)
	ended, cancel := context.WithCancel(t.Context())
	s.mu.Lock()
	b.storage.delay = 10 * time.Millisecond
	s.mu.Unlock()
	b.Store.Poll(ended)
	cancel()
	for (*b.Store.Rereading()).Load() {
		time.Sleep(time.Millisecond)
	}
	agree(t, "after the next poll", b)
}

// A configuration drops a messenger, another node changes its ring, and a later configuration has it again.
func TestARingIsNotTakenFromMemoryLater(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	without := registry.RegistryOn(b.Store, nil, zap.NewNop())
	b.Store.Attach(without)
	b.Store.Detach(b.Registry)
	if _, err := a.ChangeTokens(t.Context(), "support", admin.ResetTokens(false), registry.Condition{}, "test"); err != nil {
		t.Fatal(err)
	}
	b.settle(t)
	b.Store.Attach(b.Registry)
	b.Store.Detach(without)
	agree(t, "with the messenger again", b)
}

// The storage fails for a while. What was read stays in force; what changed meanwhile is known soon after.
func TestAnOutageOfTheStorage(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	old := b.trusted(t, "acme")
	s.mu.Lock()
	b.storage.failures = 1
	s.mu.Unlock()
	for _, name := range []string{"support", "acme"} {
		if _, err := a.ChangeTokens(t.Context(), name, admin.ResetTokens(false), registry.Condition{}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		b.Store.Poll(t.Context())
	}
	if got := b.trusted(t, "acme"); got != old {
		t.Errorf("in the outage %q is trusted, want %q as before", got, old)
	}
	if got := b.trusted(t, "unheard-of"); got != "keys_unavailable" {
		t.Errorf("a name that was not asked for before is %s, and nobody can say", got)
	}
	if (*b.Store.Status()).Load().Err == nil {
		t.Error("the outage is not noticed")
	}
	s.mu.Lock()
	b.storage.failures = 0
	s.mu.Unlock()
	agree(t, "after the outage", b)
	if (*b.Store.Status()).Load().Err != nil {
		t.Error("the end of the outage is not noticed")
	}
}

// A storage that cannot be reached says of every key that it does not exist, as caddy-storage-redis 1.8.1 does. What was
// read stays in force, and no ring is replaced by a new one.
func TestAStorageThatSaysNotThereWhenItIsOutOfReach(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	before := make(map[string]string)
	for _, name := range []string{"support", "acme"} {
		before[name] = b.trusted(t, name)
	}
	s.mu.Lock()
	b.storage.liesBelow = 1000 // all of its reads
	s.mu.Unlock()
	b.settle(t)
	for name, want := range before {
		if got := b.trusted(t, name); got != want {
			t.Errorf("%s: %q is trusted, want %q as before", name, got, want)
		}
		if _, err := b.ChangeTokens(t.Context(), name, admin.GenerateToken(), registry.Condition{}, "test"); err == nil {
			t.Errorf("%s: a change on a storage that is out of reach is acknowledged", name)
		}
	}
	if got := b.trusted(t, "unheard-of"); got != "keys_unavailable" {
		t.Errorf("a name that was not asked for before is %s, and nobody can say", got)
	}
	// One lost connection is enough to lose a ring, when what is read behind it goes well.
	for reads := 1; reads <= 4; reads++ {
		s.mu.Lock()
		b.storage.liesBelow = reads
		s.mu.Unlock()
		(*b.Store.Failed()).Store(0)
		_, _ = b.ChangeTokens(t.Context(), "support", admin.GenerateToken(), registry.Condition{}, "test")
		for name, want := range before {
			if got := a.written(t, name); !strings.Contains(got, want) {
				t.Errorf("after %d reads: %s has %q written, and %q was there", reads, name, got, want)
			}
		}
	}
	s.mu.Lock()
	b.storage.liesBelow = 0
	s.mu.Unlock()
	(*b.Store.Failed()).Store(0)
	agree(t, "afterwards", a, b)
}
