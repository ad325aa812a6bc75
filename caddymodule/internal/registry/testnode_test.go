package registry

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A testNode is a gateway without Caddy around it: a registry with its store.
type testNode struct {
	*Registry
	t       testing.TB
	name    string
	storage *nodeStorage
	offset  time.Duration // of its clock
	closed  bool
}

var testStoreKey = bytes.Repeat([]byte{7}, vault.SealKeySize)

// The names of a test: configured messengers with generated tokens, and stored ones.
var (
	testConfigured = []string{"sales", "support"}
	testStored     = []string{"acme", "bolt"}
)

var nodesMade atomic.Int64

func newTestNode(t testing.TB, s *server, name string) *testNode {
	t.Helper()
	n := &testNode{t: t, name: name, storage: &nodeStorage{Node: fmt.Sprint(name, nodesMade.Add(1)), server: s}}
	n.start(testConfigured...)
	t.Cleanup(n.stop)
	return n
}

// start starts the node, with these configured messengers.
func (n *testNode) start(names ...string) {
	n.t.Helper()
	l, err := openStore(n.storage, [][]byte{testStoreKey}, nil, clientOf)
	if err != nil {
		n.t.Fatal(err)
	}
	n.closed = false
	n.Registry = n.configuration(l, names...)
	l.attach(n.Registry)
}

// configuration makes a registry on a store.
func (n *testNode) configuration(l *Store, names ...string) *Registry {
	reg := registryOn(l, n.storage, zap.NewNop())
	for _, name := range names {
		m := &Messenger{Messenger: sharedTokenSettings(0)}
		if err := m.provision(name, reg.Logger, l, nil); err != nil {
			n.t.Fatal(err)
		}
		reg.Messengers[name] = m
	}
	return reg
}

// stop ends the node as if its process ended.
func (n *testNode) stop() {
	if !n.closed {
		n.closed = true
		n.Store.detach(n.Registry)
		n.Store.release(n.storage)
	}
}

// reload makes a new configuration active, with the same messengers.
func (n *testNode) reload(names ...string) {
	if names == nil {
		names = n.Names()
	}
	next, err := openStore(n.storage, [][]byte{testStoreKey}, nil, clientOf)
	if err != nil {
		n.t.Fatal(err)
	}
	before := n.Registry
	n.Registry = n.configuration(next, names...)
	next.attach(n.Registry)
	next.detach(before)
	next.release(n.storage)
}

// kind returns where the facts of a name are.
func (n *testNode) kind(name string) string {
	if n.Messengers[name] != nil {
		return ledger.KindRing
	}
	return ledger.KindStored
}

// settle polls once, and waits until everything is read that this asks for.
func (n *testNode) settle() {
	n.t.Helper()
	for i := range 20_000 {
		if i%1000 == 0 { // as the follower does: a poll that could not read everything leaves the rest to the next one
			n.Store.poll(n.t.Context())
		}
		if !n.Store.incomplete.Load() && !n.Store.rereading.Load() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Fatal("reading everything again does not end")
}

// kids returns the kids that verify tokens of a messenger on this node.
func (n *testNode) kids(name string) string {
	m, rej := n.Find(n.t.Context(), name)
	if rej != nil {
		return string(rej.Code)
	}
	if m.revoked.Unknown() {
		return "keys_unavailable"
	}
	return kidsOf(m)
}

func kidsOf(m *Messenger) string {
	var kids []string
	for _, key := range m.Verifier.Load().Keys() {
		kids = append(kids, key.KeyID)
	}
	slices.Sort(kids)
	return strings.Join(kids, " ")
}

// state returns what this node says of a messenger.
func (n *testNode) state(name string) string {
	m, rej := n.Find(n.t.Context(), name)
	if rej != nil {
		return string(rej.Code)
	}
	if m.revoked.Unknown() {
		return "keys_unavailable"
	}
	for _, j := range n.Store.held(name) {
		if j.Kind == n.kind(name) {
			return fmt.Sprint(kidsOf(m), " ", m.Settings(), " ", stateOf(j))
		}
	}
	return "not in memory"
}

// stateOf returns everything that follows from the facts of a journal.
func stateOf(j *ledger.Journal) string {
	r := j.Record()
	if r == nil {
		return "nothing"
	}
	var text strings.Builder
	fmt.Fprintln(&text, "revision", r.Revision)
	for _, t := range r.ActiveTokens() {
		fmt.Fprintln(&text, "token", t.KeyID, string(t.Secret), t.Created, t.End)
	}
	settings, _ := json.Marshal(r.Settings)
	revocations, _ := json.Marshal(j.Revocations(0, Now()))
	return fmt.Sprintf("%s%s %v\n%s", &text, settings, r.Unusable, revocations)
}

// Settings returns what the tests change in the settings.
func (m *Messenger) Settings() string { return fmt.Sprint(time.Duration(m.MaxLifetime)) }

// agree checks that all nodes say the same of all messengers after a poll, also one that starts now.
func agree(t testing.TB, what string, nodes ...*testNode) {
	t.Helper()
	fresh := newTestNode(t, nodes[0].storage.server, "fresh")
	defer fresh.stop()
	for _, n := range nodes {
		n.Store.failed.Store(nil)
		n.settle()
	}
	for _, name := range slices.Concat(testConfigured, testStored) {
		want := fresh.state(name)
		for _, n := range nodes {
			if got := n.state(name); got != want {
				t.Errorf("%s: node %s says of %s\n%s\nand a new one\n%s", what, n.name, name, got, want)
			}
		}
	}
}

// backup returns what the server has, for restore.
func (s *server) backup() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values) // a value is replaced, and never changed
}

// restore makes a server have what it had when the backup was made.
func (s *server) restore(backup map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = maps.Clone(backup)
}

// failAfter makes all writes of this node about a messenger fail after the first n, until setBefore. It returns how many were made.
func (n *testNode) failAfter(writes int64, name string) (made *atomic.Int64) {
	made = new(atomic.Int64)
	n.storage.setBefore(func(op, key string) error {
		if op != "store" || !strings.Contains(key, "/"+name+"/") {
			return nil
		}
		if made.Add(1) > writes {
			made.Add(-1)
			return errFailed
		}
		return nil
	})
	return made
}

// at calls f at an access of this node to what is about a messenger, the first one being 0, until setBefore. It returns how many there
// were, without those of f; they can be simultaneous.
func (s *nodeStorage) at(step int64, name string, f func()) (accesses *atomic.Int64) {
	accesses = new(atomic.Int64)
	var inside atomic.Bool
	s.setBefore(func(_, key string) error {
		if !inside.Load() && strings.Contains(key, name) && accesses.Add(1) == step+1 {
			inside.Store(true)
			f()
			inside.Store(false)
		}
		return nil
	})
	return accesses
}

// sweep reads everything again on all nodes, as they do every quarter of an hour.
func sweep(t testing.TB, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		n.Store.sweep(t.Context())
		n.settle()
	}
}

// putKeys saves a stored messenger with public keys.
func (n *testNode) putKeys(name, claim string, keys ...string) {
	n.t.Helper()
	m := &config.Messenger{IdentityKey: claim}
	for _, k := range keys {
		m.PublicKey = append(m.PublicKey, config.PublicKey{Key: k})
	}
	n.put(name, m)
}

// put saves a stored messenger.
func (n *testNode) put(name string, m *config.Messenger) {
	n.t.Helper()
	if _, _, err := n.Put(n.t.Context(), name, m, change.Condition{Confirm: change.AnyLoss}); err != nil {
		n.t.Fatal(err)
	}
}

// remove deletes a stored messenger.
func (n *testNode) remove(name string) {
	n.t.Helper()
	if _, _, err := n.Remove(n.t.Context(), name, change.Condition{}); err != nil {
		n.t.Fatal(err)
	}
}

// publicKeys makes keys, as settings have them.
func publicKeys(t testing.TB, n int) (keys []string) {
	t.Helper()
	for range n {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	}
	return keys
}

// prepare makes a stored messenger, and a token for each.
func prepare(t testing.TB, n *testNode) {
	t.Helper()
	n.put("acme", sharedTokenSettings(0))
	for _, name := range []string{"support", "sales", "acme"} {
		n.change(name, ledger.GenerateToken())
	}
}

// change changes a ring, and returns the kid of the token that was made.
func (n *testNode) change(name string, ring ledger.RingChange) string {
	n.t.Helper()
	made, _, err := n.ChangeRing(n.t.Context(), name, n.kind(name), ring, change.Condition{Confirm: change.AnyLoss})
	if err != nil {
		n.t.Fatal(err)
	}
	if made == nil {
		return ""
	}
	return made.KeyID
}

// sharedTokenSettings returns settings with generated tokens.
func sharedTokenSettings(lifetime time.Duration) *config.Messenger {
	return &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken), MaxLifetime: caddy.Duration(lifetime)}
}

// clock makes the clocks of nodes differ. Tests that use it do not run in parallel with others.
func clock(t testing.TB) *atomic.Int64 {
	offset := new(atomic.Int64)
	before := vault.Now
	vault.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	t.Cleanup(func() { vault.Now = before })
	return offset
}

// at runs f with the clock of this node.
func (n *testNode) at(offset *atomic.Int64, f func()) {
	offset.Store(int64(n.offset))
	defer offset.Store(0)
	f()
}
