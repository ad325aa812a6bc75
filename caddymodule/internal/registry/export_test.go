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
	MaxHeld    = maxHeld
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

func (l *Store) Attach(a *Registry)                          { l.attach(a) }
func (l *Store) Detach(a *Registry)                          { l.detach(a) }
func (l *Store) Release(s certmagic.Storage)                 { l.release(s) }
func (l *Store) Poll(ctx context.Context)                    { l.poll(ctx) }
func (l *Store) CatchUp(ctx context.Context)                 { l.catchUp(ctx) }
func (l *Store) Unpin()                                      { l.unpin() }
func (l *Store) Failed() *atomic.Int64                       { return &l.failed }
func (l *Store) Incomplete() *atomic.Bool                    { return &l.incomplete }
func (l *Store) Rereading() *atomic.Bool                     { return &l.rereading }
func (l *Store) Reads() **rate.Limiter                       { return &l.reads }
func (l *Store) Pinned() *map[string]*storedEntry            { return &l.pinned }
func (l *Store) Status() *atomic.Pointer[storeStatus]        { return &l.status }
func (l *Store) Stored() **otter.Cache[string, *storedEntry] { return &l.stored }

func (l *Store) Reread(ctx context.Context, name string) error { return l.reread(ctx, name) }

func (l *Store) Change(ctx context.Context, name, kind string, f func(old *Record) (*Record, error), written func(*Record) error) (*Record, error) {
	return l.change(ctx, name, kind, f, written)
}

func (a *Registry) PinnedMessenger(ctx context.Context, name string) (*Messenger, *authn.Rejection) {
	return a.pinnedMessenger(ctx, name)
}

func (m *Messenger) Provision(name string, logger *zap.Logger, l *Store) error {
	return m.provision(name, logger, l)
}
func (m *Messenger) Cleanup()                     { m.cleanup() }
func (m *Messenger) TakeMeter()                   { m.takeMeter() }
func (m *Messenger) Released() *atomic.Bool       { return &m.released }
func (m *Messenger) Revoked() **authn.Revocations { return &m.revoked }

func (r *Record) AddRevocation(v Revocation, now time.Time) error { return r.addRevocation(v, now) }

// SetEngineStore says under which store m shares its key set.
func SetEngineStore(m *Messenger, l *Store) { m.Engine.store = l }

// Started is whether a's configuration has started.
func (a *Registry) Started() *atomic.Bool { return &a.started }

// Known returns what is in memory of a name.
func (l *Store) Known(name string) (*storedEntry, bool) { return l.known(name) }

// Messenger is the messenger that was read.
func (e *storedEntry) Messenger() **Messenger { return &e.messenger }
