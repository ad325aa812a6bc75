package caddymodule

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// connections are the guarded connections of the process. They outlive the configuration that opened them, with
// stream_close_delay and while an old configuration ends, and so belong to none. An empty tracker runs nothing.
var connections = session.NewTracker()

// endConnections ends the open connections that filter means, and returns how many these are. It does not wait until the
// last client has been told. A filter without a messenger is an error.
func endConnections(filter session.Filter, ending session.Ending) (int, error) {
	return connections.End(filter, ending)
}

// connectionStats returns the counts of open connections by messenger.
func connectionStats() map[string]session.Stats { return connections.Stats() }

// endAll ends the connections of a messenger that is gone, and returns how many these are.
func endAll(name string, logger *zap.Logger) int {
	n, err := endConnections(session.Filter{Messenger: name}, session.Revoked)
	if err == nil && n > 0 {
		logger.Info("connections ended, because their messenger is gone", zap.String("messenger", name), zap.Int("connections", n))
	}
	return n
}

// endWithoutKeys ends the connections of m whose tokens were signed by a key that is not active. It is called where the key
// set at a URL has changed, or is distrusted.
func (m *messenger) endWithoutKeys() {
	m.logWithdrawn(connections.EndWithoutKeys(m.name, m.verifier.Load().Active(), session.Revoked))
}

// endWithdrawn ends the connections that have lost what they rest on; see withdrew. It returns how many these are.
func (m *messenger) endWithdrawn() int {
	active := m.verifier.Load().Active()
	n := connections.EndWhere(m.name, func(s session.Subject) bool { return m.withdrew(s, active) }, session.Revoked)
	m.logWithdrawn(n)
	return n
}

func (m *messenger) logWithdrawn(n int) {
	if n > 0 {
		m.logger.Info("connections ended, because the key of their tokens was withdrawn", zap.Int("connections", n))
	}
}

// endRevoked ends the connections whose tokens were taken back by these rules, and returns how many these are.
func (m *messenger) endRevoked(rules []authn.Revocation) int {
	if len(rules) == 0 || connections.Open()[m.name] == 0 {
		return 0
	}
	index := authn.NewRevocations(rules)
	revoked := func(s session.Subject) bool { return index.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued) }
	n := connections.EndWhere(m.name, revoked, session.Revoked)
	if n > 0 {
		m.logger.Info("connections ended, because their tokens were revoked", zap.Int("connections", n))
	}
	return n
}

// keySetChanged is told of every change of a key set from a URL, and passes it on to the messengers that use it now.
func (l *live) keySetChanged(key engineKey) {
	l.mu.Lock()
	var using []*messenger
	for _, a := range l.apps {
		if a.started.Load() {
			for _, m := range a.Messengers {
				using = append(using, m)
			}
		}
	}
	l.mu.Unlock()
	for _, m := range append(using, l.messengers()...) {
		if m.engine == key && !(m.stored && l.isConfigured(m.name)) {
			m.endWithoutKeys()
		}
	}
}

// endOrphans waits until a is in force, and ends the connections of messengers that an earlier configuration had and
// this one has not, and those that this one's store has ended. A configuration that fails to load ends nothing.
func (a *App) endOrphans(ctx context.Context) {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	for app := (*App)(nil); app != a; app, _ = activeApp() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	a.registry.arrive()
	undecided := slices.Collect(maps.Keys(connections.Open()))
	for {
		undecided = slices.DeleteFunc(undecided, func(name string) bool { return a.registry.endOrphansOf(ctx, name) })
		if len(undecided) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(defaultPollInterval):
		}
	}
}

// endOrphansOf reports false if nobody can say at the moment whether the messenger is there.
func (a *registry) endOrphansOf(ctx context.Context, name string) bool {
	switch m, rej := a.pinnedMessenger(ctx, name); {
	case rej == nil:
		if !m.revoked.Unknown() {
			revoked := func(s session.Subject) bool { return m.revoked.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued) }
			_ = connections.EndWhere(name, revoked, session.Revoked)
		}
		m.endWithdrawn()
	case rej.Code == authn.MessengerUnknown:
		endAll(name, a.logger)
	default:
		return false
	}
	return true
}

// endDropped is called when a stops. If the configuration that took its place has no messengers at all, there is no other
// app that would end the connections.
func (a *App) endDropped() {
	a.registry.arrive()
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return // the process ends, and reverse_proxy says so to its connections
	}
	if _, err := ctx.AppIfConfigured("messenger"); errors.Is(err, caddy.ErrNotConfigured) {
		for name := range connections.Open() {
			endAll(name, a.registry.logger)
		}
	}
}

// orphanInterval is how often endOrphans looks whether its configuration is in force: Caddy tells nobody.
const orphanInterval = 50 * time.Millisecond
