package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// DefaultPollInterval is how often key files are read again unless poll_interval says otherwise.
const DefaultPollInterval = 2 * time.Second

// A Registry knows which messengers there are right now: those of one configuration, and the stored ones of its store,
// which it shares with other configurations.
type Registry struct {
	Messengers map[string]*Messenger // the configured ones, by name; it does not change once the configuration runs

	Logger   *zap.Logger
	refusals *zap.Logger // sampled: clients can cause its lines at will
	Metrics  *metrics.Collectors
	storage  certmagic.Storage
	Store    *Store
	Verified *authn.Cache // nil if the cache is off
	started  atomic.Bool
	released bool
}

// NewRegistry makes the registry of a configuration. The caller releases it.
func NewRegistry(ctx caddy.Context, storeKeys [][]byte, internalHosts []string) (*Registry, error) {
	l, err := openStore(ctx.Storage(), storeKeys, internalHosts)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return registryOn(l, ctx.Storage(), PrintableLogger(ctx.Logger())), nil
}

// registryOn makes a registry without configured messengers.
func registryOn(l *Store, storage certmagic.Storage, logger *zap.Logger) *Registry {
	return &Registry{
		Messengers: make(map[string]*Messenger),
		Logger:     logger,
		refusals:   Sampled(logger),
		Metrics:    metrics.Process,
		storage:    storage,
		Store:      l,
	}
}

// Add makes a configured messenger out of its settings. files are those that were read for this configuration.
func (a *Registry) Add(name string, settings *config.Messenger, files config.LoadedFiles) error {
	m := &Messenger{Messenger: settings, files: files}
	defer func() { m.files = nil }() // there are secrets among them
	a.Messengers[name] = m           // also if it fails half-way: release gives back what it took
	if err := m.provision(name, a.Logger, a.Store); err != nil {
		return err
	}
	m.takeMeter()
	return nil
}

// Load reads what the store has of the configured messengers, and warns about settings.
func (a *Registry) Load() {
	a.Store.attach(a)
	a.announce()
	a.warn()
}

// warn names settings that work and are probably not meant.
func (a *Registry) warn() {
	names := a.Names()
	for i, name := range names {
		m := a.Messengers[name]
		for _, warning := range m.Warnings() {
			a.AuditWarning(warning, zap.String("messenger", name))
		}
		if m.IsGenerated() && a.Store.hasEmptyRing(name) {
			a.AuditWarning("no shared token was generated yet, and requests are answered with keys_unavailable; make one with: caddy messenger tokens generate "+name,
				zap.String("messenger", name))
		}
		for _, other := range names[i+1:] {
			if m.acceptsTokensOf(a.Messengers[other]) {
				a.AuditWarning("two messengers trust the same key, so that a token for one can be good for the other; give each an \"audience\" of its own, or a key of its own",
					zap.Strings("messengers", []string{name, other}))
			}
		}
	}
}

// Start begins to fetch key sets, to watch key files, and to follow the store. What it begins ends with ctx.
func (a *Registry) Start(ctx context.Context, interval time.Duration) {
	for _, name := range a.Names() {
		m := a.Messengers[name]
		if m.KeySet != nil {
			m.KeySet.Start()
		}
		if interval > 0 {
			m.watchKeyFiles(ctx, interval)
		}
	}
	a.started.Store(true)
	go a.warnAboutStored(ctx)
	go a.Store.keepUses(ctx)
	if interval > 0 {
		go a.Store.keepUpToDate(ctx, interval)
	} else {
		go a.Store.catchUp(ctx)
	}
}

// warnAboutStored names what is in the store and has no effect.
func (a *Registry) warnAboutStored(ctx context.Context) {
	for _, name := range a.Names() {
		if r, err := a.Store.Read(ctx, name, KindStored); err == nil && r != nil {
			a.AuditWarning("a stored messenger is ignored, because the configuration has one of the same name; delete it, or rename one of the two",
				zap.String("messenger", name))
		}
	}
}

// Stopped is called when what start began was told to end.
func (a *Registry) Stopped() {
	a.started.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	written := make(chan struct{})
	go func() {
		defer cancel()
		a.Store.writeUses(ctx)
		close(written)
	}()
	select {
	case <-written:
	case <-ctx.Done(): // the storage may not heed it, and must not hold up a stop
	}
}

// Release gives back what the registry holds. It may be called more than once.
func (a *Registry) Release() {
	for _, m := range a.Messengers {
		m.cleanup()
	}
	a.Arrive()
	// Requests may still be under way, so that a.live stays where it is.
	if !a.released {
		a.released = true
		a.Store.detach(a)
		a.Store.release(a.storage)
	}
}

func (a *Registry) Names() []string {
	return slices.Sorted(maps.Keys(a.Messengers))
}
