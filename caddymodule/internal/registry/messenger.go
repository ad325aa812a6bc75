package registry

import (
	"fmt"
	"slices"
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
// settings makes a new Messenger; a change of keys or revocations does not.
type Messenger struct {
	*config.Messenger                   // with its placeholders resolved
	Written           *config.Messenger // as it is in the configuration or in the storage

	Name     string
	Stored   bool // it comes from the storage, and not from the configuration
	Policy   authn.Policy
	Session  time.Duration // the longest; 0 for no limit
	Origins  []config.Origin
	keys     keyFiles
	files    config.LoadedFiles // while the configuration is loaded
	KeySet   *authn.JWKS        // the engine of the method jwks
	Engine   engineKey          // its key in the pool
	revoked  *authn.Revocations
	Origin   atomic.Pointer[session.Origin] // what connections are opened under
	ring     string                         // the revision of the active key ring; guarded by Applying of the journal
	released atomic.Bool                    // whether engine and meter were released
	Verifier atomic.Pointer[authn.Verifier]
	counter  metrics.RequestCounter
	timings  metrics.Timings
	Meter    *metrics.Meter
	fetches  *fetchUsers // of the engine
	logger   *zap.Logger
}

// provision prepares a configured messenger. The store adds a generated key ring later, in attach.
func (m *Messenger) provision(name string, logger *zap.Logger, l *Store) (err error) {
	m.Written = m.Messenger
	if m.Messenger, err = m.Written.Resolved(m.files); err != nil {
		m.Messenger = m.Written // others may look at it until the load has failed
		return err
	}
	if err := m.prepare(name, logger); err != nil {
		return err
	}
	switch {
	case m.JWKS != nil:
		settings, err := m.JWKS.Settings()
		if err != nil {
			return fmt.Errorf("jwks %w", err)
		}
		return m.useEngine(settings, l)
	case m.IsGenerated():
		keys, err := m.ringKeys(new(ledger.Record), nil)
		if err != nil {
			return err
		}
		m.keys.current = keys
		m.trust(keys)
		return nil
	}
	return m.loadKeys()
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
		ClockSkew:      config.DefaultClockSkew,
		MaxLifetime:    time.Duration(m.MaxLifetime),
		Revoked:        m.revoked,
	}
	if m.ClockSkew != nil {
		m.Policy.ClockSkew = time.Duration(*m.ClockSkew)
	}
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

// useEngine makes the verifier of a messenger whose keys come from a URL. It does not fetch anything yet.
func (m *Messenger) useEngine(settings authn.JWKSSettings, l *Store) (err error) {
	key := engineKey{settings, l}
	if m.KeySet, err = acquireEngine(key, m); err != nil {
		return err
	}
	m.Engine = key
	m.keys.current = m.KeySet
	m.trust(m.KeySet)
	return nil
}

// ringKeys returns the keys of a generated key ring. uses counts their uses, if there are tokens in it.
func (m *Messenger) ringKeys(r *ledger.Record, uses *tokenUses) (authn.Keys, error) {
	alg, err := m.SharedToken.Algorithm()
	if err != nil {
		return nil, fmt.Errorf("shared_token alg %w", err)
	}
	for _, t := range r.ActiveTokens() {
		if !t.Fits(alg) {
			m.logger.Warn("a shared token is too short for the messenger's algorithm and is not used; generate another", zap.String("kid", t.KeyID), zap.Stringer("alg", alg))
		}
	}
	return r.Keys(alg, uses.of)
}

// trust makes the messenger verify tokens with keys from now on.
func (m *Messenger) trust(keys authn.Keys) {
	m.Verifier.Store(authn.NewVerifier(m.Policy, keys))
}

// Label returns the name of the messenger in metrics. Stored ones share a label, because there may be any number of them.
func (m *Messenger) Label() string {
	if m.Stored {
		return SourceStored
	}
	return m.Name
}

// cleanup releases what provision acquired, also after a provision that failed half-way. Calls after the first do nothing.
func (m *Messenger) cleanup() {
	if !m.released.CompareAndSwap(false, true) {
		return
	}
	if m.KeySet != nil { // requests may still read it
		releaseEngine(m.Engine, m)
	}
	if m.Meter != nil {
		_, _ = metrics.Meters.Delete(metrics.MeterKey{Name: m.Name, Stored: m.Stored}) // Destruct returns no error
	}
}

// acceptsTokensOf reports whether tokens for m and other are interchangeable: the two share a key, and their audiences do not
// differ.
func (m *Messenger) acceptsTokensOf(other *Messenger) bool {
	if !authn.Shared(m.keys.current, other.keys.current) {
		return false
	}
	if len(m.Audience) == 0 || len(other.Audience) == 0 {
		return true
	}
	return slices.ContainsFunc(m.Audience, func(aud string) bool { return slices.Contains(other.Audience, aud) })
}
