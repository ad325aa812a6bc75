package registry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// What the tests of several nodes look at. They are in a package of their own, because what operators do is above this one.

const (
	KindRing   = kindRing
	MaxHeld    = maxCached
	MaxLookups = maxLookups
	MaxWait    = maxWait
)

var (
	OpenStore  = openStore
	RegistryOn = registryOn
	KeySetKey  = keySetKey
	StoreKey   = storeKey
	UsesKind   = usesKind
	SizeLimit  = sizeLimit
)

func (s *Store) Attach(a *Registry)                          { s.attach(a) }
func (s *Store) Detach(a *Registry)                          { s.detach(a) }
func (l *Store) Release(s certmagic.Storage)                 { l.release(s) }
func (s *Store) Poll(ctx context.Context)                    { s.poll(ctx) }
func (s *Store) CatchUp(ctx context.Context)                 { s.catchUp(ctx) }
func (s *Store) Unpin()                                      { s.unpin() }
func (s *Store) Failed() *atomic.Int64                       { return &s.failed }
func (s *Store) Incomplete() *atomic.Bool                    { return &s.incomplete }
func (s *Store) Rereading() *atomic.Bool                     { return &s.rereading }
func (s *Store) Reads() **rate.Limiter                       { return &s.reads }
func (s *Store) Pinned() *map[string]*storedEntry            { return &s.pinned }
func (s *Store) Status() *atomic.Pointer[storeStatus]        { return &s.status }
func (s *Store) Stored() **otter.Cache[string, *storedEntry] { return &s.stored }

func (s *Store) Reread(ctx context.Context, name string) error { return s.reread(ctx, name) }

func (s *Store) Change(ctx context.Context, name, kind string, f func(old *Record) (*Record, error), written func(*Record) error) (*Record, error) {
	return s.change(ctx, name, kind, f, written)
}

func (reg *Registry) PinnedMessenger(ctx context.Context, name string) (*Messenger, *authn.Rejection) {
	return reg.pinnedMessenger(ctx, name)
}

func (m *Messenger) Provision(name string, logger *zap.Logger, l *Store) error {
	return m.provision(name, logger, l)
}
func (m *Messenger) Cleanup()                     { m.cleanup() }
func (m *Messenger) TakeMeter()                   { m.acquireMeter() }
func (m *Messenger) Released() *atomic.Bool       { return &m.released }
func (m *Messenger) Revoked() **authn.Revocations { return &m.revoked }

func (r *Record) AddRevocation(v Revocation, now time.Time) error { return r.addRevocation(v, now) }

// SetEngineStore says under which store m shares its key set.
func SetEngineStore(m *Messenger, l *Store) { m.Engine.store = l }

// Started is whether a's configuration has started.
func (reg *Registry) Started() *atomic.Bool { return &reg.started }

// Known returns what is in memory of a name.
func (s *Store) Known(name string) (*storedEntry, bool) { return s.cached(name) }

// Messenger is the messenger that was read.
func (e *storedEntry) Messenger() **Messenger { return &e.messenger }
