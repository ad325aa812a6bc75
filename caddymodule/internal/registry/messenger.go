package registry

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// A Messenger is a messenger as it runs: its settings, which never change, and what is made from them. A change of the
// settings makes a new Messenger, and for a stored one a change of its shared tokens does, too. Other changes of keys make a
// new Verifier at most, and revocations not even that.
type Messenger struct {
	*config.Messenger                   // with its placeholders resolved
	Written           *config.Messenger // as it is in the configuration or in the storage

	Name     string
	Stored   bool // it comes from the storage, and not from the configuration
	Policy   authn.Policy
	Session  time.Duration // the longest; 0 for no limit
	Origins  []config.Origin
	source              // of the keys of its method
	former   *source    // of those of the method before; nil if there is none
	trusting sync.Mutex // guards the keys of both
	revoked  *authn.Revocations
	Origin   atomic.Pointer[session.Origin] // what connections are opened under
	released atomic.Bool                    // whether engine and meter were released
	Verifier atomic.Pointer[authn.Verifier]
	counter  metrics.RequestCounter
	timings  metrics.Timings
	Meter    *metrics.Meter
	logger   *zap.Logger
}

// provision prepares a configured messenger. The store adds a generated key ring later, in attach.
func (m *Messenger) provision(name string, logger *zap.Logger, s *Store, files config.LoadedFiles) (err error) {
	m.Written = m.Messenger
	if m.Messenger, err = m.Written.Resolved(files); err != nil {
		m.Messenger = m.Written // others may look at it until the load has failed
		return err
	}
	if err := m.CheckResolved(); err != nil {
		return err
	}
	if err := m.prepare(name, logger); err != nil {
		return err
	}
	return m.openSources(s, files, nil)
}

// prepare checks the settings and makes from them what requests need, except the keys.
func (m *Messenger) prepare(name string, logger *zap.Logger) error {
	m.Name = name
	m.logger = logger.With(zap.String("messenger", name))
	m.revoked = new(authn.Revocations)
	m.SetOrigin(session.Origin{})
	if err := m.CheckSettings(); err != nil {
		return err
	}
	m.timings = metrics.Process.Timings(m.Method())
	m.Policy = authn.Policy{
		IdentityKey:    m.IdentityKey,
		TokenType:      authn.TypeOf(m.TokenType),
		Issuers:        m.Issuer,
		Audiences:      m.Audience,
		RequiredClaims: m.RequireClaims,
		ContactClaims:  m.ContactClaims,
		ClockSkew:      config.DurationOr(m.ClockSkew, config.DefaultClockSkew),
		MaxLifetime:    time.Duration(m.MaxLifetime),
		Revoked:        m.revoked,
	}
	m.Policy.IdentityPath, _ = config.ParseIdentityPath(m.IdentityPath) // it was checked, or is empty
	m.Session = config.DurationOr(m.MaxSession, config.DefaultMaxSession)
	for _, entry := range m.AllowedOrigin {
		o, err := config.ParseOrigin(entry)
		if err != nil {
			return fmt.Errorf("allowed_origin %q %w", entry, err)
		}
		m.Origins = append(m.Origins, o)
	}
	return nil
}

// cleanup releases what provision acquired, also after a provision that failed half-way. Calls after the first do nothing.
func (m *Messenger) cleanup() {
	if !m.released.CompareAndSwap(false, true) {
		return
	}
	for _, src := range m.sources() {
		if src.KeySet != nil { // requests may still read it
			src.engine.Release(m.meterKey())
		}
	}
	if m.Meter != nil {
		_, _ = metrics.Meters.Delete(m.meterKey()) // Destruct returns no error
	}
}

// acceptsTokensOf reports whether tokens for m and other are interchangeable: the two share a key, and their audiences do not
// differ.
func (m *Messenger) acceptsTokensOf(other *Messenger) bool {
	if !m.Verifier.Load().SharesKeys(other.Verifier.Load()) {
		return false
	}
	if len(m.Audience) == 0 || len(other.Audience) == 0 {
		return true
	}
	return slices.ContainsFunc(m.Audience, func(aud string) bool { return slices.Contains(other.Audience, aud) })
}

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
