package messenger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// endOrphans waits until a is the active app, and ends the connections of messengers that an earlier configuration had and
// this one does not have, and those that are revoked in this one's store. A configuration that fails to load ends nothing.
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
	a.registry.EndLoading()
	undecided := slices.Collect(maps.Keys(registry.Connections.Open()))
	for {
		undecided = slices.DeleteFunc(undecided, func(name string) bool { return a.registry.EndOrphansOf(ctx, name) })
		if len(undecided) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(registry.DefaultPollInterval):
		}
	}
}

// endDropped is called when a stops. If the configuration that replaced it has no messengers at all, no other app would end the
// connections.
func (a *App) endDropped() {
	a.registry.EndLoading()
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return // no configuration runs any more, and Caddy has stopped what it had
	}
	if _, err := ctx.AppIfConfigured("messenger"); errors.Is(err, caddy.ErrNotConfigured) {
		for name := range registry.Connections.Open() {
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
