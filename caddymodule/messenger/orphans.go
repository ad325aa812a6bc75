package messenger

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// handOverTime bounds how long stopping a configuration waits while the active one ends connections. endOrphans ends the others later.
const handOverTime = time.Second

// activate is called when the configuration of a is active, and not when it is started: a configuration can fail to load after its apps
// were started, and must not change the active one.
func (a *App) activate() {
	a.activated.Do(func() {
		registry.VerifiedTokens.Resize(a.tokenCacheSize())
		a.registry.UseMaxAge(config.DurationOr(a.StoreMaxAge, 0))
		a.registry.Activate(a.running)
	})
}

// endOrphans waits until a is the active app, and ends the connections of messengers that only an earlier configuration has, and those
// whose tokens are revoked in the store of a.
func (a *App) endOrphans(ctx context.Context) {
	ticker := time.NewTicker(registry.OrphanInterval)
	defer ticker.Stop()
	for app := (*App)(nil); app != a; app, _ = ActiveApp() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	a.activate()
	a.registry.EndLoading()
	for undecided := a.endOrphansOf(ctx, slices.Collect(maps.Keys(registry.Connections.Open()))); len(undecided) > 0; undecided = a.endOrphansOf(ctx, undecided) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(registry.DefaultPollInterval):
		}
	}
}

// endOrphansOf is endOrphans for the messengers of these names. It returns the names that could not be decided, because the store cannot be
// read.
func (a *App) endOrphansOf(ctx context.Context, names []string) (undecided []string) {
	return slices.DeleteFunc(names, func(name string) bool { return a.registry.EndOrphansOf(ctx, name) })
}

// handOver is called when a stops. The active configuration, which is the next one, or the previous one if a has failed to load, ends the
// connections that it does not allow. This must happen before another reload adds a messenger of the same name.
func (a *App) handOver() {
	a.registry.EndLoading()
	next, err := ActiveApp()
	hasNext := err == nil && next != a
	if hasNext {
		next.activate() // before Stopped: otherwise every configured messenger would count as removed in between
	}
	a.registry.Stopped()
	names := slices.Collect(maps.Keys(registry.Connections.Open()))
	switch {
	case hasNext:
		next.registry.EndLoading()
		limited, cancel := context.WithTimeout(context.Background(), handOverTime)
		defer cancel()
		next.endOrphansOf(limited, names)
	case err != nil && caddy.ActiveContext().Context != nil: // a configuration without this app; without any, Caddy has stopped everything
		for _, name := range names {
			registry.EndAll(name, a.registry.Logger)
		}
	}
}

// warnAboutUnused warns about configured messengers that no messenger_auth can choose. The directive may be missing or name
// another messenger, and then a chat backend may be open. All handlers must be registered before.
func (a *App) warnAboutUnused() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.registry.Names() {
		if !slices.ContainsFunc(a.routes, func(r Route) bool { return r.MayServe(name) }) {
			a.registry.AuditWarning("no messenger_auth uses this messenger, so that nothing verifies its contacts; write messenger_auth "+name+" in front of its chat backend, or remove the messenger",
				zap.String("messenger", name))
		}
	}
}
