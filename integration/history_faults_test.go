package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A nemesis makes faults, one after the other.
type nemesis struct {
	*history
	random *rand.Rand
	at     string        // the last step at which a fault was made
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
	storageKilled:                       (*nemesis).killStorage,
}

// storageKilled is the fault that all nodes have at once.
const storageKilled = "the storage is killed"

// order are the names of all faults; the first three lose acknowledged changes wherever records are read, changed and written
// back, so that a short run has them in any case.
var order = []string{"writes are repeated later", "stopped in the middle of a change", "a write is late", "killed in the middle of a change",
	"answers of writes are lost", "the storage is cut off", "the storage hangs", "the storage is slow", storageKilled}

// run makes faults until ctx ends: all in order, and then at random.
func (n *nemesis) run(ctx context.Context) {
	const enough = 40 // changes, so that there is something to lose
	for ctx.Err() == nil && n.acknowledgements(-1) < enough {
		time.Sleep(10 * time.Millisecond)
	}
	for i := 0; ctx.Err() == nil && !n.violated(); i++ {
		name := order[i%len(order)]
		if i >= len(order) {
			name = order[n.random.IntN(len(order))]
		}
		n.fault(ctx, name, n.random.IntN(len(n.c.nodes)))
		n.lookAround()
	}
}

// lookAround sends the newest passes of every messenger to every node: what a fault has undone may be undone once more by
// the next changes, and is seen best at once.
func (n *nemesis) lookAround() {
	const newest = 30
	n.mu.Lock()
	var passes []*pass
	for _, list := range n.passes {
		passes = append(passes, list[max(0, len(list)-newest):]...)
	}
	n.mu.Unlock()
	for node := range n.c.nodes {
		w := &client{n.history, node, n.random}
		for _, p := range passes {
			if n.violated() {
				return
			}
			w.look(p)
		}
	}
}

// fault makes one fault, and ends it when other nodes have acknowledged some changes meanwhile, or after a while.
func (n *nemesis) fault(ctx context.Context, name string, node int) {
	began := n.now()
	illness := &period{began, 1 << 61}
	n.mu.Lock()
	for other := range n.sick {
		if other == node || name == storageKilled {
			n.sick[other] = append(n.sick[other], illness)
		}
	}
	n.mu.Unlock()
	n.at = ""
	end := faults[name](n, node)
	acks := 0
	if end != nil {
		at := n.acknowledgements(node)
		wait := n.long
		if n.timed > 0 {
			wait = time.Second + time.Duration(n.random.Int64N(int64(n.long)))
		}
		for deadline := time.Now().Add(wait); ctx.Err() == nil && time.Now().Before(deadline) && !n.violated(); time.Sleep(10 * time.Millisecond) {
			if acks = n.acknowledgements(node) - at; n.timed == 0 && acks >= 15 {
				break
			}
		}
		end()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	illness.to = n.now()
	n.log = append(n.log, fmt.Sprintf("    %7.3f–%7.3f s, node %d: %s%s; others acknowledged %d changes", began.Seconds(), n.now().Seconds(), node, name, n.at, acks))
	n.counts["faults: "+name]++
}

// atStep waits until the node is at some step of a change, and holds that: most often at one that writes a value of a
// messenger.
func (n *nemesis) atStep(node int) *hold {
	match := nth(n.random.IntN(8))
	if n.random.IntN(4) > 0 {
		chosen := nth(n.random.IntN(2))
		match = func(s step) bool {
			return (s.op == "SET" || s.op == "Store") && slices.ContainsFunc(n.names, s.of) && chosen(s)
		}
	}
	held := n.c.wires[node].hold(1, match)
	soon := make(chan struct{})
	timer := time.AfterFunc(5*time.Second, func() { close(soon) })
	defer timer.Stop()
	s, met := held.next(soon)
	if !met {
		held.release()
		return nil
	}
	n.at = fmt.Sprintf(" (%s %s)", s.op, s.key)
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

// repeatWrites waits until the node has made some writes, and repeats them at the end.
func (n *nemesis) repeatWrites(node int) func() {
	const enough, most = 8, 20
	var mu sync.Mutex
	var recorded []step
	some := make(chan bool, 1)
	off := n.c.wires[node].on(func(s step) fate {
		mu.Lock()
		defer mu.Unlock()
		if s.writes && len(recorded) < most && s.op != "EVALSHA" && s.op != "EVAL" && s.op != "Lock" && s.op != "Unlock" {
			recorded = append(recorded, s)
		}
		if len(recorded) == enough {
			select {
			case some <- true:
			default: // it was told before
			}
		}
		return forward
	})
	select {
	case <-some:
	case <-time.After(5 * time.Second):
	}
	return func() {
		off()
		mu.Lock()
		defer mu.Unlock()
		for _, s := range recorded {
			s.again()
		}
	}
}

func (n *nemesis) killStorage(int) func() {
	if n.c.redis == nil {
		return nil // a folder has no process
	}
	n.c.redis.kill()
	return n.c.redis.run // with everything that it has answered
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
