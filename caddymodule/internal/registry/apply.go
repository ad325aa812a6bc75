package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// wrote makes a batch active on this node that its writer has just written. It is called before the batch is acknowledged.
// It returns how many connections it closed.
func (s *Store) wrote(key vault.Key, texts []json.RawMessage) (ended int) {
	name, _, _ := strings.Cut(key.Folder, "/")
	s.noteChange(name)
	for _, j := range s.held(key.Folder) {
		if j.Add(key, texts, Now()) != nil {
			continue
		}
		n, _ := s.apply(j, ledger.Effect{}) // an error makes the messenger unavailable
		ended += n
	}
	s.KeySets.Note(key, texts)
	return ended
}

// held returns the journals in memory to which a folder belongs.
func (s *Store) held(folder string) []*ledger.Journal {
	name, _, _ := strings.Cut(folder, "/")
	var journals []*ledger.Journal
	for _, kind := range []string{ledger.KindRing, ledger.KindStored} {
		if j := s.inMemory(name, kind); j != nil {
			journals = append(journals, j)
		}
	}
	return journals
}

// inMemory returns the journal of a name, or nil if it is not in memory.
func (s *Store) inMemory(name, kind string) *ledger.Journal {
	if kind == ledger.KindStored {
		if e, ok := s.cached(name); ok {
			return e.journal
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owned[name]
}

// everything is the effect of facts of which it is unknown what they have changed.
var everything = ledger.Effect{Settings: true, Ring: true, Fewer: true}

// apply makes active what has changed in a journal, and what e says besides, and returns how many connections it closed.
// Nothing depends on the order of calls: what is made active is always what the journal says now.
func (s *Store) apply(j *ledger.Journal, e ledger.Effect) (ended int, err error) {
	j.Applying.Lock()
	defer j.Applying.Unlock()
	if s.isDropped(j) {
		return 0, errDropped
	}
	e.Merge(j.Take())
	if j.Unknown {
		e = everything // adding to what is unknown does not make it known
	}
	if j.Kind == ledger.KindRing {
		ended, err = s.applyOwned(j, e)
	} else {
		ended, err = s.applyStored(j, e)
	}
	unusable := errors.As(err, new(*unusableError)) // applyStored has seen to it, and only other settings change it
	if j.Unknown = err != nil && !unusable || j.Damage() != nil || s.isStale(j); j.Unknown {
		s.makeUnknown(j)
	}
	return ended, err
}

// isUnknown reports whether apply has made the messenger answer keys_unavailable.
func isUnknown(j *ledger.Journal) bool {
	j.Applying.Lock()
	defer j.Applying.Unlock()
	return j.Unknown
}

// news are what facts have changed of a messenger that is in memory.
type news struct {
	rules  []authn.Revocation // that are new, or all of them
	all    bool
	record *ledger.Record // nil if its shared tokens are what they were
}

// newsOf returns what the facts of a journal have changed.
func newsOf(j *ledger.Journal, e ledger.Effect) (n news) {
	if n.all = e.Fewer; n.all {
		n.rules = j.Rules(Now())
	} else {
		n.rules = j.AddedRules(e)
	}
	if e.Ring {
		if n.record = j.Record(); n.record == nil {
			n.record = new(ledger.Record)
		}
	}
	return n
}

// applyRules makes revocations active, and ends none of the connections.
func (m *Messenger) applyRules(n news) {
	if n.all {
		m.revoked.Set(n.rules)
	} else {
		m.revoked.Add(n.rules)
	}
}

// applyOwned makes the facts of a configured messenger active, in every configuration that has it. The caller holds j.Applying.
func (s *Store) applyOwned(j *ledger.Journal, e ledger.Effect) (ended int, err error) {
	n := newsOf(j, e)
	type owned struct {
		*Messenger
		ring authn.Keys // nil if that does not change
		reg  *Registry
	}
	var all []owned
	s.mu.Lock()
	for _, reg := range s.registries {
		if m := reg.Messengers[j.Name]; m != nil {
			all = append(all, owned{m, nil, reg})
		}
	}
	s.mu.Unlock()
	for i, m := range all {
		src := m.ringSource()
		if n.record == nil || src == nil || src.ring == n.record.Revision {
			continue
		}
		if all[i].ring, err = m.ringKeys(src, n.record, s.Uses.Of(j.Name, ledger.KindRing)); err != nil {
			return 0, err
		}
	}
	for _, m := range all {
		m.applyRules(n)
		if m.ring != nil {
			src := m.ringSource()
			src.ring = n.record.Revision
			m.replace(src, m.ring)
		}
		if n.record != nil {
			m.SetOrigin(session.Origin{Closings: n.record.Closings}) // after the keys: auth reads the origin first, and so never verifies with keys that are older than it
		}
		if !m.reg.active.Load() { // its configuration may never run; if it does, EndOrphansOf is called, and must find what was applied
			continue
		}
		ended += m.endRevoked(n.rules)
		if n.record != nil {
			ended += m.endInvalidated()
			m.boundConnections()
		}
	}
	return ended, nil
}

// ringSource returns the source of m whose keys are generated shared tokens, or nil. The two methods are never both that.
func (m *Messenger) ringSource() *source {
	for _, src := range m.sources() {
		if src.settings.IsGenerated() {
			return src
		}
	}
	return nil
}

// applyStored makes the facts of a stored messenger active, if it is in memory. The connections themselves know under what they
// were opened. The caller holds j.Applying.
func (s *Store) applyStored(j *ledger.Journal, e ledger.Effect) (ended int, err error) {
	before := s.changes(j.Name).Load()
	old, ok := s.cached(j.Name)
	if ok && old.journal != j {
		return 0, nil // it was read again meanwhile
	}
	active := !s.isConfigured(j.Name) // a configured messenger of the same name goes before it
	if ok && !e.Settings && !e.Ring {
		n := newsOf(j, e)
		old.messenger.applyRules(n)
		return old.messenger.endRevokedIf(active, n.rules), nil
	}
	r := j.Record()
	if r == nil {
		if s.uncache(j.Name); s.changes(j.Name).Load() != before {
			s.absent.Invalidate(j.Name) // it may have been created meanwhile
		}
		if active {
			ended = EndAll(j.Name, s.log())
		}
		return ended, nil
	}
	rules := j.Rules(Now())
	if ok {
		old.messenger.revoked.Set(rules)
		if old.revision == r.Revision {
			return old.messenger.endRevokedIf(active, rules), nil
		}
	}
	m, err := s.newStored(j.Name, r, rules)
	if err != nil {
		if ok {
			old.messenger.revoked.SetUnknown() // the new settings cannot be used here, and the old ones do not apply any more
			old.revision = ""
		}
		return 0, &unusableError{fmt.Errorf("stored messenger %s: %w", j.Name, err)}
	}
	m.acquireMeter()
	s.cache(j.Name, newEntry(m, j, r.Revision))
	if ended = m.endRevokedIf(active, rules); active {
		ended += m.endInvalidated()
		m.boundConnections()
	}
	return ended, nil
}

// endRevokedIf is endRevoked if m is the one that counts under its name.
func (m *Messenger) endRevokedIf(active bool, rules []authn.Revocation) int {
	if !active {
		return 0
	}
	return m.endRevoked(rules)
}

// An unusableError says why settings that can be read cannot be used here. They can still be shown, changed and deleted.
type unusableError struct{ error }

func (e *unusableError) Unwrap() error { return e.error }

// isOfOneMessenger reports whether err says nothing about other messengers.
func isOfOneMessenger(err error) bool {
	return vault.IsOfOneValue(err) || errors.As(err, new(*unusableError))
}

// worst returns the first of the errors that is about more than one messenger, or else all of them, or nil.
func worst(errs ...error) error {
	for _, err := range errs {
		if err != nil && !isOfOneMessenger(err) {
			return err
		}
	}
	return errors.Join(errs...)
}

// makeUnknown makes a messenger answer keys_unavailable. The caller holds j.Applying.
func (s *Store) makeUnknown(j *ledger.Journal) {
	if j.Kind == ledger.KindStored {
		if e, ok := s.cached(j.Name); ok && e.journal == j {
			e.messenger.revoked.SetUnknown()
			e.revision = ""
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if counts := s.owned[j.Name]; counts == nil || counts == j {
		s.makeConfiguredUnknown(j.Name)
	}
}

// makeConfiguredUnknown is makeUnknown for a configured messenger. The caller holds mu.
func (s *Store) makeConfiguredUnknown(name string) {
	for _, reg := range s.registries {
		if m := reg.Messengers[name]; m != nil {
			m.revoked.SetUnknown()
		}
	}
}
