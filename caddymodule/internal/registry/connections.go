package registry

import (
	"context"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// Connections are the guarded connections of the process. They outlive the configuration that opened them, with
// stream_close_delay and while an old configuration ends, and so belong to none. An empty tracker runs nothing.
var Connections = session.NewTracker()

// EndConnections ends the open connections that filter means, and returns how many these are. It does not wait until the
// last client has been told. A filter without a messenger is an error.
func EndConnections(filter session.Filter, ending session.Ending) (int, error) {
	return Connections.End(filter, ending)
}

// ConnectionStats returns the counts of open connections by messenger.
func ConnectionStats() map[string]session.Stats { return Connections.Stats() }

// EndAll ends the connections of a messenger that is gone, and returns how many these are.
func EndAll(name string, logger *zap.Logger) int {
	n, err := EndConnections(session.Filter{Messenger: name}, session.Revoked)
	if err == nil && n > 0 {
		logger.Info("connections ended, because their messenger is gone", zap.String("messenger", name), zap.Int("connections", n))
	}
	return n
}

// endWithoutKeys ends the connections of m whose tokens were signed by a key that is not active. It is called where the key
// set at a URL has changed, or is distrusted.
func (m *Messenger) endWithoutKeys() {
	m.logWithdrawn(Connections.EndWithoutKeys(m.Name, m.Verifier.Load().Active(), session.Revoked))
}

// endWithdrawn ends the connections that have lost what they rest on; see withdrew. It returns how many these are.
func (m *Messenger) endWithdrawn() int {
	active := m.Verifier.Load().Active()
	n := Connections.EndWhere(m.Name, func(s session.Subject) bool { return m.withdrew(s, active) }, session.Revoked)
	m.logWithdrawn(n)
	return n
}

func (m *Messenger) logWithdrawn(n int) {
	if n > 0 {
		m.logger.Info("connections ended, because the key of their tokens was withdrawn", zap.Int("connections", n))
	}
}

// endRevoked ends the connections whose tokens were taken back by these rules, and returns how many these are.
func (m *Messenger) endRevoked(rules []authn.Revocation) int {
	if len(rules) == 0 || Connections.Open()[m.Name] == 0 {
		return 0
	}
	index := authn.NewRevocations(rules)
	revoked := func(s session.Subject) bool { return index.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued) }
	n := Connections.EndWhere(m.Name, revoked, session.Revoked)
	if n > 0 {
		m.logger.Info("connections ended, because their tokens were revoked", zap.Int("connections", n))
	}
	return n
}

// KeySetChanged is told of every change of a key set from a URL, and passes it on to the messengers that use it now.
func (l *Store) KeySetChanged(key engineKey) {
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
	for _, m := range append(using, l.messengers()...) {
		if m.Engine == key && !(m.Stored && l.isConfigured(m.Name)) {
			m.endWithoutKeys()
		}
	}
}

// EndOrphansOf reports false if nobody can say at the moment whether the messenger is there.
func (a *Registry) EndOrphansOf(ctx context.Context, name string) bool {
	switch m, rej := a.pinnedMessenger(ctx, name); {
	case rej == nil:
		if !m.revoked.Unknown() {
			revoked := func(s session.Subject) bool { return m.revoked.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued) }
			_ = Connections.EndWhere(name, revoked, session.Revoked)
		}
		m.endWithdrawn()
	case rej.Code == authn.MessengerUnknown:
		EndAll(name, a.Logger)
	default:
		return false
	}
	return true
}
