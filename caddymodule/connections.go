package caddymodule

import (
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

// endWithdrawn ends the connections of m whose tokens were signed by a key that verifies nothing any more. It is called
// whenever the keys of m have changed.
func (m *Messenger) endWithdrawn() {
	if n := connections.EndWithoutKeys(m.name, m.verifier.Load().Active(), session.Revoked); n > 0 {
		m.logger.Info("connections ended, because the key of their tokens was withdrawn", zap.Int("connections", n))
	}
}

// keySetChanged is told of every change of a key set from a URL, and passes it on to the messengers that use it now.
func keySetChanged(settings authn.JWKSSettings) {
	app, err := activeApp()
	if err != nil {
		return
	}
	for _, m := range app.Messengers {
		if m.jwks != nil && m.engine == settings {
			m.endWithdrawn()
		}
	}
}

// endOrphans waits until a is in force, and ends the connections that an earlier configuration allowed and this one does
// not: those of messengers that are gone, and those of keys that are. Where no key set was fetched yet nobody can say; its
// first fetch does. A configuration that fails to load ends nothing.
func (a *App) endOrphans() {
	ticker := time.NewTicker(orphanInterval)
	defer ticker.Stop()
	for app := (*App)(nil); app != a; app, _ = activeApp() {
		select {
		case <-a.done:
			return
		case <-ticker.C:
		}
	}
	for name := range connectionStats() {
		m, rej := a.messenger(name)
		switch {
		case rej != nil:
			if n, err := endConnections(session.Filter{Messenger: name}, session.Revoked); err == nil && n > 0 {
				a.logger.Info("connections ended, because their messenger is gone", zap.String("messenger", name), zap.Int("connections", n))
			}
		case m.jwks == nil || m.jwks.Status().Usable:
			m.endWithdrawn()
		}
	}
}

// orphanInterval is how often endOrphans looks whether its configuration is in force: Caddy tells nobody.
const orphanInterval = 50 * time.Millisecond
