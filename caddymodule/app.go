// Package caddymodule holds the Caddy modules of the gateway: the app "messenger" with the messengers' trust settings,
// the handler "http.handlers.messenger_auth" that verifies contacts, and what operators use around them.
package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

func init() {
	caddy.RegisterModule(new(App))
}

// defaultPollInterval is how often key files are read again unless poll_interval says otherwise.
const defaultPollInterval = 2 * time.Second

// App holds the messengers whose contacts messenger_auth verifies, with the keys and the claims that each of them
// trusts. It is configured by the global option "messenger" of the Caddyfile.
type App struct {
	// The messengers by name. A name is 1 to 63 lower-case letters, digits, "_" and "-", beginning with a letter or
	// digit; the chat backend receives it with every contact.
	Messengers map[string]*Messenger `json:"messengers,omitempty"`

	// How often files that are named with {file.…} are read again; a changed key is in force from then on, without a
	// reload. Pipes are read only when the configuration is loaded, and with 0 all files are. Default: 2s.
	PollInterval *caddy.Duration `json:"poll_interval,omitempty"`

	// How messengers and key rings that change while the gateway runs are kept in Caddy's storage. Default: unsealed, and
	// in the local file system only.
	Store *Store `json:"store,omitempty"`

	// Hosts (with or without a port) from which the key sets of stored messengers may be fetched although their addresses
	// are not public, or their port is not 443. Key sets of configured messengers need no entry. Default: none.
	JWKSInternalHosts []string `json:"jwks_internal_hosts,omitempty"`

	// How many verified tokens are remembered, so that none of them is verified again before it ends. It is one number
	// for the process: that of the configuration that was loaded last; where it changes, all are forgotten once. 0
	// remembers none. They take at most 640 bytes each on average; larger ones leave room for fewer. Default: 100000,
	// which take about 20 MB with usual identities, and 64 MiB at most.
	TokenCacheSize *int `json:"token_cache_size,omitempty"`

	logger   *zap.Logger
	refusals *zap.Logger // sampled: clients can cause its lines at will
	metrics  *metrics
	storage  certmagic.Storage
	live     *live
	files    loadedFiles // while the configuration is loaded
	released bool
	started  atomic.Bool
	stop     context.CancelFunc // ends what Start began
	verified *authn.Cache       // nil if the cache is off

	mu       sync.Mutex
	handlers []*Handler // those that use this app
	guarded  []string   // the headers that any of them sets, folded; complete before the first request
}

// Store says how values are kept in Caddy's storage.
type Store struct {
	// Keys that seal all values (AES-256-GCM), each exactly one placeholder {file.…} or {env.…} that holds 32 bytes in
	// base64. The first seals, all open. With a key, values that are not sealed are refused; without one, only the local
	// file system is written to. Default: none.
	Keys []string `json:"keys,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "messenger",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision loads the keys of all messengers. It reads what the configuration names, and changes nothing anywhere.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = printableLogger(ctx.Logger())
	a.refusals = sampled(a.logger)
	a.files = make(loadedFiles)
	defer func() { a.files = nil }() // there are secrets among them
	var err error
	if a.metrics, err = registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := a.openStore(ctx.Storage()); err != nil {
		return fmt.Errorf("messenger: %w", err)
	}
	for _, name := range a.names() {
		m := a.Messengers[name]
		if err := checkMessengerName(name); err != nil {
			return fmt.Errorf("messenger %q: the name %w", name, err)
		}
		if m == nil {
			return fmt.Errorf("messenger %s: has no settings; identity_key and one of public_key, jwks and shared_token are needed", name)
		}
		m.files = a.files
		err := m.provision(name, a.logger, a.live)
		m.files = nil
		if err != nil {
			return fmt.Errorf("messenger %s: %w", name, err)
		}
		m.takeMeter()
	}
	if d := a.PollInterval; d != nil && *d < 0 {
		return fmt.Errorf("messenger: poll_interval is negative; give a duration such as 2s, or 0 to read key files only at load")
	}
	a.live.attach(a)
	if err := a.provisionTokenCache(); err != nil {
		return err
	}
	a.announce()
	a.warn()
	return nil
}

// openStore reads the store's keys and takes the store out of the pool.
func (a *App) openStore(storage certmagic.Storage) error {
	var keys [][]byte
	if a.Store != nil {
		for _, value := range a.Store.Keys {
			ref, ok := parseReference(value)
			if !ok {
				return errLiteralStoreKey
			}
			found, err := a.files.read(ref)
			if err != nil {
				return fmt.Errorf("store: key %s: %w", value, err)
			}
			key, err := parseSealKey(found.text)
			if err != nil {
				return fmt.Errorf("store: key %s %w", value, err)
			}
			keys = append(keys, key)
		}
	}
	if err := checkList(a.JWKSInternalHosts); err != nil {
		return fmt.Errorf("jwks_internal_hosts %w", err)
	}
	l, err := acquireLive(storage, keys, a.JWKSInternalHosts)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	a.live, a.storage = l, storage
	return nil
}

// errLiteralStoreKey does not quote the value, which may be the key.
var errLiteralStoreKey = errors.New("store: a key must be exactly one placeholder {file./path} or {env.NAME} that holds 32 bytes in base64; " +
	"a secret does not belong into the configuration (was {$NAME} written? It puts the value there: write {env.NAME})")

// warn names settings that work and are probably not meant.
func (a *App) warn() {
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

// Start begins to fetch key sets, to watch key files, and to follow the store.
func (a *App) Start() error {
	verifiedTokens.Resize(a.tokenCacheSize())
	interval := defaultPollInterval
	if a.PollInterval != nil {
		interval = time.Duration(*a.PollInterval)
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	for _, name := range a.names() {
		m := a.Messengers[name]
		if m.jwks != nil {
			m.jwks.Start()
		}
		if interval > 0 {
			m.watchKeyFiles(ctx, interval)
		}
	}
	a.warnAboutUnused() // all apps are provisioned before any of them starts: every handler is known
	a.started.Store(true)
	go a.endOrphans(ctx)
	go a.warnAboutStored(ctx)
	go a.live.keepUses(ctx)
	if interval > 0 {
		go a.live.keepUpToDate(ctx, interval)
	} else {
		go a.live.catchUp(ctx)
	}
	return nil
}

// warnAboutStored names what is in the store and has no effect.
func (a *App) warnAboutStored(ctx context.Context) {
	for _, name := range a.names() {
		if r, err := a.live.read(ctx, name, kindStored); err == nil && r != nil {
			a.auditWarning("a stored messenger is ignored, because the configuration has one of the same name; delete it, or rename one of the two",
				zap.String("messenger", name))
		}
	}
}

// Stop ends what Start began. When a key was last used is written once more.
func (a *App) Stop() error {
	a.stop()
	a.started.Store(false)
	a.endDropped()
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
	return nil
}

// Cleanup gives back what Provision took.
func (a *App) Cleanup() error {
	for _, m := range a.Messengers {
		if m != nil {
			m.cleanup()
		}
	}
	a.arrive()
	// Requests may still be under way, so that a.live stays where it is.
	if a.live != nil && !a.released {
		a.released = true
		a.live.detach(a)
		a.live.release(a.storage)
	}
	return nil
}

func (a *App) names() []string {
	return slices.Sorted(maps.Keys(a.Messengers))
}

// addHandler makes h known: to explanations, which say what it would tell the upstream, and to the other handlers, which keep
// its headers from clients too. A backend behind two of them cannot tell by which one a request came.
func (a *App) addHandler(h *Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handlers = append(a.handlers, h)
	for _, name := range h.headers.folded {
		if !slices.Contains(a.guarded, name) {
			a.guarded = append(a.guarded, name)
		}
	}
	h.headers.others = &a.guarded
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
