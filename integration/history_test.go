package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// pollInterval is that of clusterOptions.
const pollInterval = 500 * time.Millisecond

// Clients of two nodes change the same messengers at the same time: settings, shared tokens, revocations, logouts, deletions
// and what undoes them, while nodes and their storage fail. Whatever order that has:
//
//   - a change that was acknowledged is not lost;
//   - a token whose end was acknowledged is refused from then on by the node that acknowledged it, and in the end by all;
//     with times, by healthy nodes after poll_interval + 1 s;
//   - a valid token is not refused (503 is not a refusal);
//   - at the end all nodes show and decide the same.
//
// MESSENGER_SOAK=1 runs 20 minutes, with times, longer faults and clocks that step. MESSENGER_SEED repeats a run, as far as
// processes and networks let that be done.
func TestAcknowledgedChangesAreNotLost(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		seed := rand.Uint64N(1e9)
		if text := os.Getenv("MESSENGER_SEED"); text != "" {
			var err error
			if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if !soaking() {
			runHistory(t, storage, historySettings{seed: seed, duration: 5 * time.Second, faults: 3 * time.Second})
			return
		}
		for begun := time.Now(); time.Since(begun) < 20*time.Minute && !t.Failed(); seed++ {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { // its processes end with it
				runHistory(t, storage, historySettings{seed: seed, duration: 2 * time.Minute, faults: time.Minute, timed: true})
			})
		}
	})
}

// The same without faults: two writers alone.
func TestTwoWritersAgree(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		runHistory(t, storage, historySettings{seed: rand.Uint64N(1e9), duration: time.Second})
	})
}

// historySettings are how a history is made.
type historySettings struct {
	seed     uint64
	duration time.Duration
	faults   time.Duration // the longest fault; 0 for none
	timed    bool          // whether times are checked, and clocks step
}

func runHistory(t *testing.T, storage string, settings historySettings) {
	t.Helper()
	seed := settings.seed
	h := &history{t: t, seed: seed, names: []string{"a", "b", "c"}, begun: time.Now(), models: make(map[string]ledger), passes: make(map[string][]*pass), counts: make(map[string]int)}
	h.c = newFaultCluster(t, storage, clusterSettings{names: h.names, clocks: settings.timed})
	h.sick = make([][]*period, len(h.c.nodes))
	n := &nemesis{history: h, random: rand.New(rand.NewPCG(seed, 1<<32)), long: settings.faults}
	ctx, cancel := context.WithTimeout(context.Background(), settings.duration)
	defer cancel()
	var faulty sync.WaitGroup
	if settings.faults > 0 {
		faulty.Go(func() { n.run(ctx) })
	}
	if settings.timed {
		h.timed = pollInterval + time.Second
		faulty.Go(func() { n.stepClocks(ctx) })
	}
	h.runClients(ctx)
	cancel() // the clients may have ended early, because something is wrong
	faulty.Wait()
	h.report()
	problems := []string{h.violation}
	if h.violation == "" {
		problems = append(h.goOn(), h.settle(30*time.Second)...)
	}
	if len(problems) > 0 {
		var others strings.Builder
		for _, problem := range problems[1:min(len(problems), 10)] {
			first, _, _ := strings.Cut(problem, "\n")
			others.WriteString("\n    " + first)
		}
		t.Errorf("%d violations with seed %d:\n%s\nothers:%s", len(problems), seed, problems[0], &others)
	}
}

// stepClocks steps the clock of one node after the other, by up to ten minutes.
func (n *nemesis) stepClocks(ctx context.Context) {
	random := rand.New(rand.NewPCG(n.seed, 1<<33))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(5+random.IntN(20)) * time.Second):
		}
		node, ahead := random.IntN(len(n.c.nodes)), time.Duration(random.IntN(1200)-600)*time.Second
		n.c.clocks[node].set(ahead)
		n.mu.Lock()
		n.log = append(n.log, fmt.Sprintf("    %7.3f s, node %d: its clock is %s ahead", n.now().Seconds(), node, ahead))
		n.mu.Unlock()
	}
}
