package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// maxCached is how many stored messengers, and names without one, a node has in memory.
	maxCached = 10_000

	// maxLookups is how many requests may wait for the storage at a time, maxWait is how long they wait, and lookupRate is how
	// many names are looked up per second. The limits are needed because names come from requests.
	maxLookups = 256
	maxWait    = 2 * time.Second
	lookupRate = 500

	// rereadRate is how many values per second are read by a node that does not know which changes it missed.
	rereadRate = 100

	// outage is how long names are not looked up after the storage failed.
	outage = time.Second
)

// stores has the stores of all configurations by what they depend on, so that a reload keeps what was read.
var stores = caddy.NewUsagePool()

// A Store has the messengers and key rings that change at runtime. It reads them from the storage when they are first needed,
// and polls the list of changes. A verification reads memory only.
//
// Locks are taken in this order: the lock of a name, then mu. mu is never held while the storage is read or written.
type Store struct {
	*vault.Vault
	id       [sha256.Size]byte
	internal []string // hosts from which stored messengers may fetch key sets although their addresses are not public

	stored  *otter.Cache[string, *storedEntry]
	loading [64]sync.Mutex // by the hash of a name; see lock
	seed    maphash.Seed
	lookups chan struct{}
	reads   *rate.Limiter
	rereads *rate.Limiter
	failed  atomic.Int64 // when the storage failed last, in nanoseconds since 1970

	mu         sync.Mutex
	registries []*Registry
	pinned     map[string]*storedEntry // of messengers with connections; nil after Destruct
	owned      map[string]*Record      // of configured messengers, as they were read last
	uses       map[string]*tokenUses
	retry      map[string]bool // names that changed and could not be read

	polling    sync.Mutex
	seen       *vault.Changes
	rereading  atomic.Bool
	incomplete atomic.Bool // changes were missed, so that everything in memory must be read again
	status     atomic.Pointer[storeStatus]
}

// A storedEntry is what a node knows about one name.
type storedEntry struct {
	messenger *Messenger // nil if there is no stored messenger of this name
	revision  string     // of the record; a change that keeps it concerns revocations only
	version   atomic.Uint64
	users     atomic.Int32 // the last one cleans messenger up; see pinned.go
}

// Destruct implements caddy.Destructor. The pool calls it when the last configuration has released the store.
func (s *Store) Destruct() error {
	s.stored.InvalidateAll()
	s.stored.StopAllGoroutines()
	s.mu.Lock()
	pinned := s.pinned
	s.pinned = nil
	s.mu.Unlock()
	for _, e := range pinned {
		e.release()
	}
	return nil
}

// openStore returns the store of a configuration from the pool, and makes it use the storage. The caller calls release once.
func openStore(s certmagic.Storage, sealKeys [][]byte, internal []string) (*Store, error) {
	seal, err := vault.NewSealer(sealKeys)
	if err != nil {
		return nil, err
	}
	id := storeID(s, sealKeys, internal)
	value, _, err := stores.LoadOrNew(id, func() (caddy.Destructor, error) {
		l := &Store{
			Vault:    &vault.Vault{Seal: seal, Writing: make(chan struct{}, 1), Failed: metrics.Process.Errors.Inc, Limit: sizeLimit},
			id:       id,
			internal: internal,
			seed:     maphash.MakeSeed(),
			lookups:  make(chan struct{}, maxLookups),
			reads:    rate.NewLimiter(lookupRate, 2*lookupRate),
			rereads:  rate.NewLimiter(rereadRate, 1),
			pinned:   make(map[string]*storedEntry),
			owned:    make(map[string]*Record),
			uses:     make(map[string]*tokenUses),
			retry:    make(map[string]bool),
		}
		l.status.Store(new(storeStatus))
		l.stored, err = otter.New(&otter.Options[string, *storedEntry]{
			MaximumSize: maxCached,
			OnDeletion: func(e otter.DeletionEvent[string, *storedEntry]) {
				if e.Value.messenger == nil {
					return
				}
				e.Value.release()
				if e.Cause == otter.CauseOverflow {
					l.forgetUses(e.Key)
				}
			},
		})
		return l, err
	})
	if err != nil {
		return nil, err
	}
	l := value.(*Store)
	l.Use(s)
	return l, nil
}

func (l *Store) release(s certmagic.Storage) {
	l.Drop(s)
	_, _ = stores.Delete(l.id) // Destruct returns no error
}

// storeID identifies a store: those of different storages, keys or hosts must not share what they have read.
func storeID(s certmagic.Storage, sealKeys [][]byte, internal []string) [sha256.Size]byte {
	h := sha256.New()
	settings, _ := json.Marshal(s) // what cannot be marshalled has no settings
	fmt.Fprintf(h, "%T\x00%s\x00", s, settings)
	for _, key := range sealKeys {
		h.Write(key)
	}
	fmt.Fprintf(h, "\x00%q", internal)
	return [sha256.Size]byte(h.Sum(nil))
}

// attach adds a registry, whose configured messengers get their rings and revocations from the store from here on, and reads
// these. A messenger whose record cannot be read answers keys_unavailable, because its tokens may be revoked.
func (s *Store) attach(reg *Registry) {
	s.mu.Lock()
	s.registries = append(s.registries, reg)
	s.mu.Unlock()
	var unreachable error // once the storage failed, the other records are not tried: each could take its whole timeout
	for _, name := range reg.Names() {
		err := unreachable
		if err == nil || s.hasRead(name) {
			err = s.readOwned(context.Background(), name)
		}
		if err != nil {
			if !vault.IsUnreadable(err) {
				unreachable = err
			}
			reg.Messengers[name].revoked.SetUnknown()
			s.mu.Lock()
			s.retry[name] = true
			s.mu.Unlock()
			s.log().Error("the store cannot be read; the messenger answers keys_unavailable until it can",
				zap.String("messenger", name), zap.Error(err))
		}
	}
}

// hasRead reports whether the record of a configured messenger was read by an earlier configuration.
func (s *Store) hasRead(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.owned[name]
	return known
}

// log returns the logger of the newest configuration, because a store outlives configurations and their loggers.
func (s *Store) log() *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.registries) == 0 {
		return caddy.Log().Named("messenger")
	}
	return s.registries[len(s.registries)-1].Logger
}

// serves reports whether a configuration runs. One that is only validated does not.
func (s *Store) serves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.registries, func(reg *Registry) bool { return reg.started.Load() })
}

func (s *Store) detach(reg *Registry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.registries, reg); i >= 0 {
		s.registries = slices.Delete(s.registries, i, i+1)
	}
}

// lock serializes reading and applying the values of one name, so that an older value never replaces a newer one. Names share
// a fixed number of locks; a goroutine holds one at a time.
func (s *Store) lock(name string) (unlock func()) {
	mu := &s.loading[maphash.String(s.seed, name)%uint64(len(s.loading))]
	mu.Lock()
	return mu.Unlock
}

// readOwned gives the record of a configured messenger to all configurations. It is read only if none has read it before.
func (s *Store) readOwned(ctx context.Context, name string) error {
	defer s.lock(name)()
	s.mu.Lock()
	r, known := s.owned[name]
	s.mu.Unlock()
	if !known {
		var err error
		if r, err = s.Read(ctx, name, kindRing); err != nil {
			return err
		}
	}
	_, err := s.applyOwned(name, r)
	return err
}

// applyOwned makes the record of a configured messenger active, and returns how many connections that has ended. The caller
// holds the lock of name.
func (s *Store) applyOwned(name string, r *Record) (ended int, err error) {
	if r == nil {
		r = new(Record)
	}
	keys, err := r.keys(s.usesOf(name, kindRing))
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.owned[name]
	s.owned[name] = r
	for _, a := range s.registries {
		m := a.Messengers[name]
		if m == nil {
			continue
		}
		added := m.revoked.Set(r.rules(time.Now()))
		if m.IsGenerated() && m.ring != r.Revision {
			m.ring = r.Revision
			m.trust(keys)
		}
		m.SetOrigin(session.Origin{Closings: r.Closings}) // after the keys: auth reads the origin first, and so never verifies with keys that are older than it
		switch {
		case before == nil && !a.started.Load(): // this configuration may never run; if it does, EndOrphansOf is called
		case before == nil, before.Version != r.Version:
			ended += m.endRevoked(added) + m.endInvalidated()
		}
	}
	return ended, nil
}

// hasEmptyRing reports whether the ring of a configured messenger was read, and has no token.
func (s *Store) hasEmptyRing(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.owned[name]
	return known && len(r.Tokens) == 0
}

// Read returns a record, or nil if there is none.
func (s *Store) Read(ctx context.Context, name, kind string) (*Record, error) {
	r := new(Record)
	err := s.Load(ctx, storeKey(name, kind), r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return r, nil
}
