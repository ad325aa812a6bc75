package registry

import (
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// Connections tracks the guarded connections of the process. They can outlive the configuration that opened them, because of
// stream_close_delay and while an old configuration shuts down, so the tracker belongs to no configuration. An empty tracker
// has no goroutine.
var Connections = session.NewTracker()

// EndAll ends the connections of a messenger that was removed, and returns their number.
func EndAll(name string, logger *zap.Logger) int {
	n, err := Connections.End(session.Filter{Messenger: name}, session.Revoked)
	if err == nil && n > 0 {
		logger.Info("connections ended, because their messenger is gone", zap.String("messenger", name), zap.Int("connections", n))
	}
	return n
}

// endWithoutKeys ends the connections of m whose tokens were signed by a key that is not active. It is called when the key
// set at a URL has changed or is not trusted any more. If that is the set of the method before, connections that were opened with
// other keys are none of its concern.
func (m *Messenger) endWithoutKeys(key keysets.Key) {
	active := m.Verifier.Load().Active()
	var removed map[string]bool
	if m.former != nil && m.former.engine.Key == key {
		removed = m.dropKeys()
	}
	all := m.engine.Key == key
	m.logKeyEnds(Connections.EndWhere(m.Name, func(s session.Subject) bool { return !active[s.Key] && (all || removed[s.Key]) }, session.Revoked))
	m.boundConnections()
}

// endInvalidated ends the connections that are not valid any more; see invalidates. It returns their number.
func (m *Messenger) endInvalidated() int {
	active := m.Verifier.Load().Active()
	n := Connections.EndWhere(m.Name, func(s session.Subject) bool { return m.invalidates(s, active) }, session.Revoked)
	m.logKeyEnds(n)
	return n
}

func (m *Messenger) logKeyEnds(n int) {
	if n > 0 {
		m.logger.Info("connections ended, because the key of their tokens was removed", zap.Int("connections", n))
	}
}

// endRevoked ends the connections whose tokens are revoked by these rules, and returns their number.
func (m *Messenger) endRevoked(rules []authn.Revocation) int {
	if len(rules) == 0 || Connections.OpenAt(m.Name) == 0 {
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

// KeySetChanged is called after every change of a key set from a URL. It ends the connections whose key was removed, at all
// messengers that use the key set now.
func (s *Store) KeySetChanged(key keysets.Key) {
	s.mu.Lock()
	var using []*Messenger
	for _, reg := range s.registries {
		switch {
		case reg.active.Load():
			using = slices.AppendSeq(using, maps.Values(reg.Messengers))
		case reg.started.Load() && !slices.Contains(reg.changed, key): // it may never run; if it does, Activate follows
			reg.changed = append(reg.changed, key)
		}
	}
	s.mu.Unlock()
	for _, m := range append(using, s.messengers()...) {
		if m.uses(key) && !(m.Stored && s.isConfigured(m.Name)) {
			m.endWithoutKeys(key)
		}
	}
}

// uses reports whether m uses a key set.
func (m *Messenger) uses(key keysets.Key) bool {
	return slices.ContainsFunc(m.sources(), func(src *source) bool { return src.engine.Key == key })
}

// EndOrphansOf ends the connections under this name that the current configuration and store do not allow. It returns false
// if it is unknown at the moment whether the messenger exists.
func (reg *Registry) EndOrphansOf(ctx context.Context, name string) bool {
	switch m, rej := reg.pinnedMessenger(ctx, name); {
	case rej == nil:
		if !m.revoked.Unknown() {
			revoked := func(s session.Subject) bool { return m.revoked.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued) }
			_ = Connections.EndWhere(name, revoked, session.Revoked)
		}
		m.endInvalidated()
		m.boundConnections()
	case rej.Code == authn.MessengerUnknown:
		EndAll(name, reg.Logger)
	default:
		return false
	}
	return true
}
