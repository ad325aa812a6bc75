package registry

import (
	"context"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyfile"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/lastuse"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// A source is where the keys of one validation method of a messenger come from. A messenger has one for its method, and another one
// for the method before, as long as that is used.
type source struct {
	settings *config.Messenger // with this method
	keys     authn.Keys        // guarded by trusting of the messenger
	files    *keyfile.Keys     // nil for a key set, and for generated shared tokens
	KeySet   *authn.JWKS       // the engine of the method jwks; nil for any other
	engine   keysets.Engine    // the same, in the pool
	ring     string            // the revision of the active key ring; guarded by Applying of the journal

	// What a key set of the method before had when connections were compared with it last, and what it has not any more since the
	// last change. Guarded by trusting.
	had, gone map[string]bool
}

// openSources makes the sources of the methods of m. It does not fetch anything yet. r has the shared tokens of a stored messenger; it
// is nil for a configured one, whose ring is added later, in attach.
func (m *Messenger) openSources(s *Store, files config.LoadedFiles, r *ledger.Record) error {
	m.source.settings = m.Messenger
	if err := m.open(&m.source, s, files, r); err != nil {
		return err
	}
	if m.Previous.IsOver(Now()) {
		m.trust()
		return nil
	}
	m.former = &source{settings: m.Previous.Settings()}
	if err := m.open(m.former, s, files, r); err != nil {
		return fmt.Errorf("previous %w", err)
	}
	if m.source.files != nil && m.former.files != nil && !m.Stored { // what is at a URL or in the store must not stop a load
		if err := authn.CheckTransition(m.source.keys, m.former.keys); err != nil {
			return fmt.Errorf("previous: %w", err)
		}
	}
	m.trust()
	return nil
}

// open makes the keys of one source.
func (m *Messenger) open(src *source, s *Store, files config.LoadedFiles, r *ledger.Record) (err error) {
	switch {
	case src.settings.JWKS != nil:
		settings, access, err := m.fetchSettings(src.settings.JWKS, s, files, r)
		if err != nil {
			return fmt.Errorf("jwks %w", err)
		}
		if src.engine, err = s.KeySets.Acquire(settings, access, m.meterKey()); err != nil {
			return err
		}
		src.KeySet, src.keys = src.engine.JWKS, src.engine.JWKS
	case src.settings.IsGenerated() && r != nil:
		src.keys, err = m.ringKeys(src, r, s.Uses.Of(m.Name, ledger.KindStored))
	case src.settings.IsGenerated():
		src.keys, err = m.ringKeys(src, new(ledger.Record), nil)
	default:
		src.files, err = keyfile.Load(src.settings, files, m.logger, func(keys authn.Keys) {
			if m.replace(src, keys); s.runs(m) { // otherwise its configuration may never run; if it does, EndOrphansOf is called
				m.boundConnections()
			}
		})
	}
	return err
}

// ringKeys returns the keys of a generated key ring. uses counts their uses, if there are tokens in it.
func (m *Messenger) ringKeys(src *source, r *ledger.Record, uses *lastuse.Ring) (authn.Keys, error) {
	alg, err := src.settings.SharedToken.Algorithm()
	if err != nil {
		return nil, fmt.Errorf("shared_token alg %w", err)
	}
	for _, t := range r.ActiveTokens() {
		if !t.Fits(alg) {
			m.logger.Warn("a shared token is too short for the messenger's algorithm and is not used; generate another", zap.String("kid", t.KeyID), zap.Stringer("alg", alg))
		}
	}
	return r.Keys(alg, uses.Of)
}

// fetchSettings returns how a key set is fetched. The function is nil if its URL is enough.
func (m *Messenger) fetchSettings(j *config.JWKS, s *Store, files config.LoadedFiles, r *ledger.Record) (settings authn.JWKSSettings, fetch keyserver.AccessFunc, err error) {
	var access config.KeyServerAccess
	if m.Stored {
		if settings, err = j.StoredSettings(s.IsInternal); err == nil {
			access, err = j.StoredAccess(m.Name, r.Created)
		}
	} else if settings, err = j.Settings(); err == nil {
		access, err = j.Access(files)
	}
	settings.Access, settings.Scope = access.ID, access.Scope
	return settings, access.Fetch, err
}

// sources are those that m has.
func (m *Messenger) sources() []*source {
	if m.former == nil {
		return []*source{&m.source}
	}
	return []*source{&m.source, m.former}
}

// replace makes keys those of src.
func (m *Messenger) replace(src *source, keys authn.Keys) {
	m.trusting.Lock()
	src.keys = keys
	m.trusting.Unlock()
	if m.Verifier.Load() != nil { // otherwise openSources is not done, and calls trust
		m.trust()
	}
}

// trust makes the messenger verify tokens with the keys of its sources from now on.
func (m *Messenger) trust() {
	m.trusting.Lock()
	defer m.trusting.Unlock()
	keys := m.source.keys
	if m.former != nil {
		keys = authn.NewTransition(keys, m.former.keys, m.Previous.Until)
	}
	m.Verifier.Store(authn.NewVerifier(m.Policy, keys))
}

// KeySets returns the engines of the key sets that m uses, by their keys in the pool.
func (m *Messenger) KeySets() map[keysets.Key]*authn.JWKS {
	sets := make(map[keysets.Key]*authn.JWKS)
	for _, src := range m.sources() {
		if src.KeySet != nil {
			sets[src.engine.Key] = src.KeySet
		}
	}
	return sets
}

// start begins to fetch the key sets.
func (m *Messenger) start() {
	for _, src := range m.sources() {
		if src.KeySet != nil {
			src.KeySet.Start()
		}
	}
}

// watch watches the key files until ctx ends.
func (m *Messenger) watch(ctx context.Context, interval time.Duration) {
	for _, src := range m.sources() {
		if src.files != nil {
			src.files.Watch(ctx, interval)
		}
	}
}

// boundConnections gives the open connections of m the ends of their keys: those that were opened with a key of the method before
// end when that method does, also if they were opened when it was the only one. It is called whenever the keys have changed.
func (m *Messenger) boundConnections() {
	if Connections.OpenAt(m.Name) == 0 {
		return
	}
	Connections.BoundAll(m.Name, m.keyBounds())
}

// keyBounds returns what says when the key of a connection ends. A key that neither method has may be one of a method that was removed
// since: what was said about it before stays, so that no change lets its connections live longer.
func (m *Messenger) keyBounds() func(session.Subject) session.Bound {
	m.trusting.Lock()
	present := authn.KeyIDs(m.source.keys)
	var former map[string]bool
	if m.former != nil {
		former = authn.KeyIDs(m.former.keys)
		if m.former.had == nil {
			m.former.had = make(map[string]bool)
		}
		maps.Copy(m.former.had, former)
	}
	m.trusting.Unlock()
	return func(s session.Subject) session.Bound {
		switch {
		case present[s.Key]:
			return session.Bound{}
		case former[s.Key]:
			until := m.Previous.Until
			return session.Bound{Deadline: session.Deadline{From: until, To: until.Add(m.Policy.ClockSkew), Ending: session.Revoked}}
		}
		return session.Bound{Unknown: true}
	}
}

// dropKeys returns the keys that the key set of the method before had, and has not any more.
func (m *Messenger) dropKeys() map[string]bool {
	m.trusting.Lock()
	defer m.trusting.Unlock()
	src, now := m.former, authn.KeyIDs(m.former.keys)
	src.gone = src.had
	src.had = now
	maps.DeleteFunc(src.gone, func(id string, _ bool) bool { return now[id] })
	return maps.Clone(src.gone)
}

// hasDropped reports whether the last change of the key set of the method before has removed a key.
func (m *Messenger) hasDropped(id string) bool {
	m.trusting.Lock()
	defer m.trusting.Unlock()
	return m.former != nil && m.former.gone[id]
}
