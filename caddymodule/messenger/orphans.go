package messenger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// endOrphans waits until a is in force, and ends the connections of messengers that an earlier configuration had and
// this one has not, and those that this one's store has ended. A configuration that fails to load ends nothing.
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
	a.registry.Arrive()
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

// endDropped is called when a stops. If the configuration that took its place has no messengers at all, there is no other
// app that would end the connections.
func (a *App) endDropped() {
	a.registry.Arrive()
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return // the process ends, and reverse_proxy says so to its connections
	}
	if _, err := ctx.AppIfConfigured("messenger"); errors.Is(err, caddy.ErrNotConfigured) {
		for name := range registry.Connections.Open() {
			registry.EndAll(name, a.registry.Logger)
		}
	}
}
