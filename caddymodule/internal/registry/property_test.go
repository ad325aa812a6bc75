package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// An outcome is what a caller was told of a change.
type outcome int

const (
	refused      outcome = iota // it was not made
	acknowledged                // it was made
	unknown                     // 503: it may be made later, or never
)

func outcomeOf(err error) outcome {
	var answer caddy.APIError
	switch {
	case err == nil:
		return acknowledged
	case errors.As(err, &answer) && answer.HTTPStatus != http.StatusServiceUnavailable:
		return refused
	}
	return unknown
}

// A tokenModel is a contact's token, and which revocations mean it, by target.
type tokenModel struct {
	contact, jti string
	issued       time.Time
	revoked      map[string]bool // surely
	perhaps      map[string]bool // perhaps: the outcome is unknown, or its time of issue is in doubt
}

// A messengerModel is what was acknowledged about one messenger.
type messengerModel struct {
	there, doubtful bool // doubtful: it is unknown whether it was deleted or created
	contacts        []*tokenModel
	reach           time.Time                  // up to which tokens were revoked by time: it may be later than now, because clocks differ
	kids            map[string]string          // of shared tokens: alive, dead or doubtful
	settings        map[time.Duration]bool     // those that may be current
	known           map[string]map[string]bool // by node: the revocations of contacts' tokens that it has enforced
}

// revoke notes a revocation.
func (m *messengerModel) revoke(target string, o outcome, means func(*tokenModel) bool) {
	for _, tok := range m.contacts {
		if means(tok) && o == acknowledged {
			tok.revoked[target] = true
		} else if means(tok) && o == unknown {
			tok.perhaps[target] = true
		}
	}
}

// undo notes that the revocations of a target were undone. Those of unknown outcome may still arrive.
func (m *messengerModel) undo(target string, o outcome) {
	for _, tok := range m.contacts {
		if o == unknown && tok.revoked[target] {
			tok.perhaps[target] = true
		}
		if o != refused {
			delete(tok.revoked, target)
			for _, known := range m.known {
				delete(known, tok.jti+target)
			}
		}
	}
}

// end notes that shared tokens were revoked: all, or the one with this kid.
func (m *messengerModel) end(kid string, o outcome) {
	for k, state := range m.kids {
		switch {
		case kid != "" && k != kid, o == refused, state == "dead":
		case o == acknowledged:
			m.kids[k] = "dead"
		default:
			m.kids[k] = "doubtful"
		}
	}
}

// begin notes that there is a new messenger.
func (m *messengerModel) begin() {
	m.kids, m.known = make(map[string]string), make(map[string]map[string]bool)
	for _, tok := range m.contacts {
		tok.revoked, tok.perhaps = make(map[string]bool), make(map[string]bool)
	}
}

// A world is nodes on one storage, and the model of it.
type world struct {
	t      *testing.T
	seed   uint64
	rand   *rand.Rand
	offset *atomic.Int64
	nodes  []*testNode
	server *server
	models map[string]*messengerModel
	made   int
	steps  []string
	counts map[outcome]int
}

var propertyNames = []string{"support", "acme"}

func (w *world) note(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, after\n%s\n%s", w.seed, strings.Join(w.steps, "\n"), fmt.Sprintf(format, args...))
}

func newWorld(t *testing.T, seed uint64, offset *atomic.Int64) *world {
	w := &world{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 15)), offset: offset, server: newServer(),
		models: make(map[string]*messengerModel), counts: make(map[outcome]int)}
	for i := range 2 + w.rand.IntN(2) {
		w.nodes = append(w.nodes, newTestNode(t, w.server, string(rune('A'+i))))
	}
	for _, name := range propertyNames {
		w.models[name] = &messengerModel{there: name == "support", settings: make(map[time.Duration]bool)}
		w.models[name].begin()
		for range 4 {
			w.logIn(name)
		}
	}
	return w
}

// logIn adds a contact's token: at a site whose clock is right to the minute.
func (w *world) logIn(name string) {
	w.made++
	m := w.models[name]
	tok := &tokenModel{contact: fmt.Sprint("contact ", w.rand.IntN(2)), jti: fmt.Sprint("token ", w.made),
		issued:  time.Now().Add(time.Duration(w.rand.Int64N(int64(time.Minute))) - time.Minute/2),
		revoked: make(map[string]bool), perhaps: make(map[string]bool)}
	if tok.issued.Before(m.reach) {
		tok.perhaps["a revocation by time"] = true
	}
	m.contacts = append(m.contacts, tok)
}

// check compares what a node enforces with the model. It is complete if the node has read everything.
func (w *world) check(n *testNode, complete bool) {
	w.t.Helper()
	for _, name := range propertyNames {
		m := w.models[name]
		found, rej := n.Find(w.t.Context(), name)
		if m.doubtful {
			continue
		}
		code := ""
		switch {
		case rej != nil:
			code = string(rej.Code)
		case found.revoked.Unknown():
			code = "keys_unavailable"
		}
		switch {
		case !m.there && (code == "" || complete && code != "messenger_unknown") && complete,
			m.there && complete && code != "":
			w.fail("node %s: %s is there: %t, and the node says %q", n.name, name, m.there, code)
		}
		if code != "" || !m.there {
			continue
		}
		for _, tok := range m.contacts {
			w.checkContact(n, m, name, tok, found.revoked, complete)
		}
		active := kidsOf(found)
		for kid, state := range m.kids {
			switch is := strings.Contains(active, kid); {
			case complete && state == "alive" && !is:
				w.fail("node %s: the shared token %s of %s is not accepted; those that are: %s", n.name, kid, name, active)
			case complete && state == "dead" && is:
				w.fail("node %s: the shared token %s of %s is revoked, and accepted", n.name, kid, name)
			}
		}
		if settings := time.Duration(found.MaxLifetime); complete && name == "acme" && !m.settings[settings] {
			w.fail("node %s: %s has settings %s, want one of %v", n.name, name, settings, m.settings)
		}
	}
}

func (w *world) checkContact(n *testNode, m *messengerModel, name string, tok *tokenModel, revoked *authn.Revocations, complete bool) {
	w.t.Helper()
	covers := revoked.Covers(tok.contact, authn.NewTokenID(tok.jti), tok.issued)
	if m.known[n.name] == nil {
		m.known[n.name] = make(map[string]bool)
	}
	known := m.known[n.name]
	for target := range tok.revoked {
		switch {
		case !covers && (complete || known[tok.jti+target]):
			w.fail("node %s: %s of %s at %s was revoked by %q, and is valid (it knew: %t)", n.name, tok.jti, tok.contact, name, target, known[tok.jti+target])
		case complete:
			known[tok.jti+target] = true
		}
	}
	if covers && complete && len(tok.revoked) == 0 && len(tok.perhaps) == 0 {
		w.fail("node %s: %s of %s at %s is refused, and was not revoked", n.name, tok.jti, tok.contact, name)
	}
}

// agree lets all writes arrive, and checks that all nodes say the same after a poll.
func (w *world) agree() {
	w.t.Helper()
	for _, n := range w.nodes {
		n.storage.setChance(nil)
		n.storage.setSlow(nil)
		n.offset = 0
	}
	for w.server.land(w.rand) {
	}
	time.Sleep(70 * time.Second) // what writers owe; and the minute in which a name is read again that a dead writer was about to change
	for _, n := range w.nodes {
		n.settle()
	}
	for _, n := range w.nodes { // writes that came late were announced by no one: the sweep finds them
		n.Store.rereadHeld(w.t.Context(), noWait)
	}
	for _, n := range w.nodes {
		w.check(n, true)
		for _, name := range propertyNames {
			if got, want := n.state(name), w.nodes[0].state(name); got != want {
				w.fail("node %s says of %s\n%s\nand node %s\n%s", n.name, name, got, w.nodes[0].name, want)
			}
		}
	}
}

// No order of revocations, logouts, settings, reloads, restarts, evictions and time makes a revoked token valid again, and none
// ends a token that was not meant. No acknowledged change is lost, and nodes agree in the end. Writes fail, arrive late or
// twice, and clocks differ by ten minutes.
//
// MESSENGER_SEED runs one sequence, and MESSENGER_SEQUENCES another number of them.
func TestNoOrderMakesARevokedTokenValidAgain(t *testing.T) {
	offset := clock(t)
	first, sequences := uint64(0), uint64(testsize.Of(12, 400))
	if seed, err := strconv.ParseUint(os.Getenv("MESSENGER_SEED"), 10, 64); err == nil {
		first, sequences = seed, 1
	}
	if n, err := strconv.ParseUint(os.Getenv("MESSENGER_SEQUENCES"), 10, 64); err == nil {
		sequences = n
	}
	counts := make(map[outcome]int)
	for seed := first; seed < first+sequences; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, offset)
			for range 40 {
				w.step()
			}
			w.agree()
			for o, n := range w.counts {
				counts[o] += n
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d changes acknowledged, %d of unknown outcome, %d refused", counts[acknowledged], counts[unknown], counts[refused])
	if first == 0 && (counts[acknowledged] < 4*int(sequences) || counts[unknown] < int(sequences)/2) {
		t.Errorf("%v, which shows nothing", counts)
	}
}

// together runs two changes at the same time.
func together(a, b func()) {
	var both sync.WaitGroup
	both.Go(a)
	both.Go(b)
	both.Wait()
}
