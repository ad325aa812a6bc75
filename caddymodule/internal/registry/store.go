package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/assertion"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/lastuse"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/nameindex"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/namelock"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ticket"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/turnstile"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Now returns the time of everything that the store has: the times of facts, and what has expired.
func Now() time.Time { return vault.Now() }

const (
	// maxCached is how many stored messengers a node has in memory, and maxAbsent how many names without one.
	maxCached = 10_000
	maxAbsent = 10_000

	// maxWait is how long a request waits for its turn, and then for the storage.
	maxWait = 2 * time.Second

	// rereadRate is how many messengers per second are read by a node that does not know which changes it missed.
	rereadRate = 100

	// sweepTime is how long a node takes at most to read everything again that it has in memory.
	sweepTime = 15 * time.Minute

	// outage is how long names are not looked up after the storage failed.
	outage = time.Second
)

// stores has the stores of all configurations by what they depend on, so that a reload keeps what was read.
var stores = caddy.NewUsagePool()

// A Store has the messengers and key rings that change at runtime. It reads their facts from the storage when they are first
// needed, and follows what other nodes write. A verification reads memory only.
//
// Locks are taken in this order: the lock of a name, which is held while the storage is read; applying of a journal; mu; the mu of
// a journal. The last two are never held while the storage is read or written.
type Store struct {
	*vault.Vault
	id       [sha256.Size]byte
	internal []string // hosts from which stored messengers may fetch key sets although their addresses are not public
	writer   *vault.Writer

	Assertions *assertion.Keys // with which the gateway tells backends who a contact is

	follower *vault.Follower
	Tickets  *ticket.Desk
	KeySets  keysets.Store // what the store has about key sets from URLs
	Uses     lastuse.Rings // of shared tokens

	Trail trail.Trail // what this node has written into its audit log about messengers

	stored    *otter.Cache[string, *storedEntry]
	absent    *otter.Cache[string, struct{}] // names without a stored messenger: no number of them evicts a messenger
	changed   [64]atomic.Uint64              // by the same; see noteChange
	index     nameindex.Shared               // those that the storage has anything of
	summaries *otter.Cache[string, Summary]
	seed      maphash.Seed
	lookups   *turnstile.Turnstile
	clientOf  func(context.Context) string // of a request: see [NewRegistry]
	rereads   *rate.Limiter
	failed    atomic.Pointer[time.Time] // when the storage failed last; by the monotonic clock, whatever the wall clock does

	mu         sync.Mutex
	registries []*Registry
	pinned     map[string]*storedEntry    // of messengers with connections; nil after Destruct
	owned      map[string]*ledger.Journal // of configured messengers
	retry      map[string]time.Time       // names to read again with every poll, until when; see reread
	unread     map[messengerKey]unread    // those of which the last reading has failed
	about      map[vault.Key]time.Time    // batches that other nodes are about to write, and until when they are looked for

	changing namelock.Locks     // the names that are being changed; see beginChange
	loading  namelock.Locks     // the names that are being read; see lock
	flights  map[string]*flight // the look-ups in progress, by name

	polling    sync.Mutex
	unreached  bool // whether the last poll failed; under polling
	rereading  atomic.Bool
	incomplete atomic.Bool // changes were missed, so that everything in memory must be read again
	status     atomic.Pointer[storeStatus]
	health     storeHealth

	epoch atomic.Uint64 // raised under mu when this node drops what it knew; see dropIfAway
}

// A storedEntry is what a node knows about a stored messenger.
type storedEntry struct {
	messenger *Messenger
	journal   *ledger.Journal
	revision  string       // of the record that the messenger was made from; a change that keeps it concerns revocations only
	users     atomic.Int32 // the last one cleans messenger up; see pinned.go
}

// Destruct implements caddy.Destructor. The pool calls it when the last configuration has released the store.
func (s *Store) Destruct() error {
	s.writer.Stop()
	s.stored.InvalidateAll()
	s.stored.StopAllGoroutines()
	s.absent.StopAllGoroutines()
	s.summaries.StopAllGoroutines()
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
func openStore(storage certmagic.Storage, sealKeys [][]byte, internal []string, clientOf func(context.Context) string) (*Store, error) {
	seal, err := vault.NewSealer(sealKeys)
	if err != nil {
		return nil, err
	}
	id := storeID(storage, sealKeys, internal)
	value, _, err := stores.LoadOrNew(id, func() (caddy.Destructor, error) {
		v := vault.New(seal, metrics.Process.Errors.Inc)
		w := vault.NewWriter(v)
		s := &Store{
			Vault:      v,
			writer:     w,
			Assertions: assertion.NewKeys(v, w, Now),
			follower:   vault.NewFollower(v, w.ID),
			id:         id,
			internal:   internal,
			seed:       maphash.MakeSeed(),
			lookups:    turnstile.New(),
			clientOf:   clientOf,
			rereads:    rate.NewLimiter(rereadRate, 1),
			pinned:     make(map[string]*storedEntry),
			owned:      make(map[string]*ledger.Journal),
			retry:      make(map[string]time.Time),
			unread:     make(map[messengerKey]unread),
			about:      make(map[vault.Key]time.Time),
			flights:    make(map[string]*flight),
		}
		s.follower.Confirmed, s.follower.HasLostList = w.Confirmed, w.HasLostList
		if s.Tickets, err = ticket.New(sealKeys, vault.Markers{Vault: v, Node: w.ID}); err != nil {
			return nil, err
		}
		s.index.Read = func(ctx context.Context) (nameindex.Index, error) {
			return vault.Names(ctx, v, indexOf)
		}
		s.Uses.Vault, s.KeySets.Vault, s.KeySets.Writer = v, v, w
		s.KeySets.Serves, s.KeySets.Log, s.KeySets.Changed, s.KeySets.IsInternal = s.serves, s.log, s.KeySetChanged, s.IsInternal
		w.Wrote, w.Stats.Seconds = s.wrote, metrics.Process.Writes.Observe
		s.status.Store(new(storeStatus))
		if s.absent, err = otter.New(&otter.Options[string, struct{}]{MaximumSize: maxAbsent}); err != nil {
			return nil, err
		}
		if s.summaries, err = otter.New(&otter.Options[string, Summary]{MaximumSize: MaxSorted}); err != nil {
			return nil, err
		}
		s.stored, err = otter.New(&otter.Options[string, *storedEntry]{
			MaximumSize: maxCached,
			OnDeletion: func(e otter.DeletionEvent[string, *storedEntry]) {
				e.Value.release()
				if e.Cause == otter.CauseOverflow {
					s.forgetUses(e.Key)
				}
			},
		})
		return s, err
	})
	if err != nil {
		return nil, err
	}
	s := value.(*Store)
	s.Use(storage)
	return s, nil
}

// indexOf keeps the names that are those of messengers.
func indexOf(each vault.EachName) (nameindex.Index, error) {
	var b nameindex.Builder
	err := each(func(name string) error {
		if config.CheckName(name) != nil {
			return nil
		}
		return b.Add(name)
	})
	return b.Index(), err
}

func (s *Store) release(storage certmagic.Storage) {
	s.Drop(storage)
	_, _ = stores.Delete(s.id) // Destruct returns no error
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
// these. A messenger whose facts cannot be read answers keys_unavailable, because its tokens may be revoked.
func (s *Store) attach(reg *Registry) {
	s.mu.Lock()
	s.registries = append(s.registries, reg)
	s.mu.Unlock()
	ctx := context.Background()
	s.polling.Lock()
	unreachable := s.follower.Begin(ctx) // before anything is read, so that no change is missed
	s.polling.Unlock()
	for _, name := range reg.Names() {
		err := unreachable // once the storage failed, the others are not tried: each could take its whole timeout
		if err == nil || s.inMemory(name, ledger.KindRing) != nil {
			err = s.readOwned(ctx, name)
		}
		if err != nil {
			if !isOfOneMessenger(err) {
				unreachable = err
			}
			reg.Messengers[name].revoked.SetUnknown()
			s.readAgain(name, forever)
			s.log().Error("the store cannot be read; the messenger answers keys_unavailable until it can",
				zap.String("messenger", name), zap.Error(err))
		}
	}
}

// lock serializes the reading of one name. A goroutine holds one such lock at a time.
func (s *Store) lock(name string) (unlock func()) { return s.loading.Lock(name) }

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

// readOwned gives the facts of a configured messenger to all configurations. They are read only if none has read them before.
func (s *Store) readOwned(ctx context.Context, name string) error {
	defer s.lock(name)()
	j := s.inMemory(name, ledger.KindRing)
	if j == nil {
		_, err := s.begin(ctx, name, ledger.KindRing)
		return err
	}
	_, err := s.apply(j, everything)
	return err
}

// begin reads a name for the first time, and makes active what it finds. What is written meanwhile, by this node or another, is
// added to the journals that are in memory, and this one is not there yet. Therefore it is read once more if anything was written. From
// then on it is in memory and gets every change, so that a third time is not needed. The caller holds the lock of the name.
func (s *Store) begin(ctx context.Context, name, kind string) (*ledger.Journal, error) {
	j := s.newJournal(name, kind)
	for again := false; ; again = true {
		before := s.changes(name).Load()
		if err := s.read(ctx, j); err != nil {
			return j, err
		}
		if err := j.Damage(); err != nil {
			return j, err
		}
		if kind == ledger.KindRing {
			s.mu.Lock()
			dropped := s.isDropped(j)
			if !dropped {
				s.owned[name] = j
			}
			s.mu.Unlock()
			if dropped {
				return j, errDropped
			}
		}
		if _, err := s.apply(j, everything); err != nil {
			return j, err
		}
		if s.changes(name).Load() == before {
			return j, nil
		}
		s.absent.Invalidate(name) // it may have been created after the listing
		if again {
			return j, nil
		}
	}
}

// hasEmptyRing reports whether the ring of a configured messenger was read, and has no token.
func (s *Store) hasEmptyRing(name string) bool {
	j := s.inMemory(name, ledger.KindRing)
	if j == nil {
		return false
	}
	r := j.Record()
	return r == nil || len(r.Tokens) == 0
}
