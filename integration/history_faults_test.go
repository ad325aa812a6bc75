package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A nemesis makes faults, one after the other.
type nemesis struct {
	*history
	random *rand.Rand
	long   time.Duration // how long a node may be stopped, or a write be late
}

// faults are what can happen to one node. Each returns how to end it, or nil if it did not come about.
var faults = map[string]func(n *nemesis, node int) (end func()){
	"stopped in the middle of a change": (*nemesis).stopAtStep,
	"a write is late":                   (*nemesis).holdWrite,
	"writes are repeated later":         (*nemesis).repeatWrites,
	"killed in the middle of a change":  (*nemesis).killAtStep,
	"the storage is cut off":            func(n *nemesis, node int) func() { return n.c.wires[node].cut() },
	"the storage hangs":                 func(n *nemesis, node int) func() { return n.c.wires[node].pause() },
	"the storage is slow":               func(n *nemesis, node int) func() { return n.c.wires[node].slow(30 * time.Millisecond) },
	"answers of writes are lost":        (*nemesis).loseAnswers,
}

// order are the names of all faults; the first two lose acknowledged changes wherever records are read, changed and written
// back, so that a short run has them in any case.
var order = []string{"stopped in the middle of a change", "a write is late", "killed in the middle of a change", "writes are repeated later",
	"answers of writes are lost", "the storage is cut off", "the storage hangs", "the storage is slow"}

// run makes faults until ctx ends: all in order, and then at random.
func (n *nemesis) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil && !n.violated(); i++ {
		name := order[i%len(order)]
		if i >= len(order) {
			name = order[n.random.IntN(len(order))]
		}
		n.fault(ctx, name, n.random.IntN(len(n.c.nodes)))
	}
}

// fault makes one fault, and ends it when other nodes have acknowledged some changes meanwhile, or after a while.
func (n *nemesis) fault(ctx context.Context, name string, node int) {
	n.mu.Lock()
	n.sick[node] = append(n.sick[node], period{n.now(), 1 << 61})
	n.mu.Unlock()
	began := n.now()
	end := faults[name](n, node)
	if end != nil {
		at := n.acknowledgements(node)
		wait := n.long/2 + time.Duration(n.random.Int64N(int64(n.long/2)))
		for deadline := time.Now().Add(wait); ctx.Err() == nil && time.Now().Before(deadline) && !n.violated(); time.Sleep(10 * time.Millisecond) {
			if n.timed == 0 && n.acknowledgements(node) >= at+8 {
				break
			}
		}
		end()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sick[node][len(n.sick[node])-1].to = n.now()
	n.log = append(n.log, fmt.Sprintf("    %7.3f–%7.3f s, node %d: %s", began.Seconds(), n.now().Seconds(), node, name))
	n.counts["faults: "+name]++
}

// atStep waits until the node is at some step of a change, and holds that.
func (n *nemesis) atStep(node int) *hold {
	held := n.c.wires[node].hold(1, nth(n.random.IntN(8)))
	soon := make(chan struct{})
	timer := time.AfterFunc(5*time.Second, func() { close(soon) })
	defer timer.Stop()
	if _, met := held.next(soon); !met {
		held.release()
		return nil
	}
	return held
}

func (n *nemesis) stopAtStep(node int) func() {
	held := n.atStep(node)
	if held == nil {
		return nil
	}
	n.c.nodes[node].stop()
	return func() {
		n.c.nodes[node].resume()
		held.release()
	}
}

func (n *nemesis) holdWrite(node int) func() {
	held := n.atStep(node)
	if held == nil {
		return nil
	}
	return held.release
}

func (n *nemesis) killAtStep(node int) func() {
	held := n.atStep(node)
	if held == nil {
		return nil
	}
	n.c.nodes[node].kill()
	return func() {
		held.release()
		if err := n.c.nodes[node].tryRun(); err != nil {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.violate("a node does not start after it was killed: " + err.Error())
		}
	}
}

// repeatWrites lets writes pass, and repeats some of them at the end.
func (n *nemesis) repeatWrites(node int) func() {
	var mu sync.Mutex
	var recorded []step
	off := n.c.wires[node].on(func(s step) fate {
		mu.Lock()
		defer mu.Unlock()
		if s.writes && len(recorded) < 20 && s.op != "EVALSHA" && s.op != "EVAL" && s.op != "Lock" && s.op != "Unlock" {
			recorded = append(recorded, s)
		}
		return forward
	})
	return func() {
		off()
		mu.Lock()
		defer mu.Unlock()
		for _, s := range recorded {
			s.again()
		}
	}
}

// loseAnswers lets every fourth write be made without an answer to the node.
func (n *nemesis) loseAnswers(node int) func() {
	var mu sync.Mutex
	writes := 0
	return n.c.wires[node].on(func(s step) fate {
		mu.Lock()
		defer mu.Unlock()
		if s.writes {
			writes++
		}
		if s.writes && writes%4 == 0 {
			return lose
		}
		return forward
	})
}
