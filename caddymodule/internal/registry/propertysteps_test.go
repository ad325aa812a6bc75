package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

func noWait(context.Context) error { return nil }

// step makes one random change, or lets something happen, and checks the node.
func (w *world) step() {
	n := w.nodes[w.rand.IntN(len(w.nodes))]
	name := propertyNames[w.rand.IntN(len(propertyNames))]
	switch w.rand.IntN(20) {
	case 0, 1, 2, 3:
		w.revoke(n, name)
	case 4, 5:
		w.undo(n, name)
	case 6, 7, 8:
		w.changeRing(n, name)
	case 9, 10:
		w.put(n)
	case 11:
		w.remove(n)
	case 12:
		w.logIn(name)
	case 13, 14:
		w.happen(n)
	case 15:
		w.faults(n)
	case 16:
		w.concurrently(name)
	default:
		w.poll(n)
	}
	w.note("    %s later", w.pause())
	w.offset.Store(int64(n.offset))
	w.check(n, false)
	w.offset.Store(0)
}

func (w *world) pause() time.Duration {
	pause := time.Duration(w.rand.Int64N(int64(5 * time.Second)))
	switch w.rand.IntN(12) {
	case 0:
		pause = time.Duration(w.rand.Int64N(int64(time.Hour)))
	case 1:
		pause = time.Duration(w.rand.Int64N(int64(30 * time.Hour)))
	}
	time.Sleep(pause)
	return pause
}

// told notes a change and what its caller was told.
func (w *world) told(n *testNode, what string, err error) outcome {
	o := outcomeOf(err)
	w.counts[o]++
	w.note("%s (%s) %s: %v", n.name, n.offset, what, err)
	return o
}

// aim returns a revocation, its name, and which tokens it means for sure, and perhaps.
func (w *world) aim(n *testNode, name string) (v revocation.Revocation, target string, sure, perhaps func(*tokenModel) bool) {
	m := w.models[name]
	tok := m.contacts[w.rand.IntN(len(m.contacts))]
	moment := time.Now().Add(n.offset)
	of := func(is func(*tokenModel) bool, from, to time.Duration) func(*tokenModel) bool {
		return func(other *tokenModel) bool {
			ahead := other.issued.Sub(moment)
			return is(other) && ahead >= from && ahead < to
		}
	}
	switch w.rand.IntN(6) {
	case 0:
		contact := func(other *tokenModel) bool { return other.contact == tok.contact }
		return revocation.Revocation{Identity: tok.contact}, tok.contact, of(contact, -1<<62, time.Minute), of(contact, time.Minute, time.Hour)
	case 1:
		all := func(*tokenModel) bool { return true }
		return revocation.Revocation{All: true}, "all", of(all, -1<<62, time.Minute), of(all, time.Minute, time.Hour)
	}
	return revocation.Revocation{TokenID: revocation.TokenID(tok.jti)}, tok.jti, func(other *tokenModel) bool { return other == tok }, func(*tokenModel) bool { return false }
}

func (w *world) revoke(n *testNode, name string) {
	m := w.models[name]
	v, target, sure, perhaps := w.aim(n, name)
	var err error
	n.at(w.offset, func() { _, err = n.Revoke(w.t.Context(), name, v, "test") })
	o := w.told(n, fmt.Sprint("revokes ", target, " of ", name), err)
	m.revoke(target, o, sure)
	if o != refused {
		m.revoke(target, unknown, perhaps)
		if reach := time.Now().Add(n.offset + time.Minute); v.TokenID == "" && reach.After(m.reach) {
			m.reach = reach
		}
	}
	if o == acknowledged && m.there && !m.doubtful {
		w.knows(n, m, target, sure)
	}
}

// knows notes that a node has acknowledged a revocation, so that it enforces it from here on.
func (w *world) knows(n *testNode, m *messengerModel, target string, means func(*tokenModel) bool) {
	if m.known[n.name] == nil {
		m.known[n.name] = make(map[string]bool)
	}
	for _, tok := range m.contacts {
		if means(tok) {
			m.known[n.name][tok.jti+target] = true
		}
	}
}

func (w *world) undo(n *testNode, name string) {
	v, target, _, _ := w.aim(n, name)
	var err error
	n.at(w.offset, func() { err = n.Restore(w.t.Context(), name, v) })
	w.models[name].undo(target, w.told(n, fmt.Sprint("undoes ", target, " of ", name), err))
}

func (w *world) changeRing(n *testNode, name string) {
	m := w.models[name]
	ring, kid, ends := ledger.GenerateToken(), "", false
	switch w.rand.IntN(7) {
	case 0:
		ring, ends = ledger.ResetTokens(w.rand.IntN(2) == 0), true
	case 1, 2:
		for kid = range m.kids {
			ring, ends = ledger.RevokeToken(kid, false), true
			break
		}
	case 3:
		ring = ledger.RotateTokens(time.Duration(w.rand.IntN(1000)+500) * time.Hour)
	case 4:
		w.made++
		ring = ledger.ImportToken(fmt.Appendf(nil, "the secret number %d of a site that moves in", w.made), fmt.Sprint("imported-", w.made))
	case 5:
		for kid = range m.kids {
			ring = ledger.ExtendToken(kid, time.Duration(w.rand.IntN(1000)+1500)*time.Hour)
			break
		}
	}
	var made *ledger.NewToken
	var err error
	n.at(w.offset, func() { made, _, err = n.ChangeRing(w.t.Context(), name, n.kind(name), ring, change.Condition{}) })
	o := w.told(n, fmt.Sprint(ring.Action, " ", kid, " of ", name), err)
	if ends {
		m.end(kid, o)
	}
	if made != nil && o == acknowledged {
		m.kids[made.KeyID] = "alive"
	}
}

func (w *world) put(n *testNode) {
	m := w.models["acme"]
	w.made++
	lifetime := time.Duration(w.made+10_000) * time.Hour
	var created bool
	var err error
	n.at(w.offset, func() {
		_, created, err = n.Put(w.t.Context(), "acme", sharedTokenSettings(lifetime), change.Condition{})
	})
	w.putTold(m, w.told(n, fmt.Sprint("puts ", lifetime), err), lifetime, created)
}

func (w *world) putTold(m *messengerModel, o outcome, lifetime time.Duration, created bool) {
	switch o {
	case acknowledged:
		m.settings = map[time.Duration]bool{lifetime: true}
		if created {
			m.begin()
			m.doubtful = false
		}
		m.there = true
	case unknown:
		m.settings[lifetime] = true
		m.doubtful = m.doubtful || !m.there
	}
}

func (w *world) remove(n *testNode) {
	m := w.models["acme"]
	var err error
	n.at(w.offset, func() { _, _, err = n.Remove(w.t.Context(), "acme", change.Condition{}) })
	switch w.told(n, "deletes acme", err) {
	case acknowledged:
		m.there, m.settings = false, make(map[time.Duration]bool)
	case unknown:
		m.doubtful = true
	}
}

// happen lets something happen to a node.
func (w *world) happen(n *testNode) {
	switch w.rand.IntN(7) {
	case 0:
		w.note("%s restarts", n.name)
		n.stop()
		n.start(testConfigured...)
		for _, m := range w.models {
			delete(m.known, n.name)
		}
	case 1:
		w.note("%s reloads", n.name)
		n.reload()
	case 2:
		w.note("%s evicts", n.name)
		n.Store.stored.InvalidateAll()
		delete(w.models["acme"].known, n.name)
	case 3:
		n.offset = time.Duration(w.rand.Int64N(int64(20*time.Minute))) - 10*time.Minute
		w.note("the clock of %s is set to %s", n.name, n.offset)
	case 4:
		w.note("%s sweeps", n.name)
		n.at(w.offset, func() {
			n.Store.rereadHeld(w.t.Context(), noWait)
			for _, name := range n.Store.names() {
				for _, j := range n.Store.held(name) {
					_ = j.Prune(w.t.Context(), n.Store.Vault, Now())
				}
			}
			_ = n.Store.follower.Tidy(w.t.Context())
		})
	default:
		if w.server.land(w.rand) {
			w.note("a late write arrives")
		}
	}
}

// faults makes the storage of a node fail, or ends that.
func (w *world) faults(n *testNode) {
	if n.storage.hasChance() {
		w.note("the storage of %s does not fail any more", n.name)
		n.storage.setChance(nil)
		return
	}
	odds := []uint64{5, 20, 60, 100}[w.rand.IntN(4)]
	w.note("%d %% of what %s asks of the storage fails", odds, n.name)
	n.storage.setChance(newChance(w.rand.Uint64(), odds))
}

// poll polls. If nothing fails, and all writers have told what they had to tell, the node knows everything then.
func (w *world) poll(n *testNode) {
	w.note("%s polls", n.name)
	complete := !n.storage.hasChance()
	if complete {
		time.Sleep(2 * vault.RetryInterval)
	}
	n.at(w.offset, n.settle)
	if complete {
		time.Sleep(outage)
		n.at(w.offset, func() { w.check(n, true) })
	}
}

// concurrently makes two changes on two nodes at the same time, on a storage that is slow.
func (w *world) concurrently(name string) {
	a, b := w.nodes[0], w.nodes[1]
	for _, n := range w.nodes {
		n.storage.setSlow(newChance(w.rand.Uint64(), 100))
		defer func() { n.storage.setSlow(nil) }()
	}
	m := w.models[name]
	if w.rand.IntN(2) == 0 {
		var made [2]*ledger.NewToken
		var errs [2]error
		ending := w.rand.IntN(2) == 0
		together(func() {
			made[0], _, errs[0] = a.ChangeRing(w.t.Context(), name, a.kind(name), ledger.GenerateToken(), change.Condition{})
		},
			func() {
				ring := ledger.GenerateToken()
				if ending {
					ring = ledger.ResetTokens(false)
				}
				made[1], _, errs[1] = b.ChangeRing(w.t.Context(), name, b.kind(name), ring, change.Condition{})
			})
		first, second := w.told(a, "generates at the same time at "+name, errs[0]), w.told(b, fmt.Sprint("generates, or resets: ", ending), errs[1])
		if ending {
			m.end("", second)
		}
		if first == acknowledged {
			m.kids[made[0].KeyID] = map[bool]string{true: "doubtful", false: "alive"}[ending]
		}
		if second == acknowledged {
			m.kids[made[1].KeyID] = "alive"
		}
		return
	}
	m = w.models["acme"]
	lifetimes := [2]time.Duration{time.Duration(w.made+20_000) * time.Hour, time.Duration(w.made+30_000) * time.Hour}
	w.made++
	var created [2]bool
	var errs [2]error
	together(func() {
		_, created[0], errs[0] = a.Put(w.t.Context(), "acme", sharedTokenSettings(lifetimes[0]), change.Condition{})
	},
		func() {
			_, created[1], errs[1] = b.Put(w.t.Context(), "acme", sharedTokenSettings(lifetimes[1]), change.Condition{})
		})
	before := m.settings
	first, second := w.told(a, fmt.Sprint("puts at the same time ", lifetimes[0]), errs[0]), w.told(b, fmt.Sprint("puts ", lifetimes[1]), errs[1])
	w.putTold(m, first, lifetimes[0], created[0])
	w.putTold(m, second, lifetimes[1], created[1])
	if first == acknowledged && second == acknowledged { // one after the other, and it is unknown which was the first
		m.settings[lifetimes[0]] = true
	}
	if first == unknown && second == acknowledged || first == acknowledged && second == unknown || first == unknown || second == unknown {
		m.settings[lifetimes[0]], m.settings[lifetimes[1]] = true, true
		for lifetime := range before {
			m.settings[lifetime] = true
		}
	}
}
