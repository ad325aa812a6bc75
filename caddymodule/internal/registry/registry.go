// Package registry knows which messengers there are right now: those of a configuration, and those that operators have stored.
// It keeps their verifiers up to date, from key files, key servers and the store; it knows what is revoked, and ends the
// connections whose token or messenger is not valid any more.
//
// It does not know requests and responses (auth), what operators may do (admin), or how Caddyfiles are written (config). What the
// facts in the store mean is ledger's concern, and how they get there is vault's.
//
// Begin reading with [Registry] and [Store]. How a change reaches the verifiers of this node and of others:
//
//   - change.go, settingschange.go and revoke.go make facts of what operators and contacts do, and write them; package
//     change decides whether a change is the one that counts
//   - vault.Writer writes them, and calls wrote in apply.go, which makes them active on this node
//   - vault.Follower on another node notices them; poll and follow in follow.go read them, and apply makes them active there,
//     usually within poll_interval. Changed shared tokens become active with a new verifier: replace and trust in source.go for a
//     configured messenger, newStored in messenger.go for a stored one
//   - a request for a messenger that is not in memory reads all of its facts: find in lookup.go
package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/lastuse"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printlog"
)

// DefaultPollInterval is how often key files and the store are read again, unless poll_interval is set.
const DefaultPollInterval = 2 * time.Second

// A Registry has the messengers of one configuration, and the stored ones of its store, which it shares with other
// configurations.
type Registry struct {
	Messengers map[string]*Messenger // the configured ones, by name; it does not change once the configuration runs

	Logger   *zap.Logger
	refusals *zap.Logger // sampled: clients can cause its lines at will
	warned   sync.Map    // what AuditWarning has logged
	Metrics  *metrics.Collectors
	Storage  certmagic.Storage // that the configuration names
	Store    *Store
	verified *authn.Cache  // nil if the cache is off
	started  atomic.Bool   // the app was started; another one may fail after that
	active   atomic.Bool   // the configuration is the running one
	changed  []keysets.Key // key sets that have changed before that; guarded by Store.mu
	released bool
}

// NewRegistry makes the registry of a configuration. The caller calls Release. clientOf returns the address of the client whose request
// a context is of, or "": look-ups let clients take turns.
func NewRegistry(ctx caddy.Context, storeKeys [][]byte, internalHosts []string, clientOf func(context.Context) string) (*Registry, error) {
	s, err := openStore(ctx.Storage(), storeKeys, internalHosts, clientOf)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return registryOn(s, ctx.Storage(), printlog.New(ctx.Logger())), nil
}

// registryOn makes a registry without configured messengers.
func registryOn(s *Store, storage certmagic.Storage, logger *zap.Logger) *Registry {
	return &Registry{
		Messengers: make(map[string]*Messenger),
		Logger:     logger,
		refusals:   printlog.Sampled(logger),
		Metrics:    metrics.Process,
		Storage:    storage,
		Store:      s,
	}
}

// Add makes a configured messenger from its settings. files has what was read for this configuration.
func (reg *Registry) Add(name string, settings *config.Messenger, files config.LoadedFiles) error {
	m := &Messenger{Messenger: settings}
	reg.Messengers[name] = m // before provision: Release must clean up a messenger that failed half-way, too
	if err := m.provision(name, reg.Logger, reg.Store, files); err != nil {
		return err
	}
	m.acquireMeter()
	return nil
}

// Load reads the records of the configured messengers from the store, and warns about settings.
func (reg *Registry) Load() {
	reg.Store.attach(reg)
	reg.beginLoading()
	reg.warn()
}

// warn logs settings that are valid but probably not intended.
func (reg *Registry) warn() {
	names := reg.Names()
	for i, name := range names {
		m := reg.Messengers[name]
		for _, warning := range m.Warnings() {
			reg.AuditWarning(warning, zap.String("messenger", name))
		}
		if m.IsGenerated() && reg.Store.hasEmptyRing(name) {
			reg.AuditWarning("no shared token was generated yet, so that no token can be verified (keys_unavailable); make one with: caddy messenger tokens generate "+name,
				zap.String("messenger", name))
		}
		for _, other := range names[i+1:] {
			if m.acceptsTokensOf(reg.Messengers[other]) {
				reg.AuditWarning("two messengers trust the same key, so that a token for one can be valid for the other; give each an \"audience\" of its own, or a key of its own",
					zap.Strings("messengers", []string{name, other}))
			}
		}
	}
}

// Start begins to fetch key sets, to watch key files, and to poll the store. Its goroutines end when ctx does.
func (reg *Registry) Start(ctx context.Context, interval time.Duration) {
	reg.started.Store(true) // before a key set is fetched, of which a gateway that does not serve keeps no copy
	for _, name := range reg.Names() {
		m := reg.Messengers[name]
		m.start()
		if interval > 0 {
			m.watch(ctx, interval)
		}
	}
	go every(ctx, lastuse.Interval, func() { reg.Store.keepUses(ctx) })
	go every(ctx, time.Minute, func() { reg.Store.Tickets.Tidy(ctx, Now()) }) // forgets old ones
	if interval > 0 {
		go reg.Store.keepUpToDate(ctx, interval)
		go every(ctx, time.Minute, func() { reg.Store.sweep(ctx) })
	} else {
		go reg.Store.catchUp(ctx)
	}
}

// warnAboutStored logs stored messengers without effect, because the configuration has their names.
func (reg *Registry) warnAboutStored(ctx context.Context) {
	for _, name := range reg.Names() {
		if r, err := reg.Record(ctx, name, ledger.KindStored); err == nil && r != nil {
			reg.AuditWarning("a stored messenger is ignored, because the configuration has one of the same name; delete it, or rename one of the two",
				zap.String("messenger", name))
		}
	}
}

// Activate is called when the configuration of reg runs. Until then it changes nothing of what another one serves: that it was started
// does not mean that it ever will.
func (reg *Registry) Activate(ctx context.Context) {
	reg.Store.mu.Lock()
	reg.active.Store(true)
	changed := reg.changed
	reg.changed = nil
	reg.Store.mu.Unlock()
	for _, key := range changed {
		reg.Store.KeySetChanged(key)
	}
	go reg.warnAboutStored(ctx) // it reads stored messengers, and ends connections under the names of those that are gone
}

// Stopped is called after the context of Start was cancelled, if the process goes on.
func (reg *Registry) Stopped() {
	reg.started.Store(false)
	reg.active.Store(false)
}

// WriteUses writes when tokens were last used, within a bounded time.
func (reg *Registry) WriteUses() {
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	written := make(chan struct{})
	go func() {
		defer cancel()
		reg.Store.writeUses(ctx)
		close(written)
	}()
	select {
	case <-written:
	case <-ctx.Done(): // a storage that ignores ctx must not delay the stop
	}
}

// Release releases everything that the registry has acquired. It may be called more than once.
func (reg *Registry) Release() {
	for _, m := range reg.Messengers {
		m.cleanup()
	}
	reg.EndLoading()
	// The fields stay set, because requests may still be in progress.
	if !reg.released {
		reg.released = true
		reg.Store.detach(reg)
		reg.Store.release(reg.Storage)
	}
}

// Names returns the names of the configured messengers, sorted.
func (reg *Registry) Names() []string {
	return slices.Sorted(maps.Keys(reg.Messengers))
}
