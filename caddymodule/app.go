// Package caddymodule holds the Caddy modules of the gateway: the app "messenger" with the messengers' trust settings,
// the handler "http.handlers.messenger_auth" that verifies contacts, and what operators use around them.
package caddymodule

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
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
	// reload. 0 reads them only when the configuration is loaded. Default: 2s.
	PollInterval *caddy.Duration `json:"poll_interval,omitempty"`

	logger  *zap.Logger
	metrics *metrics
	done    <-chan struct{}

	mu       sync.Mutex
	handlers []*Handler // those that use this app, for explanations
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
	a.logger = ctx.Logger()
	a.done = ctx.Done()
	var err error
	if a.metrics, err = registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for _, name := range a.names() {
		m := a.Messengers[name]
		if err := checkMessengerName(name); err != nil {
			return fmt.Errorf("messenger %q: the name %w", name, err)
		}
		if m == nil {
			return fmt.Errorf("messenger %s: has no settings; identity_key and one of public_key, jwks and shared_token are needed", name)
		}
		if err := m.provision(name, a.logger); err != nil {
			return fmt.Errorf("messenger %s: %w", name, err)
		}
	}
	if d := a.PollInterval; d != nil && *d < 0 {
		return fmt.Errorf("messenger: poll_interval is negative; give a duration such as 2s, or 0 to read key files only at load")
	}
	a.warn()
	return nil
}

// warn names settings that work and are probably not meant.
func (a *App) warn() {
	names := a.names()
	for i, name := range names {
		m := a.Messengers[name]
		if !m.needsExpiry() {
			a.logger.Warn("this messenger accepts tokens that never expire; add \"require_claims exp\" or \"max_lifetime\"",
				zap.String("messenger", name))
		}
		if m.JWKS != nil && len(m.Issuer) == 0 && len(m.Audience) == 0 {
			a.logger.Warn("this messenger accepts every token that the key server's keys sign, for whatever it was made; add \"audience\" or \"issuer\"",
				zap.String("messenger", name))
		}
		for _, other := range names[i+1:] {
			if m.acceptsTokensOf(a.Messengers[other]) {
				a.logger.Warn("two messengers trust the same key, so that a token for one can be good for the other; give each an \"audience\" of its own, or a key of its own",
					zap.Strings("messengers", []string{name, other}))
			}
		}
	}
}

// Start begins to fetch key sets and to watch key files.
func (a *App) Start() error {
	interval := defaultPollInterval
	if a.PollInterval != nil {
		interval = time.Duration(*a.PollInterval)
	}
	var watched []*Messenger
	for _, name := range a.names() {
		m := a.Messengers[name]
		if m.jwks != nil {
			m.jwks.Start()
		}
		if m.hasKeyFiles() {
			watched = append(watched, m)
		}
	}
	go a.endOrphans()
	if interval > 0 && len(watched) > 0 {
		go watchKeyFiles(watched, interval, a.done)
	}
	return nil
}

// Stop does nothing: what Start began ends with the context of the configuration.
func (*App) Stop() error { return nil }

// Cleanup gives back what Provision took.
func (a *App) Cleanup() error {
	for _, m := range a.Messengers {
		if m != nil {
			m.cleanup()
		}
	}
	return nil
}

func (a *App) names() []string {
	return slices.Sorted(maps.Keys(a.Messengers))
}

// addHandler makes h known, so that explanations can say what it would tell the upstream.
func (a *App) addHandler(h *Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handlers = append(a.handlers, h)
}

// messenger returns the messenger of that name, or says that there is none.
func (a *App) messenger(name string) (*Messenger, *authn.Rejection) {
	if m := a.Messengers[name]; m != nil {
		return m, nil
	}
	return nil, &authn.Rejection{Code: authn.MessengerUnknown, Reason: "no messenger of this name is configured"}
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
