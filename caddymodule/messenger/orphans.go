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

// handOverTime is how long a configuration takes at most, while another one is being stopped, to end connections that it does not allow.
// It goes on with the rest afterwards.
const handOverTime = time.Second

// activate is called when the configuration of a runs. A configuration that fails to load, also after it was started, changes and ends
// nothing of the one that goes on.
func (a *App) activate() {
	a.activated.Do(func() {
		registry.VerifiedTokens.Resize(a.tokenCacheSize())
		a.registry.UseMaxAge(config.DurationOr(a.StoreMaxAge, 0))
		a.registry.Activate(a.running)
	})
}

// endOrphans waits until a is the active app, and ends the connections of messengers that an earlier configuration had and
// this one does not have, and those that are revoked in this one's store.
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

// endOrphansOf is endOrphans for the connections under some names, and returns those of which it is not known what is allowed.
func (a *App) endOrphansOf(ctx context.Context, names []string) (undecided []string) {
	return slices.DeleteFunc(names, func(name string) bool { return a.registry.EndOrphansOf(ctx, name) })
}

// handOver is called when a stops. Of what it had opened, the configuration that runs now ends what it does not allow: the next one, or
// the one before if a has failed to load. That comes before any other reload, which may bring a messenger of the same name.
func (a *App) handOver() {
	a.registry.EndLoading()
	next, err := ActiveApp()
	goesOn := err == nil && next != a
	if goesOn {
		next.activate() // before a is inactive: in between, every configured messenger would be taken for one that is gone
	}
	a.registry.Stopped()
	names := slices.Collect(maps.Keys(registry.Connections.Open()))
	switch {
	case goesOn:
		next.registry.EndLoading()
		limited, cancel := context.WithTimeout(context.Background(), handOverTime)
		defer cancel()
		next.endOrphansOf(limited, names)
	case err != nil && caddy.ActiveContext().Context != nil: // a configuration without this app; without any, Caddy has stopped what it had
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
