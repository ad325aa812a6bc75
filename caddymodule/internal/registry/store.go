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
	// maxHeld is how many stored messengers, and names that have none, a node holds in memory.
	maxHeld = 10_000

	// maxLookups is how many requests may wait for the storage at a time, maxWait how long, and lookupRate how many names
	// are looked up in a second: names come from requests.
	maxLookups = 256
	maxWait    = 2 * time.Second
	lookupRate = 500

	// rereadRate is how many values a second are read by a node that does not know what it missed.
	rereadRate = 100

	// outage is how long a storage that failed is not asked for further names.
	outage = time.Second
)

// lives holds the stores of all configurations by what they depend on: a reload keeps what was read.
var lives = caddy.NewUsagePool()

// A Store holds the messengers and key rings that change while the gateway runs. It reads them from the storage when they
// are first needed, and follows the list of changes; a verification only reads what is in memory.
type Store struct {
	*vault.Vault
	id       [sha256.Size]byte
	internal []string // hosts that stored key sets may be fetched from although their addresses are not public

	stored  *otter.Cache[string, *storedEntry]
	loading [64]sync.Mutex // by name: what is read later is newer
	seed    maphash.Seed
	lookups chan struct{}
	reads   *rate.Limiter
	rereads *rate.Limiter
	failed  atomic.Int64 // when the storage failed last, in nanoseconds since 1970

	mu     sync.Mutex
	apps   []*Registry
	pinned map[string]*storedEntry // of messengers that have connections
	owned  map[string]*Record      // of configured messengers, as they were read last; nil if there is none
	uses   map[string]*tokenUses
	again  map[string]bool // names that changed and could not be read

	polling    sync.Mutex
	seen       *vault.Changes
	rereading  atomic.Bool
	incomplete atomic.Bool // changes were missed, and what is held is to be read again
	status     atomic.Pointer[storeStatus]
}

// A storedEntry is what a node knows of one name.
type storedEntry struct {
	messenger *Messenger // nil if there is no stored messenger of this name
	revision  string     // of the record; a change that keeps it concerns revocations only
	version   atomic.Uint64
	users     atomic.Int32 // of messenger, which is cleaned up with the last of them; see pinned.go
}

// Destruct implements caddy.Destructor. The pool calls it when the last configuration has released the store.
func (l *Store) Destruct() error {
	l.stored.InvalidateAll()
	l.stored.StopAllGoroutines()
	l.mu.Lock()
	pinned := l.pinned
	l.pinned = nil
	l.mu.Unlock()
	for _, e := range pinned {
		e.drop()
	}
	return nil
}

// openStore takes the store of a configuration out of the pool, with its storage. The caller gives both back once.
func openStore(s certmagic.Storage, sealKeys [][]byte, internal []string) (*Store, error) {
	seal, err := vault.NewSealer(sealKeys)
	if err != nil {
		return nil, err
	}
	id := liveID(s, sealKeys, internal)
	value, _, err := lives.LoadOrNew(id, func() (caddy.Destructor, error) {
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
			again:    make(map[string]bool),
		}
		l.status.Store(new(storeStatus))
		l.stored, err = otter.New(&otter.Options[string, *storedEntry]{
			MaximumSize: maxHeld,
			OnDeletion: func(e otter.DeletionEvent[string, *storedEntry]) {
				if e.Value.messenger == nil {
					return
				}
				e.Value.drop()
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
	_, _ = lives.Delete(l.id) // Destruct returns no error
}

// liveID tells the stores apart that may not share what they hold: those of different storages, keys or hosts.
func liveID(s certmagic.Storage, sealKeys [][]byte, internal []string) [sha256.Size]byte {
	h := sha256.New()
	settings, _ := json.Marshal(s) // what cannot be marshalled has no settings
	fmt.Fprintf(h, "%T\x00%s\x00", s, settings)
	for _, key := range sealKeys {
		h.Write(key)
	}
	fmt.Fprintf(h, "\x00%q", internal)
	return [sha256.Size]byte(h.Sum(nil))
}

// attach makes a known, whose configured messengers get their rings and revocations from here on, and reads these. Until
// they can be read, nobody knows whether a token was revoked.
func (l *Store) attach(a *Registry) {
	l.mu.Lock()
	l.apps = append(l.apps, a)
	l.mu.Unlock()
	var unreachable error // which holds for all that has to be read: nobody waits for each in turn
	for _, name := range a.Names() {
		err := unreachable
		if err == nil || l.hasRead(name) {
			err = l.readOwned(context.Background(), name)
		}
		if err != nil {
			if !vault.IsUnreadable(err) {
				unreachable = err
			}
			a.Messengers[name].revoked.SetUnknown()
			l.mu.Lock()
			l.again[name] = true
			l.mu.Unlock()
			l.log().Error("the store cannot be read; the messenger answers keys_unavailable until it can",
				zap.String("messenger", name), zap.Error(err))
		}
	}
}

// hasRead reports whether the record of a configured messenger was read by an earlier configuration.
func (l *Store) hasRead(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.owned[name]
	return known
}

// log returns the logger of the newest configuration: a live outlives configurations, and their logs.
func (l *Store) log() *zap.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.apps) == 0 {
		return caddy.Log().Named("messenger")
	}
	return l.apps[len(l.apps)-1].Logger
}

// serves reports whether a configuration runs, and was not only loaded to be looked at.
func (l *Store) serves() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.apps, func(a *Registry) bool { return a.started.Load() })
}

func (l *Store) detach(a *Registry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.apps, a); i >= 0 {
		l.apps = slices.Delete(l.apps, i, i+1)
	}
}

// lock keeps two reads of one name apart, so that an older value never replaces a newer one.
func (l *Store) lock(name string) (unlock func()) {
	mu := &l.loading[maphash.String(l.seed, name)%uint64(len(l.loading))]
	mu.Lock()
	return mu.Unlock
}

// readOwned gives the record of a configured messenger to all configurations. One that was read before is taken as it is.
func (l *Store) readOwned(ctx context.Context, name string) error {
	defer l.lock(name)()
	l.mu.Lock()
	r, known := l.owned[name]
	l.mu.Unlock()
	if !known {
		var err error
		if r, err = l.Read(ctx, name, kindRing); err != nil {
			return err
		}
	}
	_, err := l.applyOwned(name, r)
	return err
}

// applyOwned puts the record of a configured messenger in force, and returns how many connections that has ended. The caller
// holds the lock of name.
func (l *Store) applyOwned(name string, r *Record) (ended int, err error) {
	if r == nil {
		r = new(Record)
	}
	keys, err := r.keys(l.usesOf(name, kindRing))
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.owned[name]
	l.owned[name] = r
	for _, a := range l.apps {
		m := a.Messengers[name]
		if m == nil {
			continue
		}
		added := m.revoked.Set(r.rules(time.Now()))
		if m.IsGenerated() && m.ring != r.Revision {
			m.ring = r.Revision
			m.trust(keys)
		}
		m.SetOrigin(session.Origin{Closings: r.Closings}) // after the keys: who reads it first verifies with no older ones
		switch {
		case before == nil && !a.started.Load(): // it may not come to run; endOrphans knows when it does
		case before == nil, before.Version != r.Version:
			ended += m.endRevoked(added) + m.endWithdrawn()
		}
	}
	return ended, nil
}

// hasEmptyRing reports whether the ring of a configured messenger was read, and has no token.
func (l *Store) hasEmptyRing(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, known := l.owned[name]
	return known && len(r.Tokens) == 0
}

// Read returns a record, or nil if there is none.
func (l *Store) Read(ctx context.Context, name, kind string) (*Record, error) {
	r := new(Record)
	err := l.Load(ctx, storeKey(name, kind), r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return r, nil
}
