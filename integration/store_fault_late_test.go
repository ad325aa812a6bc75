package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// maxSteps is more steps than a change of the store may take.
const maxSteps = 40

// A late change is one of node A that is interrupted at some step, while node B makes another, which is acknowledged.
type lateChange struct {
	*cluster
	name, path string
	secret     sharedToken
	stolen     string // the token that B revokes
	other      string // a token of the contact whom A revokes
}

// newLateChange prepares a messenger that both nodes know.
func (c *cluster) newLateChange(name string) *lateChange {
	c.t.Helper()
	a := c.nodes[0]
	a.mustCall("creating it", http.MethodPut, "messengers/"+name, generated)
	l := &lateChange{cluster: c, name: name, path: "/m/" + name + "/x", secret: a.generate(name)}
	l.stolen, l.other = sign(l.secret.Token, contact("mark", "stolen")), sign(l.secret.Token, contact("zoe", "other"))
	l.everywhere("before", "200", l.path, l.stolen)
	l.everywhere("before", "200", l.path, l.other)
	return l
}

// try lets A revoke the tokens of a contact, interrupts that at the n-th writing step by interrupt, lets B revoke the stolen
// token, ends the interruption, and checks that what was acknowledged is so everywhere. It reports false if A's change has
// no n-th step.
func (l *lateChange) try(n int, interrupt func() (goOn func())) bool {
	l.t.Helper()
	revocations := "messengers/" + l.name + "/revocations"
	held := l.wires[0].hold(1, nth(n))
	result, done := l.nodes[0].begin(http.MethodPost, revocations, map[string]any{"identity": "zoe"})
	at, met := held.next(done)
	if !met {
		held.release()
		return false
	}
	what := fmt.Sprintf("interrupted at step %d, %s %s", n, at.op, at.key)
	goOn := interrupt()
	l.nodes[1].mustCall(what+": B revokes", http.MethodPost, revocations, map[string]any{"jti": "stolen"})
	goOn()
	held.release()
	late := <-result
	l.everywhere(what+": B's revocation, which was acknowledged", "401 token_revoked", l.path, l.stolen)
	if late.acknowledged() {
		l.everywhere(what+": A's revocation, which was acknowledged", "401 token_revoked", l.path, l.other)
	}
	for i, n := range l.nodes {
		if list := n.want(http.StatusOK, http.MethodGet, revocations, nil).body; !strings.Contains(list, `"stolen"`) {
			l.t.Errorf("%s: node %d lists %s", what, i, list)
		}
	}
	return true
}

// steps calls try for one step after the other until the change has no more.
func (c *cluster) steps(interrupt func() (goOn func())) {
	c.t.Helper()
	n := 0
	for ; n < maxSteps && !c.t.Failed(); n++ {
		if !c.newLateChange(fmt.Sprintf("late-%d", n)).try(n, interrupt) {
			break
		}
	}
	if n == 0 {
		c.t.Error("no step of a change was seen")
	}
	c.t.Logf("a change of the store has %d writing steps", n)
}

// Row 1. A node is stopped in the middle of a change for longer than a lock of the storage lives: the machine was suspended,
// or had no memory. Another node revokes a stolen token. When the first one goes on, the token stays revoked.
func TestResumedNodeDoesNotUndoChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		c.steps(func() (goOn func()) {
			c.nodes[0].stop()
			return c.nodes[0].resume
		})
	})
}

// Row 2. The network holds a write back; its caller is told nothing, or 503. Another node revokes a stolen token. When the
// late write arrives, the token stays revoked.
func TestLateWriteDoesNotUndoChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		c.steps(func() (goOn func()) { return func() {} })
	})
}

// A client library repeats a write whose answer is lost, and the network may repeat it as well: what was written once is
// written again after another node has made a change. No repetition undoes that.
func TestRepeatedWriteDoesNotUndoChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		l := c.newLateChange("repeated")
		revocations := "messengers/" + l.name + "/revocations"
		var writes []step
		recorded := make(chan step, 1000)
		off := c.wires[0].on(func(s step) fate {
			if s.writes && (s.op == "SET" || s.op == "ZADD" || s.op == "Store") {
				recorded <- s
			}
			return forward
		})
		c.nodes[0].mustCall("A revokes", http.MethodPost, revocations, map[string]any{"identity": "zoe"})
		off()
		close(recorded)
		for s := range recorded {
			writes = append(writes, s)
		}
		if len(writes) == 0 {
			t.Fatal("no write was seen")
		}
		c.nodes[1].mustCall("B revokes", http.MethodPost, revocations, map[string]any{"jti": "stolen"})
		for _, s := range writes {
			s.again()
		}
		// A change afterwards makes nodes that follow a list read again what the repetition has left.
		c.nodes[0].mustCall("another change", http.MethodPost, revocations, map[string]any{"jti": "third"})
		third := sign(l.secret.Token, contact("tom", "third"))
		l.everywhere("the third revocation", "401 token_revoked", l.path, third)
		l.everywhere("A's revocation", "401 token_revoked", l.path, l.other)
		l.everywhere("B's revocation", "401 token_revoked", l.path, l.stolen)
	})
}

// A messenger is deleted and created again, for another site owner, while a change of the old one is still on its way. At
// whatever step that was: the old shared token is not valid for the new messenger, and the old settings do not come back.
func TestLateWriteDoesNotRestoreADeletedMessenger(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		a, b := c.nodes[0], c.nodes[1]
		settings := func(origin string) map[string]any {
			return map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "allowed_origin": []string{origin}}
		}
		n := 0
		for ; n < maxSteps && !t.Failed(); n++ {
			l := c.newLateChange(fmt.Sprintf("revived-%d", n))
			revision := a.want(http.StatusOK, http.MethodGet, "messengers/"+l.name, nil).header.Get("ETag")
			held := c.wires[0].hold(1, nth(n))
			result, done := a.begin(http.MethodPut, "messengers/"+l.name, settings("https://old.example"), "If-Match: "+revision)
			at, met := held.next(done)
			if !met {
				break
			}
			what := fmt.Sprintf("late at step %d, %s %s", n, at.op, at.key)
			b.mustCall(what+": deleting it", http.MethodDelete, "messengers/"+l.name, nil)
			b.mustCall(what+": creating it again", http.MethodPut, "messengers/"+l.name, settings("https://new.example"))
			renewed := sign(b.generate(l.name).Token, contact("mark", "a"))
			held.release()
			<-result
			c.everywhere(what+": the new token", "200", l.path, renewed)
			c.everywhere(what+": a token of the deleted messenger", "401 signature_invalid", l.path, l.stolen)
			for i, n := range c.nodes {
				if shown := n.want(http.StatusOK, http.MethodGet, "messengers/"+l.name, nil).body; !strings.Contains(shown, "https://new.example") {
					t.Errorf("%s: node %d shows %s", what, i, shown)
				}
			}
		}
		if n == 0 {
			t.Error("no step of a change was seen")
		}
	})
}

// Two nodes create the same messenger at the same time. At most one of them says that it did. If neither does there is no
// messenger: a shared token that was made for it meanwhile would be lost.
func TestConcurrentCreations(t *testing.T) {
	const names = 20
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		neither := 0
		for i := range names {
			name := fmt.Sprintf("twice-%d", i)
			var results []<-chan outcome
			for _, n := range c.nodes {
				result, _ := n.begin(http.MethodPut, "messengers/"+name, generated, "If-None-Match: *")
				results = append(results, result)
			}
			created := 0
			for _, result := range results {
				if got := <-result; got.acknowledged() {
					created++
				}
			}
			for node, n := range c.nodes {
				made := n.operator.call(changeLimit, http.MethodPost, "messengers/"+name+"/tokens/generate", map[string]any{})
				if created == 0 && made.acknowledged() {
					t.Errorf("%s: neither was told that it was created, and node %d makes a token for it", name, node)
				}
			}
			if created > 1 {
				t.Errorf("%s: both nodes say that they created it", name)
			}
			if created == 0 {
				neither++
			}
		}
		t.Logf("of %d, %d were created by neither", names, neither)
	})
}
