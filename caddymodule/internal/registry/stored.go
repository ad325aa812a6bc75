package registry

import (
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// newStored makes the messenger that a record describes. It may have been stored by a site owner who must not be able to read
// the gateway's files and environment, or to explore its network.
func (s *Store) newStored(name string, r *ledger.Record, revoked []authn.Revocation) (*Messenger, error) {
	if r.Unusable != nil {
		return nil, r.Unusable
	}
	m := &Messenger{Messenger: r.Settings.CopySettings(), Stored: true}
	if err := m.prepare(name, s.log()); err != nil {
		return nil, err
	}
	m.revoked.Set(revoked)
	for _, warning := range m.CostWarnings() {
		m.logger.Warn(warning)
	}
	m.SetOrigin(session.Origin{Created: r.Created, Closings: r.Closings})
	if err := m.openSources(s, nil, r); err != nil {
		m.cleanup()
		return nil, err
	}
	m.start()
	return m, nil
}
