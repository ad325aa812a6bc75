package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A server is a storage in memory that nodes share.
type server struct {
	mu     sync.Mutex
	values map[string][]byte
	late   []func() // writes that the network holds back
}

func newServer() *server { return &server{values: make(map[string][]byte)} }

func (s *server) set(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
}

// keys returns the keys of all values, sorted.
func (s *server) keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// land lets one of the writes that were held back arrive, and reports whether there was one.
func (s *server) land(random *rand.Rand) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.late) == 0 {
		return false
	}
	i := random.IntN(len(s.late))
	s.late[i]()
	s.late = slices.Delete(s.late, i, i+1)
	return true
}

var errFailed = errors.New("this access failed")

// A nodeStorage is the server as one node sees it.
type nodeStorage struct {
	Node string // keeps the stores of two nodes apart that are in one process

	*server

	faults sync.Mutex                  // guards the rest
	before func(op, key string) error  // called before each access; may be nil
	dies   func() (before, after bool) // called for each write: whether the node dies before or after it; may be nil
	listed func()                      // called when a listing was made; may be nil
	lies   bool                        // out of reach; says of every value that it does not exist, as caddy-storage-redis 1.8.1 does
	chance *chance                     // faults; nil for none
	slow   *chance                     // delays; nil for none
}

// A chance decides on faults. The same seed gives the same faults, although the IDs in keys are different each time.
type chance struct {
	mu    sync.Mutex
	seed  uint64
	odds  uint64 // of 100
	calls map[string]int
}

func newChance(seed, odds uint64) *chance {
	return &chance{seed: seed, odds: odds, calls: make(map[string]int)}
}

var randomPart = regexp.MustCompile(`[a-z2-7]{16}`)

// draw returns a number, or -1 for no fault.
func (c *chance) draw(op, key string) int {
	if c == nil {
		return -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	shape := op + " " + randomPart.ReplaceAllString(key, "*")
	c.calls[shape]++
	h := fnv.New64a()
	fmt.Fprint(h, c.seed, shape, c.calls[shape])
	n := h.Sum64() >> 8
	if n%100 >= c.odds {
		return -1
	}
	return int(n / 100 % 1000)
}

func (s *nodeStorage) setBefore(before func(op, key string) error) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.before = before
}

func (s *nodeStorage) setDies(dies func() (before, after bool)) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.dies = dies
}

func (s *nodeStorage) setListed(listed func()) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.listed = listed
}

func (s *nodeStorage) setLies(lies bool) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.lies = lies
}

func (s *nodeStorage) setChance(c *chance) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.chance = c
}

func (s *nodeStorage) setSlow(c *chance) {
	s.faults.Lock()
	defer s.faults.Unlock()
	s.slow = c
}

// draw draws from the chance of faults.
func (s *nodeStorage) draw(op, key string) int {
	s.faults.Lock()
	c := s.chance
	s.faults.Unlock()
	return c.draw(op, key)
}

func (s *nodeStorage) hasChance() bool {
	s.faults.Lock()
	defer s.faults.Unlock()
	return s.chance != nil
}

func (s *nodeStorage) isLying() bool {
	s.faults.Lock()
	defer s.faults.Unlock()
	return s.lies
}

// access delays, and fails.
func (s *nodeStorage) access(op, key string) error {
	s.faults.Lock()
	slow, before := s.slow, s.before
	s.faults.Unlock()
	if n := slow.draw("slow", key); n >= 0 {
		time.Sleep(time.Duration(n) * time.Millisecond / 50)
	}
	if before != nil {
		return before(op, key)
	}
	return nil
}

func (s *nodeStorage) Load(_ context.Context, key string) ([]byte, error) {
	if err := s.access("load", key); err != nil {
		return nil, err
	}
	switch n := s.draw("load", key); {
	case n >= 0 && n%4 == 0 || s.isLying(): // a key that a listing names, and that is not there for a moment
		return nil, fs.ErrNotExist
	case n >= 0:
		return nil, errFailed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, found := s.values[key]; found {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

// Store stores a value, and may apply it without saying so, or later, or twice. The lists and the notification come in order: what a
// late one hides is told again by its writer, or found by the next sweep.
func (s *nodeStorage) Store(_ context.Context, key string, value []byte) error {
	if err := s.access("store", key); err != nil {
		return err
	}
	value = slices.Clone(value)
	apply := func() { s.values[key] = value }
	s.faults.Lock()
	dies := s.dies
	s.faults.Unlock()
	if dies != nil {
		before, after := dies()
		if !before {
			s.set(key, value)
		}
		if before || after {
			return errFailed
		}
	}
	n := s.draw("store", key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n >= 0 && (vault.IsList(key) || key == vault.NotificationKey || key == vault.OriginKey) {
		n %= 2
	}
	switch {
	case n < 0:
		apply()
		return nil
	case n%4 == 0: // lost
	case n%4 == 1: // the answer is lost
		apply()
	case n%4 == 2: // held back
		s.late = append(s.late, apply)
	default: // repeated later
		apply()
		s.late = append(s.late, apply)
		return nil
	}
	return errFailed
}

func (s *nodeStorage) Delete(_ context.Context, key string) error {
	if err := s.access("delete", key); err != nil {
		return err
	}
	n := s.draw("delete", key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 0 || n%2 == 0 {
		delete(s.values, key)
	}
	if n >= 0 {
		return errFailed
	}
	return nil
}

func (s *nodeStorage) Exists(_ context.Context, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key] != nil
}

func (s *nodeStorage) List(_ context.Context, prefix string, recursive bool) ([]string, error) {
	if err := s.access("list", prefix); err != nil {
		return nil, err
	}
	if s.draw("list", prefix) >= 0 || s.isLying() {
		return nil, errFailed
	}
	s.faults.Lock()
	listed := s.listed
	s.faults.Unlock()
	if listed != nil {
		defer listed()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]bool)
	for key := range s.values {
		below, ok := strings.CutPrefix(key, prefix+"/")
		if !ok {
			continue
		}
		if !recursive {
			below, _, _ = strings.Cut(below, "/")
		}
		found[prefix+"/"+below] = true
	}
	if len(found) == 0 {
		return nil, fs.ErrNotExist
	}
	var keys []string
	for key := range found {
		keys = append(keys, key)
	}
	return keys, nil
}

func (s *nodeStorage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{Key: key, IsTerminal: true}, nil
}

func (s *nodeStorage) Lock(context.Context, string) error   { return errors.New("locks are not taken") }
func (s *nodeStorage) Unlock(context.Context, string) error { return errors.New("locks are not taken") }
