package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// A history is one run: what was done to some messengers on some nodes, and what was seen meanwhile.
type history struct {
	t     *testing.T
	c     *cluster
	seed  uint64
	names []string      // of the messengers
	timed time.Duration // after this time a healthy node has to know a change of another; 0: only at the end
	begun time.Time

	mu        sync.Mutex
	models    map[string]ledger
	passes    map[string][]*pass
	versions  int
	sick      [][]*period // of each node
	violation string      // the first one
	counts    map[string]int
	log       []string        // of faults
	took      []time.Duration // by changes that were acknowledged
}

// A period is a time in which a node had a fault. It has no end while that lasts.
type period struct{ from, to time.Duration }

// patienceOfCallers is how long a caller waits for an answer. After that it does not know.
const patienceOfCallers = 10 * time.Second

func (h *history) now() time.Duration { return time.Since(h.begun) }

// change makes one change and writes down what its caller knows.
func (h *history) change(c *change, call func() outcome) outcome {
	h.mu.Lock()
	c.start, c.end = h.now(), 1<<62
	h.models[c.messenger] = append(h.models[c.messenger], c)
	h.mu.Unlock()
	got := call()
	if !got.acknowledged() && !got.refusedForSure() {
		defer time.Sleep(20 * time.Millisecond) // the node or its storage may be down, and other clients have work
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c.end = h.now()
	switch {
	case got.acknowledged():
		c.outcome = acked
		h.took = append(h.took, c.end-c.start)
	case got.refusedForSure():
		c.outcome = refused
	default:
		c.outcome = unknown
	}
	if got.err != nil {
		c.said = "no answer"
	} else {
		c.said = fmt.Sprint(got.status)
	}
	h.counts[c.kind+" "+c.outcome]++
	return got
}

// A client calls one node.
type client struct {
	*history
	node   int
	random *rand.Rand
}

// admin is change for a call of the admin API.
func (w *client) admin(c *change, method, path string, body any, headers ...string) outcome {
	c.node = w.node
	return w.change(c, func() outcome {
		return w.c.nodes[w.node].operator.call(patienceOfCallers, method, "messengers/"+c.messenger+path, body, headers...)
	})
}

// step does something at random.
func (w *client) step() {
	name := w.names[w.random.IntN(len(w.names))]
	w.mu.Lock()
	passes := w.passes[name]
	w.mu.Unlock()
	var p *pass
	if len(passes) > 0 {
		p = passes[max(0, len(passes)-1-w.random.IntN(12))]
	}
	what := w.random.IntN(100)
	if p == nil {
		what = 45 + what%20 // there is nothing yet to look at or to revoke
	}
	switch {
	case what < 45:
		w.look(p)
	case what < 55:
		w.settings(name)
	case what < 66:
		w.makeToken(name, "generate", map[string]any{})
	case what < 70:
		w.makeToken(name, "rotate", map[string]any{"overlap": "1h"})
	case what < 71:
		w.makeToken(name, "reset", map[string]any{})
	case what < 75:
		w.admin(&change{kind: "revoke-kid", messenger: name, target: "kid " + p.kid}, http.MethodPost, "/tokens/revoke", map[string]any{"kid": p.kid})
	case what < 80:
		w.change(&change{kind: "logout", messenger: name, target: "jti " + p.jti, node: w.node}, func() outcome {
			return w.c.nodes[w.node].logout(patienceOfCallers, name, p.token)
		})
	default:
		kind, method := "revoke", http.MethodPost
		if what >= 90 {
			kind, method = "undo", http.MethodDelete
		}
		target, body := "jti "+p.jti, map[string]any{"jti": p.jti}
		switch n := w.random.IntN(30); {
		case n == 0:
			target, body = "all", map[string]any{"all": true}
		case n < 8:
			target, body = "identity "+p.identity, map[string]any{"identity": p.identity}
		}
		w.admin(&change{kind: kind, messenger: name, target: target}, method, "/revocations", body)
	}
}

// makeToken makes a shared token, and passes that are signed with it.
func (w *client) makeToken(name, action string, body any) {
	c := &change{kind: action, messenger: name}
	got := w.admin(c, http.MethodPost, "/tokens/"+action, body)
	var made sharedToken
	if !got.acknowledged() || json.Unmarshal([]byte(got.body), &made) != nil {
		return
	}
	search.secret(made.Token)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.said += " " + made.KID
	for range 3 {
		n := len(w.passes[name])
		// A contact has few passes: the 21st logout of one would end all of them.
		p := &pass{messenger: name, kid: made.KID, jti: fmt.Sprint(n), identity: fmt.Sprint("contact ", n/6), born: c}
		p.token = sign(made.Token, contact(p.identity, p.jti))
		w.passes[name] = append(w.passes[name], p)
	}
}

// settings creates, changes, deletes or looks at a messenger.
func (w *client) settings(name string) {
	there, parent, revision := w.read(w.node, name)
	w.mu.Lock()
	w.versions++
	version := fmt.Sprintf("https://v%d.example", w.versions)
	w.mu.Unlock()
	body := map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "allowed_origin": []string{version}}
	switch {
	case there.err != nil:
		time.Sleep(20 * time.Millisecond) // the node is down
	case there.status == http.StatusNotFound:
		w.admin(&change{kind: "create", messenger: name, target: version}, http.MethodPut, "", body, "If-None-Match: *")
	case there.status != http.StatusOK:
	case w.random.IntN(20) == 0:
		w.admin(&change{kind: "delete", messenger: name}, http.MethodDelete, "", nil)
	default:
		w.admin(&change{kind: "put", messenger: name, target: version, parent: parent}, http.MethodPut, "", body, "If-Match: "+revision)
	}
}

// read asks a node for a messenger, and returns its version and its revision.
func (h *history) read(node int, name string) (got outcome, version, revision string) {
	got = h.c.nodes[node].operator.call(patienceOfCallers, http.MethodGet, "messengers/"+name, nil)
	var d described
	if got.acknowledged() && json.Unmarshal([]byte(got.body), &d) == nil {
		if origins, ok := d.Settings["allowed_origin"].([]any); ok && len(origins) == 1 {
			version = fmt.Sprint(origins[0])
		}
		revision = got.header.Get("ETag")
	}
	return got, version, revision
}

// look sends a pass to the node, and compares the answer with what was acknowledged.
func (w *client) look(p *pass) {
	start := w.now()
	got := w.c.nodes[w.node].ask(3*time.Second, "/m/"+p.messenger+"/x", p.token)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case got.err != nil:
		w.counts["requests without an answer"]++
	case got.status == http.StatusOK:
		w.counts["requests accepted"]++
	case got.status == http.StatusServiceUnavailable:
		w.counts["requests answered with 503"]++
	default:
		w.counts["requests refused"]++
	}
	if complaint := w.compare(p, got, start, w.now(), w.window(start)); complaint != "" {
		w.violate(fmt.Sprintf("at %.3f–%.3f s node %d: %s\n%s", start.Seconds(), w.now().Seconds(), w.node, complaint, w.models[p.messenger].tail(p)))
	}
}

// window says which acknowledged changes the node has to know at a time: its own, and with times those of others that were
// acknowledged early enough, unless the node had a fault since.
func (w *client) window(at time.Duration) window {
	healthy := w.timed > 0 && !slices.ContainsFunc(w.sick[w.node], func(f *period) bool { return at < f.to+2*w.timed })
	return func(c *change) bool {
		return c.end < at && (c.node == w.node || healthy && c.end+w.timed < at)
	}
}

// compare says what is wrong with an answer for a pass.
func (h *history) compare(p *pass, got outcome, start, end time.Duration, knows window) string {
	m := h.models[p.messenger]
	switch {
	case got.err != nil || got.status == http.StatusServiceUnavailable:
	case got.status == http.StatusOK && m.mustBeRefused(p, end, knows):
		return "a token is accepted whose end was acknowledged: " + p.name()
	case got.status != http.StatusOK && knows(p.born) && !m.mayBeRefused(p, end, knows):
		return "a valid token is refused: " + p.name() + ": " + got.String()
	}
	return ""
}

func (p *pass) name() string {
	return fmt.Sprintf("messenger %s, kid %s, jti %s, identity %q", p.messenger, p.kid, p.jti, p.identity)
}

// violate keeps the first violation. The caller holds mu.
func (h *history) violate(what string) {
	if h.violation == "" {
		h.violation = what
	}
}

func (h *history) violated() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.violation != ""
}

// acknowledgements counts the changes that nodes other than one have acknowledged.
func (h *history) acknowledgements(other int) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.models {
		for _, c := range m {
			if c.outcome == acked && c.node != other {
				n++
			}
		}
	}
	return n
}

// runClients lets clients of every node work until ctx ends, or something is wrong.
func (h *history) runClients(ctx context.Context) {
	const perNode = 3
	var all sync.WaitGroup
	for node := range h.c.nodes {
		for i := range perNode {
			w := &client{h, node, rand.New(rand.NewPCG(h.seed, uint64(node*perNode+i)))}
			all.Go(func() {
				for ctx.Err() == nil && !h.violated() {
					w.step()
				}
			})
		}
	}
	all.Wait()
}
