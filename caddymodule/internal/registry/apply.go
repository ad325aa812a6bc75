package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// wrote makes a batch active on this node that its writer has just written. It is called before the batch is acknowledged.
func (s *Store) wrote(key vault.Key, texts []json.RawMessage) {
	name, _, _ := strings.Cut(key.Folder, "/")
	s.noteChange(name)
	for _, j := range s.held(key.Folder) {
		if j.add(key, texts, Now()) != nil {
			continue
		}
		ended, _ := s.apply(j, effect{}) // an error makes the messenger unavailable
		s.noteEnded(texts, ended)
	}
	s.keySetFact(key, texts)
}

// held returns the journals in memory to which a folder belongs.
func (s *Store) held(folder string) []*journal {
	name, _, _ := strings.Cut(folder, "/")
	var journals []*journal
	s.mu.Lock()
	if j := s.owned[name]; j != nil {
		journals = append(journals, j)
	}
	s.mu.Unlock()
	if e, ok := s.cached(name); ok {
		journals = append(journals, e.journal)
	}
	return journals
}

// noteEnded notes how many connections a batch has ended, for the call that wrote it; see endedBy.
func (s *Store) noteEnded(texts []json.RawMessage, ended int) {
	var first struct{ ID string }
	if ended == 0 || json.Unmarshal(texts[0], &first) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, waits := s.ended[first.ID]; waits { // its caller may not wait any more, and would never take the number
		s.ended[first.ID] = before + ended
	}
}

// countEnded makes the store count how many connections the batch ends that begins with f, until endedBy is called.
func (s *Store) countEnded(f *fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[f.ID] = 0
}

// endedBy returns how many connections of this node the batch has ended that begins with f.
func (s *Store) endedBy(f *fact) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer delete(s.ended, f.ID)
	return s.ended[f.ID]
}

// everything is the effect of facts of which it is unknown what they have changed.
var everything = effect{settings: true, ring: true, fewer: true}

// apply makes active what has changed in a journal, and what e says besides, and returns how many connections that has ended.
// Nothing depends on the order of calls: what is made active is always what the journal says now.
func (s *Store) apply(j *journal, e effect) (ended int, err error) {
	j.applying.Lock()
	defer j.applying.Unlock()
	e.merge(j.take())
	if j.unknown {
		e = everything // adding to what is unknown does not make it known
	}
	if j.kind == kindRing {
		ended, err = s.applyOwned(j, e)
	} else {
		ended, err = s.applyStored(j, e)
	}
	unusable := errors.As(err, new(*unusableError)) // applyStored has seen to it, and only other settings change it
	if j.unknown = err != nil && !unusable || j.damage() != nil || s.health.stale.Load(); j.unknown {
		s.makeUnknown(j)
	}
	return ended, err
}

// isUnknown reports whether apply has made the messenger answer keys_unavailable.
func (j *journal) isUnknown() bool {
	j.applying.Lock()
	defer j.applying.Unlock()
	return j.unknown
}

// applyOwned makes the facts of a configured messenger active. The caller holds the journal's applying.
func (s *Store) applyOwned(j *journal, e effect) (ended int, err error) {
	var r *Record
	var all, added []authn.Revocation
	var keys authn.Keys
	j.view(func(incarnation string, l *ledger) {
		if e.ring {
			r = l.record(incarnation)
		}
		if e.fewer {
			all = l.rules(Now())
		}
		added = l.rulesOf(e.added) // one may have been undone since it was read
	})
	if r != nil {
		if keys, err = ringKeys(r.Tokens, s.usesOf(j.name, kindRing)); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	registries := slices.Clone(s.registries)
	s.mu.Unlock()
	for _, reg := range registries {
		m := reg.Messengers[j.name]
		if m == nil {
			continue
		}
		if e.fewer {
			m.revoked.Set(all)
			added = all
		} else {
			m.revoked.Add(added)
		}
		if r != nil {
			if m.IsGenerated() && m.ring != r.Revision {
				m.ring = r.Revision
				m.trust(keys)
			}
			m.SetOrigin(session.Origin{Closings: r.Closings}) // after the keys: auth reads the origin first, and so never verifies with keys that are older than it
		}
		if reg.started.Load() { // otherwise this configuration may never run; if it does, EndOrphansOf is called
			ended += m.endRevoked(added)
			if r != nil {
				ended += m.endInvalidated()
			}
		}
	}
	return ended, nil
}

// applyStored makes the facts of a stored messenger active, if it is in memory. The connections themselves know under what they
// were opened. The caller holds the journal's applying.
func (s *Store) applyStored(j *journal, e effect) (ended int, err error) {
	old, ok := s.cached(j.name)
	if ok && old.journal != j {
		return 0, nil // it was read again meanwhile
	}
	active := !s.isConfigured(j.name) // a configured messenger of the same name goes before it
	var r *Record
	var all, added []authn.Revocation
	j.view(func(incarnation string, l *ledger) {
		if l == nil {
			return
		}
		added = l.rulesOf(e.added) // one may have been undone since it was read
		if e.settings || e.ring || !ok {
			r = l.record(incarnation)
		}
		if e.fewer || r != nil {
			all = l.rules(Now())
		}
	})
	if ok && !e.settings && !e.ring {
		if e.fewer {
			old.messenger.revoked.Set(all)
			added = all
		} else {
			old.messenger.revoked.Add(added)
		}
		if active {
			ended = old.messenger.endRevoked(added)
		}
		return ended, nil
	}
	if r == nil {
		s.uncache(j.name)
		if active {
			ended = EndAll(j.name, s.log())
		}
		return ended, nil
	}
	if ok {
		old.messenger.revoked.Set(all)
		if old.revision == r.Revision {
			if active {
				ended = old.messenger.endRevoked(all)
			}
			return ended, nil
		}
	}
	m, err := s.newStored(j.name, r, all)
	if err != nil {
		if ok {
			old.messenger.revoked.SetUnknown() // the new settings cannot be used here, and the old ones do not apply any more
			old.revision = ""
		}
		return 0, &unusableError{fmt.Errorf("stored messenger %s: %w", j.name, err)}
	}
	m.acquireMeter()
	s.cache(j.name, newEntry(m, j, r.Revision))
	if active {
		ended = m.endRevoked(all) + m.endInvalidated()
	}
	return ended, nil
}

// An unusableError says why settings that can be read cannot be used here. They can still be shown, changed and deleted.
type unusableError struct{ error }

func (e *unusableError) Unwrap() error { return e.error }

// setUnknown makes a messenger answer keys_unavailable until apply is called, and finds nothing wrong.
func (s *Store) setUnknown(j *journal) {
	j.applying.Lock()
	defer j.applying.Unlock()
	j.unknown = true
	s.makeUnknown(j)
}

// makeUnknown makes a messenger answer keys_unavailable. The caller holds the journal's applying.
func (s *Store) makeUnknown(j *journal) {
	if j.kind == KindStored {
		if e, ok := s.cached(j.name); ok {
			e.messenger.revoked.SetUnknown()
			e.revision = ""
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, reg := range s.registries {
		if m := reg.Messengers[j.name]; m != nil {
			m.revoked.SetUnknown()
		}
	}
}
