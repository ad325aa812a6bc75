package ledger

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// Revoke returns the facts by which v is revoked, or errExpired if no token that it revokes can be valid any more.
func (j *Journal) Revoke(v revocation.Revocation, m *config.Messenger, now time.Time) (incarnation string, facts []*Fact, err error) {
	now = now.UTC()
	if v = v.Recorded(m, now); v.HasExpired(now) {
		return "", nil, errExpired
	}
	at := j.stamp(now)
	err = ErrNothing
	j.view(func(current string, l *ledger) {
		incarnation = current
		facts, err = l.revocationFacts(v, at, now, time.Duration(m.MaxLifetime))
	})
	return incarnation, facts, err
}

// RevokeAll returns the facts by which a list is revoked, and how many of the list these are: what is revoked already, and tokens that have
// expired, are left out.
func (j *Journal) RevokeAll(list []revocation.Revocation, m *config.Messenger, now time.Time) (incarnation string, facts []*Fact, added int, err error) {
	now = now.UTC()
	at, isRevoked := j.stamp(now), j.Revoked(now)
	err = ErrNothing
	j.view(func(current string, l *ledger) {
		incarnation, err = current, nil
		later, seen := l.clone(), make(map[string]bool) // with what the list has added: each needs room
		for _, v := range list {
			text, _ := json.Marshal(v) // times and texts always have a form
			if isRevoked(v) || seen[string(text)] {
				continue
			}
			seen[string(text)] = true
			if v = v.Recorded(m, now); v.HasExpired(now) {
				continue
			}
			var more []*Fact
			if more, err = later.revocationFacts(v, at, now, time.Duration(m.MaxLifetime)); err != nil {
				return
			}
			for _, f := range more {
				later.add(f, new(Effect))
			}
			facts, added = append(facts, more...), added+1
		}
	})
	return incarnation, facts, added, err
}

// Undo returns the fact by which all active revocations of the same target are undone.
func (j *Journal) Undo(v *revocation.Revocation, now time.Time) (incarnation string, undo *Fact, err error) {
	at := j.stamp(now)
	err = ErrNotRevoked
	j.view(func(current string, l *ledger) {
		incarnation = current
		target := v.Target()
		if ids := l.revocationsOf(target); len(ids) > 0 {
			undo, err = NewFact(factUndo, at, ids...), nil
			return
		}
		if target.Covers = true; len(l.revocationsOf(target)) > 0 {
			err = errCovers
		}
	})
	return incarnation, undo, err
}

// CheckUndone returns an error if an undo that was written is without effect: another node has written a revocation at the same
// instant that covers what it undoes, such as the 21st logout of a contact.
func (j *Journal) CheckUndone(undo *Fact) (err error) {
	j.view(func(_ string, l *ledger) {
		for _, id := range undo.Of {
			if f := l.fact(id); f != nil && l.isCoveredByAny(f) {
				err = errCovers
			}
		}
	})
	return err
}

// Revocations returns the revocations that are of use under this max_lifetime, the newest first.
func (j *Journal) Revocations(bound time.Duration, now time.Time) []revocation.Revocation {
	list := []revocation.Revocation{}
	j.view(func(_ string, l *ledger) {
		for _, v := range slices.Backward(l.activeRevocations(now)) {
			kept := v.KeptUntil(bound)
			if kept != nil && !now.Before(*kept) {
				continue // it covers only tokens that have expired
			}
			if kept != nil || v.Until != nil && !now.Before(*v.Until) {
				v.Until = kept
			}
			list = append(list, v)
		}
	})
	return list
}

// Rules returns what the revocations mean for a verifier.
func (j *Journal) Rules(now time.Time) (rules []authn.Revocation) {
	j.view(func(_ string, l *ledger) {
		rules = l.rules(now)
	})
	return rules
}

// AddedRules returns the rules of the revocations that are new in e. One may have been undone since it was read.
func (j *Journal) AddedRules(e Effect) (rules []authn.Revocation) {
	j.view(func(_ string, l *ledger) {
		rules = l.rulesOf(e.added)
	})
	return rules
}
