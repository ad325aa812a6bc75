package registry

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A version is one change of the settings, as its caller knows it: max_lifetime tells the versions apart, and is 0 in the first.
type version struct {
	parent time.Duration // that its caller had read
	told   outcome
	err    error
}

// settingsWriters are operators who change one messenger at once, each on a node, after looking at it. Every access to the storage
// takes a random time, and sometimes a long one. In half of the schedules some fail, and writes of which nothing was heard arrive later.
type settingsWriters struct {
	t    *testing.T
	seed uint64

	mu       sync.Mutex
	versions map[time.Duration]*version
	lasting  []string // revocations and shared tokens that were acknowledged
	counts   map[outcome]int
	waited   int // schedules at whose end a change had to wait
}

func (w *settingsWriters) run(t *testing.T, seed uint64) {
	w.t, w.seed = t, seed
	s := newServer()
	random := rand.New(rand.NewPCG(seed, 16))
	w.versions, w.lasting = make(map[time.Duration]*version), nil
	nodes := make([]*testNode, 3+random.IntN(2))
	for i := range nodes {
		nodes[i] = newTestNode(t, s, string(rune('A'+i)))
	}
	if seed%2 == 0 { // otherwise they create it, at once
		if _, _, err := nodes[0].Put(t.Context(), "acme", sharedTokenSettings(0), change.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	var writers sync.WaitGroup
	for i, n := range nodes {
		delays := rand.New(rand.NewPCG(seed, uint64(i)))
		var mu sync.Mutex
		n.storage.setBefore(func(_, key string) error {
			mu.Lock()
			pause := time.Duration(delays.IntN(10)) * time.Millisecond
			if _, batch := vault.ParseKey(key); batch && delays.IntN(4) == 0 {
				pause *= 8
			}
			mu.Unlock()
			time.Sleep(pause)
			return nil
		})
		if seed%4 >= 2 {
			n.storage.setChance(newChance(random.Uint64(), 3))
		}
		writers.Go(func() {
			for round := range 6 {
				w.change(n, time.Duration(1+i+len(nodes)*round)*time.Hour)
			}
		})
	}
	writers.Go(func() {
		for range 30 {
			time.Sleep(50 * time.Millisecond)
			s.land(random)
		}
	})
	writers.Wait()
	for _, n := range nodes {
		n.storage.setBefore(nil)
		n.storage.setChance(nil)
	}
	for s.land(random) {
	}
	w.end(newTestNode(t, s, "new"))
}

// change looks at the messenger, and creates or changes it, if it can be read.
func (w *settingsWriters) change(n *testNode, lifetime time.Duration) {
	r, err := n.Record(w.t.Context(), "acme", ledger.KindStored)
	if err != nil {
		time.Sleep(time.Second)
		return
	}
	v, seen := new(version), change.Condition{Absent: true}
	if r != nil {
		v.parent, seen = time.Duration(r.Settings.MaxLifetime), change.Condition{Revision: r.Revision}
	}
	_, _, v.err = n.Put(w.t.Context(), "acme", sharedTokenSettings(lifetime), seen)
	v.told = outcomeOf(v.err)
	made := w.addTo(w.t, n, fmt.Sprint("token of ", lifetime))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[lifetime] = v
	w.counts[v.told]++
	w.lasting = append(w.lasting, made...)
}

// end looks at what is there after all faults, on a node that has just started. That can change the messenger, at the latest when
// nobody can be waiting for an answer any more.
func (w *settingsWriters) end(n *testNode) {
	time.Sleep(time.Minute) // what writers owe
	r, err := n.StoredRecord(w.t.Context(), "acme")
	if err != nil {
		w.t.Fatalf("seed %d: %v", w.seed, err)
	}
	w.check(w.t, w.seed, time.Duration(r.Settings.MaxLifetime))
	n.settle()
	for _, made := range w.lasting {
		if !strings.Contains(n.state("acme"), made) {
			w.t.Errorf("seed %d: acknowledged, and not there: %s", w.seed, made)
		}
	}
	begun := time.Now()
	for {
		_, err := n.Revoke(w.t.Context(), "acme", revocation.Revocation{All: true}, "test")
		if err == nil {
			break
		}
		if waited := time.Since(begun); waited > ledger.Undecided+time.Minute {
			w.t.Fatalf("seed %d: a new node cannot change the messenger after %s: %v", w.seed, waited, err)
		}
		time.Sleep(20 * time.Second)
	}
	if waited := time.Since(begun); waited > time.Second {
		w.waited++
	}
}

// addTo revokes a contact's token and makes a shared token, and returns what of that was acknowledged.
func (w *settingsWriters) addTo(t *testing.T, n *testNode, jti string) (acknowledged []string) {
	if _, err := n.Revoke(t.Context(), "acme", revocation.Revocation{TokenID: revocation.TokenID(jti)}, "test"); err == nil {
		acknowledged = append(acknowledged, jti)
	}
	if made, _, err := n.ChangeRing(t.Context(), "acme", ledger.KindStored, ledger.GenerateToken(), change.Condition{}); err == nil {
		acknowledged = append(acknowledged, made.KeyID)
	}
	return acknowledged
}

// check follows the versions back from the one that is there: none of them was refused, and every acknowledged one is among them.
func (w *settingsWriters) check(t *testing.T, seed uint64, last time.Duration) {
	ancestors := make(map[time.Duration]bool)
	for at := last; at != 0; at = w.versions[at].parent {
		if ancestors[at] = true; w.versions[at].told == refused {
			t.Errorf("seed %d: the settings %s are there, or others that were made from them, and whoever made them was told %v", seed, at, w.versions[at].err)
		}
	}
	for lifetime, v := range w.versions {
		if v.told == acknowledged && !ancestors[lifetime] {
			t.Errorf("seed %d: the settings %s were acknowledged, and those that are there, %s, were made without having seen them", seed, lifetime, last)
		}
	}
	if t.Failed() {
		for lifetime, v := range w.versions {
			t.Logf("%s, made from %s: %v", lifetime, v.parent, v.err)
		}
	}
}

// Operators change the same settings at once, each after reading them. No change overwrites another that was acknowledged, and a
// change that was reported as not made is not in the store.
//
// MESSENGER_SEED runs one schedule, and MESSENGER_SEQUENCES another number of them.
func TestManyWritersOfTheSameSettings(t *testing.T) {
	first, schedules := uint64(0), uint64(testsize.Of(40, 600))
	if seed, err := strconv.ParseUint(os.Getenv("MESSENGER_SEED"), 10, 64); err == nil {
		first, schedules = seed, 1
	}
	if n, err := strconv.ParseUint(os.Getenv("MESSENGER_SEQUENCES"), 10, 64); err == nil {
		schedules = n
	}
	w := &settingsWriters{counts: make(map[outcome]int)}
	for seed := first; seed < first+schedules && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { w.run(t, seed) })
	}
	t.Log(fmt.Sprint(w.counts[acknowledged], " changes acknowledged, ", w.counts[unknown], " of unknown outcome, ", w.counts[refused], " refused; ", w.waited, " times the last change had to wait"))
	if first == 0 && (w.counts[acknowledged] < int(schedules) || w.counts[refused] < int(schedules)) {
		t.Errorf("%v, which shows nothing", w.counts)
	}
}

// One writer is stopped before it confirms its settings, another before it withdraws its own. A third one builds upon those that
// will be withdrawn.
func TestThreeWriters(t *testing.T) {
	s := newServer()
	a, u, w := newTestNode(t, s, "a"), newTestNode(t, s, "u"), newTestNode(t, s, "w")
	ctx := t.Context()
	if _, _, err := a.Put(ctx, "acme", sharedTokenSettings(time.Hour), change.Condition{}); err != nil {
		t.Fatal(err)
	}
	put := func(n *testNode, lifetime time.Duration, c change.Condition) chan error {
		done := make(chan error, 1)
		go func() {
			_, _, err := n.Put(ctx, "acme", sharedTokenSettings(lifetime), c)
			done <- err
		}()
		return done
	}
	aStopped, aGoesOn := a.stopAt()
	uStopped, uGoesOn := u.stopAt()
	first := put(a, 2*time.Hour, change.Condition{})
	<-aStopped
	second := put(u, 3*time.Hour, change.Condition{})
	<-uStopped
	aGoesOn <- true
	<-aStopped // it has found no other version, and is about to confirm its own
	uGoesOn <- true
	<-uStopped // it has found that of a, and is about to withdraw its own
	seen, err := w.StoredRecord(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	third := <-put(w, 4*time.Hour, change.Condition{Revision: seen.Revision})
	aGoesOn <- true
	uGoesOn <- true
	errA, errU := <-first, <-second
	t.Logf("w has seen %s; a was told %v, u %v, w %v", time.Duration(seen.Settings.MaxLifetime), errA, errU, third)
	if errA == nil && third == nil && time.Duration(seen.Settings.MaxLifetime) != 2*time.Hour {
		t.Error("two changes of the same settings were acknowledged, and the second one was made without having seen the first")
	}
}
