package caddymodule

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

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A registry knows which messengers there are right now: those of one configuration, and the stored ones of its store,
// which it shares with other configurations.
type registry struct {
	Messengers map[string]*messenger // the configured ones, by name; it does not change once the configuration runs

	logger   *zap.Logger
	refusals *zap.Logger // sampled: clients can cause its lines at will
	metrics  *metrics
	storage  certmagic.Storage
	live     *live
	verified *authn.Cache // nil if the cache is off
	started  atomic.Bool
	released bool
}

// newRegistry makes the registry of a configuration. The caller releases it.
func newRegistry(ctx caddy.Context, storeKeys [][]byte, internalHosts []string) (*registry, error) {
	l, err := acquireLive(ctx.Storage(), storeKeys, internalHosts)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return registryOn(l, ctx.Storage(), printableLogger(ctx.Logger())), nil
}

// registryOn makes a registry without configured messengers.
func registryOn(l *live, storage certmagic.Storage, logger *zap.Logger) *registry {
	return &registry{
		Messengers: make(map[string]*messenger),
		logger:     logger,
		refusals:   sampled(logger),
		metrics:    processMetrics,
		storage:    storage,
		live:       l,
	}
}

// add makes a configured messenger out of its settings. files are those that were read for this configuration.
func (a *registry) add(name string, settings *Messenger, files loadedFiles) error {
	m := &messenger{Messenger: settings, files: files}
	defer func() { m.files = nil }() // there are secrets among them
	a.Messengers[name] = m           // also if it fails half-way: release gives back what it took
	if err := m.provision(name, a.logger, a.live); err != nil {
		return err
	}
	m.takeMeter()
	return nil
}

// load reads what the store has of the configured messengers, and warns about settings.
func (a *registry) load() {
	a.live.attach(a)
	a.announce()
	a.warn()
}

// warn names settings that work and are probably not meant.
func (a *registry) warn() {
	names := a.names()
	for i, name := range names {
		m := a.Messengers[name]
		for _, warning := range m.warnings() {
			a.auditWarning(warning, zap.String("messenger", name))
		}
		if m.isGenerated() && a.live.hasEmptyRing(name) {
			a.auditWarning("no shared token was generated yet, and requests are answered with keys_unavailable; make one with: caddy messenger tokens generate "+name,
				zap.String("messenger", name))
		}
		for _, other := range names[i+1:] {
			if m.acceptsTokensOf(a.Messengers[other]) {
				a.auditWarning("two messengers trust the same key, so that a token for one can be good for the other; give each an \"audience\" of its own, or a key of its own",
					zap.Strings("messengers", []string{name, other}))
			}
		}
	}
}

// start begins to fetch key sets, to watch key files, and to follow the store. What it begins ends with ctx.
func (a *registry) start(ctx context.Context, interval time.Duration) {
	for _, name := range a.names() {
		m := a.Messengers[name]
		if m.jwks != nil {
			m.jwks.Start()
		}
		if interval > 0 {
			m.watchKeyFiles(ctx, interval)
		}
	}
	a.started.Store(true)
	go a.warnAboutStored(ctx)
	go a.live.keepUses(ctx)
	if interval > 0 {
		go a.live.keepUpToDate(ctx, interval)
	} else {
		go a.live.catchUp(ctx)
	}
}

// warnAboutStored names what is in the store and has no effect.
func (a *registry) warnAboutStored(ctx context.Context) {
	for _, name := range a.names() {
		if r, err := a.live.read(ctx, name, kindStored); err == nil && r != nil {
			a.auditWarning("a stored messenger is ignored, because the configuration has one of the same name; delete it, or rename one of the two",
				zap.String("messenger", name))
		}
	}
}

// stopped is called when what start began was told to end.
func (a *registry) stopped() {
	a.started.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	written := make(chan struct{})
	go func() {
		defer cancel()
		a.live.writeUses(ctx)
		close(written)
	}()
	select {
	case <-written:
	case <-ctx.Done(): // the storage may not heed it, and must not hold up a stop
	}
}

// release gives back what the registry holds. It may be called more than once.
func (a *registry) release() {
	for _, m := range a.Messengers {
		m.cleanup()
	}
	a.arrive()
	// Requests may still be under way, so that a.live stays where it is.
	if !a.released {
		a.released = true
		a.live.detach(a)
		a.live.release(a.storage)
	}
}

func (a *registry) names() []string {
	return slices.Sorted(maps.Keys(a.Messengers))
}
