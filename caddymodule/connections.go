package caddymodule

import (
	"context"
	"time"

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

// endAll ends the connections of a messenger that is gone.
func endAll(name string, logger *zap.Logger) {
	if n, err := endConnections(session.Filter{Messenger: name}, session.Revoked); err == nil && n > 0 {
		logger.Info("connections ended, because their messenger is gone", zap.String("messenger", name), zap.Int("connections", n))
	}
}

// endWithdrawn ends the connections of m whose tokens were signed by a key that verifies nothing any more.
//
// It is called where somebody has taken a key back: out of the key set at a URL, or a shared token with the request to
// close. A key that is merely replaced, in its file or by rotation, ends no chat: connections keep to the end that their
// token had when they were opened.
func (m *Messenger) endWithdrawn() {
	if n := connections.EndWithoutKeys(m.name, m.verifier.Load().Active(), session.Revoked); n > 0 {
		m.logger.Info("connections ended, because the key of their tokens was withdrawn", zap.Int("connections", n))
	}
}

// endRevoked ends the connections whose tokens were taken back by these rules.
func (m *Messenger) endRevoked(rules []authn.Revocation) {
	if len(rules) == 0 || connections.Open()[m.name] == 0 {
		return
	}
	index := authn.NewRevocations(rules)
	revoked := func(s session.Subject) bool { return index.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued) }
	if n := connections.EndWhere(m.name, revoked, session.Revoked); n > 0 {
		m.logger.Info("connections ended, because their tokens were revoked", zap.Int("connections", n))
	}
}

// keySetChanged is told of every change of a key set from a URL, and passes it on to the messengers that use it now.
func (l *live) keySetChanged(key engineKey) {
	l.mu.Lock()
	var using []*Messenger
	for _, a := range l.apps {
		if a.started.Load() {
			for _, m := range a.Messengers {
				using = append(using, m)
			}
		}
	}
	l.mu.Unlock()
	for e := range l.stored.Values() {
		if e.messenger != nil {
			using = append(using, e.messenger)
		}
	}
	for _, m := range using {
		if m.engine == key {
			m.endWithdrawn()
		}
	}
}

// endOrphans waits until a is in force, and ends the connections of messengers that an earlier configuration had and
// this one has not. A configuration that fails to load ends nothing.
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
	for name := range connectionStats() {
		if _, rej := a.messenger(ctx, name); rej != nil && rej.Code == authn.MessengerUnknown {
			endAll(name, a.logger)
		}
	}
}

// orphanInterval is how often endOrphans looks whether its configuration is in force: Caddy tells nobody.
const orphanInterval = 50 * time.Millisecond
