// Package messenger is the Caddy app "messenger": the configured messengers and their trust settings, the store, and what
// belongs to a configuration as a whole, such as metrics and the end of connections after a reload and with the process. The handlers
// messenger_health and messenger_jwks are here as well.
//
// It does not know how requests are verified; the handlers of messenger_auth register themselves with AddRoute.
//
// Begin reading with [App.Provision] and [App.Start].
package messenger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// ActiveApp returns the app of the running configuration. Its errors are API errors.
func ActiveApp() (*App, error) {
	app, err := registry.ActiveApp()
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

func init() {
	caddy.RegisterModule(new(App))
}

// clientOf returns the address of the client whose request is being answered, or "".
func clientOf(ctx context.Context) string {
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	address, _ := vars[caddyhttp.ClientIPVarKey].(string)
	return address
}

// App has the messengers whose contacts messenger_auth verifies, with the keys and the claims that each of them trusts. It is
// configured by the global option "messenger" of the Caddyfile. The block without a name has the options for all messengers:
//
//	{
//		messenger support {
//			identity_key identity
//			public_key {file./etc/caddy/support.pem}
//			require_claims exp
//		}
//		messenger {
//			poll_interval 2s
//		}
//	}
//
// Texts of a messenger may contain Caddy's global placeholders, such as `{env.*}` and `{file.*}`. They are resolved when the
// configuration is loaded, and files that keys are in are read again every poll_interval.
type App struct {
	// The messengers by name. A name is 1 to 63 lower-case letters, digits, "_" and "-", beginning with a letter or
	// digit; the chat backend receives it with every contact.
	Messengers map[string]*config.Messenger `json:"messengers,omitempty"`

	// How often key files ({file.…}) are read again; a changed key is active from then on, without a reload. Pipes are read only
	// when the configuration is loaded. 0 means that all files are read only then. Default: 2s.
	PollInterval *caddy.Duration `json:"poll_interval,omitempty"`

	// How messengers and key rings that are managed at runtime are stored in Caddy's storage. Default: unsealed, and in the local
	// file system only.
	Store *Store `json:"store,omitempty"`

	// How long messengers go on with what they have read while the storage cannot be read, because a token may have been revoked
	// meanwhile on another node; after that they answer keys_unavailable. It needs a poll_interval other than 0. Default: without
	// limit.
	StoreMaxAge *caddy.Duration `json:"store_max_age,omitempty"`

	// Hosts (with or without a port) from which the key sets of stored messengers may be fetched although their addresses
	// are not public, or their port is not 443. Key sets of configured messengers need no entry. Default: none.
	JWKSInternalHosts []string `json:"jwks_internal_hosts,omitempty"`

	// Who signs assertions, the "iss" of what messenger_auth sends to backends with its option assertion: a URL of this gateway,
	// such as https://chat.example.com. Default: none, and then no assertion can be sent.
	AssertionIssuer string `json:"assertion_issuer,omitempty"`

	// How many verified tokens are cached, so that they are not verified again before they expire. The cache belongs to the
	// process and has the size of the configuration that was loaded last; it is emptied when the size changes. 0 turns it off.
	// Tokens take at most 640 bytes each on average; larger ones leave room for fewer. Default: 100000, which take about 20 MB
	// with usual identities, and 64 MiB at most.
	TokenCacheSize *int `json:"token_cache_size,omitempty"`

	registry *registry.Registry
	issuer   string             // AssertionIssuer, with its placeholders resolved
	running  context.Context    // of the goroutines of Start
	stop     context.CancelFunc // ends them

	activated sync.Once

	mu      sync.Mutex
	servers map[*caddyhttp.Server]bool // those of EndAtExit
	routes  []Route                    // the handlers that use this app, for explanations
	guarded upstream.NameSet           // the headers that any of them sets; complete before the first request
	algs    []string                   // with which any of them signs assertions
}

// Store configures how values are stored in Caddy's storage.
type Store struct {
	// Keys that seal all values (AES-256-GCM), each exactly one placeholder {file.…} or {env.…} for 32 bytes in base64. The
	// first one seals, each of them opens. With a key, values that are not sealed are refused; without one, the gateway writes
	// only to the local file system. Default: none.
	Keys []string `json:"keys,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "messenger",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision loads the keys of all messengers. It only reads, because caddy validate calls it as well.
func (a *App) Provision(ctx caddy.Context) error {
	files := make(config.LoadedFiles)
	keys, internalHosts, err := a.readSettings(files)
	if err != nil {
		return fmt.Errorf("messenger: %w", err)
	}
	if err := metrics.Register(ctx.GetMetricsRegistry(), processScrape); err != nil {
		return err
	}
	if a.registry, err = registry.NewRegistry(ctx, keys, internalHosts, clientOf); err != nil {
		return fmt.Errorf("messenger: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Messengers)) {
		m := a.Messengers[name]
		if err := config.CheckName(name); err != nil {
			return fmt.Errorf("messenger %q: the name %w", name, err)
		}
		if m == nil {
			return fmt.Errorf("messenger %s: has no settings; add identity_key and one of public_key, jwks and shared_token", name)
		}
		if err := a.registry.Add(name, m, files); err != nil {
			return fmt.Errorf("messenger %s: %w", name, err)
		}
	}
	if err := a.checkTimes(); err != nil {
		return fmt.Errorf("messenger: %w", err)
	}
	if err := a.registry.UseTokenCache(a.tokenCacheSize()); err != nil {
		return fmt.Errorf("messenger: %w", err)
	}
	a.registry.Load()
	return nil
}

// readSettings reads the settings that need files or the environment: the keys of the store, the internal hosts, and the issuer of
// assertions.
func (a *App) readSettings(files config.LoadedFiles) (keys [][]byte, internalHosts []string, err error) {
	if keys, err = a.storeKeys(files); err != nil {
		return nil, nil, err
	}
	if internalHosts, err = files.ResolveList(a.JWKSInternalHosts); err != nil {
		return nil, nil, fmt.Errorf("jwks_internal_hosts: %w", err)
	}
	if err := config.CheckList(internalHosts); err != nil {
		return nil, nil, fmt.Errorf("jwks_internal_hosts %w", err)
	}
	for _, host := range internalHosts {
		if !keyserver.IsHost(host) {
			return nil, nil, fmt.Errorf("jwks_internal_hosts %q is not a host, such as keys.internal or keys.internal:8443; write it without https:// and without a path or a wildcard", host)
		}
	}
	if a.issuer, err = files.Resolve(a.AssertionIssuer); err != nil {
		return nil, nil, fmt.Errorf("assertion_issuer: %w", err)
	}
	return keys, internalHosts, nil
}

// checkTimes returns what is wrong with the durations of the store.
func (a *App) checkTimes() error {
	poll, age := config.DurationOr(a.PollInterval, registry.DefaultPollInterval), config.DurationOr(a.StoreMaxAge, 0)
	switch {
	case poll < 0:
		return errors.New("poll_interval is negative; give a duration such as 2s, or 0 to read key files only at load")
	case config.CheckUnit(poll, "2s") != nil:
		return fmt.Errorf("poll_interval %w", config.CheckUnit(poll, "2s"))
	case age < 0:
		return errors.New("store_max_age is negative; give a duration such as 1h, or remove it")
	case config.CheckUnit(age, "1h") != nil:
		return fmt.Errorf("store_max_age %w", config.CheckUnit(age, "1h"))
	case age > 0 && poll == 0:
		return errors.New("store_max_age needs to know whether the storage can be read, and poll_interval 0 never asks; remove one of the two")
	}
	return nil
}

// storeKeys reads the keys of the store.
func (a *App) storeKeys(files config.LoadedFiles) (keys [][]byte, err error) {
	if a.Store == nil {
		return nil, nil
	}
	for _, value := range a.Store.Keys {
		ref, ok := config.ParseReference(value)
		if !ok {
			return nil, config.ErrLiteralStoreKey
		}
		found, err := files.Read(ref)
		if err != nil {
			return nil, fmt.Errorf("store: key %s: %w", value, err)
		}
		key, err := vault.ParseSealKey(found.Text)
		if err != nil {
			return nil, fmt.Errorf("store: key %s %w", value, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Start begins to fetch key sets, to watch key files, and to poll the store. If another app then fails to start, the configuration
// never runs; see activate.
func (a *App) Start() error {
	interval := config.DurationOr(a.PollInterval, registry.DefaultPollInterval)
	ctx, stop := context.WithCancel(context.Background())
	a.running, a.stop = ctx, stop
	if _, err := ActiveApp(); err != nil {
		a.activate() // no other configuration runs from which this could take something
	}
	a.warnAboutUnused() // all apps are provisioned before any of them starts: every handler is known
	a.registry.Start(ctx, interval)
	a.startAssertions(ctx)
	go a.endOrphans(ctx)
	if !a.hasServers() {
		go endAtExit(ctx)
	}
	return nil
}

// Stop ends what Start began, and writes once more when shared tokens were last used. If the process ends, servers may still answer for
// shutdown_delay and grace_period: what other nodes revoke is followed until Cleanup.
func (a *App) Stop() error {
	if caddy.Exiting() {
		a.registry.WriteUses()
		if !a.hasServers() {
			waitForShutdown(beginShutdown())
		}
		return nil
	}
	a.stop()
	a.handOver()
	a.registry.WriteUses()
	return nil
}

// Cleanup releases what Provision acquired.
func (a *App) Cleanup() error {
	if a.stop != nil {
		a.stop()
	}
	if a.registry != nil {
		a.registry.Release()
	}
	return nil
}

// Registry returns the running messengers.
func (a *App) Registry() *registry.Registry { return a.registry }

// A Route is a handler that uses the app. The app knows nothing else about it, and stores it for explanations.
type Route = interface {
	caddyhttp.MiddlewareHandler
	MayServe(messenger string) bool // whether requests for the messenger of that name can reach it
}

// AddRoute registers r and the names of the headers that it sets. It returns the names of all routes,
// complete before the first request. Each route also removes the headers of the others, because a backend of two routes cannot tell
// by which one a request came.
func (a *App) AddRoute(r Route, headers *upstream.NameSet) (all *upstream.NameSet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.routes = append(a.routes, r)
	a.guarded.AddAll(headers)
	return &a.guarded
}

// Routes returns the handlers that use this app.
func (a *App) Routes() []Route {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.routes)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)

func (a *App) tokenCacheSize() int {
	if a.TokenCacheSize == nil {
		return registry.DefaultTokenCacheSize
	}
	return *a.TokenCacheSize
}
