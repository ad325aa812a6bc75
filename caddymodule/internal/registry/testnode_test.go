package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A server is a storage that nodes share.
type server struct {
	mu     sync.Mutex
	values map[string][]byte
	locks  map[string]*nodeStorage // who holds them
}

func newServer() *server {
	return &server{values: make(map[string][]byte), locks: make(map[string]*nodeStorage)}
}

func (s *server) get(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.values[key])
}

func (s *server) set(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == nil {
		delete(s.values, key)
		return
	}
	s.values[key] = value
}

// A nodeStorage is the server as one node sees it. It can fail, and die for good before or after one of its writes.
type nodeStorage struct {
	Node string // keeps the stores of two nodes apart that live in one process

	*server
	failures float64       // how often an access fails, 0 to 1
	delay    time.Duration // how long one takes at most
	diesAt   int           // the number of the write before which the node dies; 0 if it does not
	after    bool          // whether it dies after that write instead
	writes   int
	dead     bool

	liesBelow int    // for that many reads it is out of reach, and says that nothing is there
	unlocked  func() // called once, when the lock was given back and nobody knows it yet
}

var (
	errDead   = errors.New("this node is dead")
	errFailed = errors.New("this access failed")
)

func (s *nodeStorage) access() error {
	s.mu.Lock()
	delay, failures, dead := s.delay, s.failures, s.dead
	s.mu.Unlock()
	if delay > 0 {
		time.Sleep(rand.N(delay))
	}
	switch {
	case dead:
		return errDead
	case failures > 0 && rand.Float64() < failures:
		return errFailed
	}
	return nil
}

// write makes a change of the values, or dies. A node that is dead holds no lock any more.
func (s *nodeStorage) write(change func()) error {
	if err := s.access(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	dies := s.diesAt != 0 && s.writes == s.diesAt
	if !dies || s.after {
		change()
	}
	if dies {
		s.dead = true
		maps.DeleteFunc(s.locks, func(_ string, holder *nodeStorage) bool { return holder == s })
		return errDead
	}
	return nil
}

func (s *nodeStorage) Load(_ context.Context, key string) ([]byte, error) {
	if err := s.access(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	lies := s.liesBelow > 0
	if lies {
		s.liesBelow--
	}
	s.mu.Unlock()
	if lies {
		return nil, fs.ErrNotExist
	}
	if value := s.get(key); value != nil {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (s *nodeStorage) Store(_ context.Context, key string, value []byte) error {
	return s.write(func() { s.values[key] = slices.Clone(value) })
}

func (s *nodeStorage) Delete(_ context.Context, key string) error {
	return s.write(func() { delete(s.values, key) })
}

func (s *nodeStorage) Exists(_ context.Context, key string) bool { return s.get(key) != nil }

// List is for what lies below one value, which is nothing. As in Redis, a value cannot be listed.
func (s *nodeStorage) List(_ context.Context, prefix string, _ bool) ([]string, error) {
	if err := s.access(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.liesBelow > 0 || s.values[prefix] != nil {
		return nil, errFailed
	}
	return nil, fs.ErrNotExist
}

func (s *nodeStorage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{Key: key, IsTerminal: true}, nil
}

func (s *nodeStorage) Lock(ctx context.Context, name string) error {
	for ; ; time.Sleep(20 * time.Microsecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.access(); err != nil {
			return err
		}
		s.mu.Lock()
		if s.locks[name] == nil {
			s.locks[name] = s
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
	}
}

func (s *nodeStorage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	if s.locks[name] == s {
		delete(s.locks, name)
	}
	unlocked := s.unlocked
	s.unlocked = nil
	s.mu.Unlock()
	if unlocked != nil {
		unlocked()
	}
	return nil
}

// A testNode is a gateway without Caddy around it: the app, with its store.
type testNode struct {
	*admin.Service
	storage *nodeStorage
}

var testStoreKey = bytes.Repeat([]byte{7}, vault.SealKeySize)

// The names of a test: configured messengers with generated tokens, and stored ones.
var (
	testConfigured = []string{"sales", "support"}
	testStored     = []string{"acme", "bolt"}
)

func newTestNode(t testing.TB, s *server, name string) *testNode {
	t.Helper()
	n := &testNode{storage: &nodeStorage{Node: t.Name() + name, server: s}}
	l, err := registry.OpenStore(n.storage, [][]byte{testStoreKey}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.Service = admin.ServiceOf(registry.RegistryOn(l, n.storage, zap.NewNop()), func() []*auth.Handler { return nil })
	for _, name := range testConfigured {
		m := &registry.Messenger{Messenger: &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}}
		if err := m.Provision(name, n.Logger, l); err != nil {
			t.Fatal(err)
		}
		n.Messengers[name] = m
	}
	l.Attach(n.Registry)
	t.Cleanup(func() {
		l.Detach(n.Registry)
		l.Release(n.storage)
	})
	return n
}

// settle looks at the list of changes once, and waits until all is read that this asks for.
func (n *testNode) settle(t testing.TB) {
	t.Helper()
	n.Store.Poll(t.Context())
	for deadline := time.Now().Add(30 * time.Second); (*n.Store.Incomplete()).Load() || (*n.Store.Rereading()).Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("re-reading does not end")
		}
	}
}

// trusted returns the kids that verify tokens of a messenger on this node. A stored messenger that the node does not hold
// is read when a request asks for it, so that is what happens here.
func (n *testNode) trusted(t testing.TB, name string) string {
	t.Helper()
	m, rej := n.Find(t.Context(), name)
	if rej != nil {
		return string(rej.Code)
	}
	var kids []string
	for _, key := range m.Verifier.Load().Keys() {
		kids = append(kids, key.KeyID)
	}
	slices.Sort(kids)
	return strings.Join(kids, " ")
}

// written returns the kids that stand in the storage.
func (n *testNode) written(t testing.TB, name string) string {
	t.Helper()
	kind := registry.KindRing
	if slices.Contains(testStored, name) {
		kind = registry.KindStored
	}
	r, err := n.Store.Read(context.Background(), name, kind)
	switch {
	case err != nil:
		t.Fatalf("what is written for %s cannot be read: %v", name, err)
	case r == nil && kind == registry.KindStored:
		return "messenger_unknown"
	case r == nil:
		return ""
	}
	r.Forget(time.Now())
	var kids []string
	for _, token := range r.Tokens {
		kids = append(kids, token.KeyID)
	}
	slices.Sort(kids)
	return strings.Join(kids, " ")
}
