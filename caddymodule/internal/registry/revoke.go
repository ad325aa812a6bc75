package registry

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// Revoke revokes tokens, and returns how many connections it closed on this node. v.Until is when the last of the tokens
// expires, if the caller knows that; otherwise it is computed from the messenger's max_lifetime.
func (reg *Registry) Revoke(ctx context.Context, name string, v revocation.Revocation, by Actor) (ended int, err error) {
	if err := v.CheckNew(); err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	ctx = WithActor(ctx, by)
	j, m, known, err := reg.journalOf(ctx, name)
	if err != nil {
		return 0, err
	}
	incarnation, facts, err := j.Revoke(v, m, Now())
	if err != nil {
		return 0, change.Error(err)
	}
	ended, err = change.Commit(ctx, reg.Store, j, change.Commitment{Incarnation: incarnation, Groups: [][]*ledger.Fact{facts}, Urgent: by != ByContact, Looked: known})
	if err != nil {
		return 0, err
	}
	reg.Audit(trail.ContactsRevoked, name, by, zap.String(trail.DetailTarget, v.Kind()), zap.Int(trail.DetailConnections, ended))
	return ended, nil
}

// RevokeAll is Revoke for several revocations. Those that are active already are left out, and those whose tokens have expired. It
// returns how many were new.
func (reg *Registry) RevokeAll(ctx context.Context, name string, list []revocation.Revocation, by Actor) (added, ended int, err error) {
	for i := range list {
		if err := list[i].CheckNew(); err != nil {
			return 0, 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("number %d: %w", i+1, err)}
		}
	}
	ctx = WithActor(ctx, by)
	j, m, known, err := reg.journalOf(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	// Everything is read, so that nothing is left out of the list that the storage has just lost.
	if j, err = reg.Store.fresh(ctx, name, j.Kind); err != nil && !(isOfOneMessenger(err) && j.IsCompared()) {
		return 0, 0, apierror.Storage(err)
	}
	if err := reg.Store.backed(ctx, j); err != nil {
		return 0, 0, err
	}
	incarnation, facts, added, err := j.RevokeAll(list, m, Now())
	if err != nil {
		return 0, 0, change.Error(err)
	}
	if added == 0 {
		return 0, 0, nil
	}
	ended, err = change.Commit(ctx, reg.Store, j, change.Commitment{Incarnation: incarnation, Groups: ledger.Batches(facts), Urgent: true, Looked: known})
	if err != nil {
		return 0, 0, err
	}
	reg.Audit(trail.ContactsRevoked, name, by, zap.Int(trail.DetailRevocations, added), zap.Int(trail.DetailConnections, ended))
	return added, ended, nil
}

// RevocationWarning returns why v may not have the whole effect that its caller expects, or "".
func (reg *Registry) RevocationWarning(name string, v revocation.Revocation) string {
	return cmp.Or(v.Warning(), reg.clockWarning(name, v))
}

// clockWarning returns a warning if v is a revocation by the time of this node, whose clock is further behind that of another node
// than clock_skew allows for: tokens that were issued a moment ago may count as later. It returns "" otherwise.
func (reg *Registry) clockWarning(name string, v revocation.Revocation) string {
	if v.IsToken() || v.Before != nil {
		return ""
	}
	skew := config.DefaultClockSkew
	if m := reg.Messengers[name]; m != nil {
		skew = config.DurationOr(m.ClockSkew, skew)
	} else if e, ok := reg.Store.cached(name); ok {
		skew = config.DurationOr(e.messenger.ClockSkew, skew)
	}
	behind := reg.Store.follower.Behind()
	if behind <= skew {
		return ""
	}
	return fmt.Sprintf("the clock of this node is at least %s behind that of another one: tokens that were issued within that time may not be revoked; set the clocks (NTP), and revoke these tokens by their jti, or reset the key",
		behind.Round(time.Second))
}

// ByContact is the actor of a logout.
const ByContact Actor = ledger.ByContact

// journalOf returns the journal of a messenger and its settings. It looks whether the messenger was deleted or created again on
// another node: a revocation of the former one would be acknowledged, and revoke nothing. known reports that it looked after the
// journal was read; see change.Commitment.
func (reg *Registry) journalOf(ctx context.Context, name string) (j *ledger.Journal, m *config.Messenger, known bool, err error) {
	s := reg.Store
	kind, configured := ledger.KindStored, reg.Messengers[name]
	if configured != nil {
		kind = ledger.KindRing
	} else if config.CheckName(name) != nil {
		return nil, nil, false, change.ErrNoMessenger
	}
	if j := s.inMemory(name, kind); j != nil {
		if kind == ledger.KindRing {
			return j, configured.Messenger, true, nil
		}
		replaced := j.IsReplaced(ctx, s.Vault)
		if e, ok := s.cached(name); ok && e.journal == j && !replaced {
			return j, e.messenger.Messenger, true, nil
		}
	}
	j, err = s.fresh(ctx, name, kind)
	if err != nil {
		return nil, nil, false, apierror.Storage(err)
	}
	if kind == ledger.KindRing {
		return j, configured.Messenger, true, nil
	}
	r := j.Record()
	if r == nil {
		return nil, nil, false, change.ErrNoMessenger
	}
	return j, r.Settings, false, nil
}

// Restore undoes a revocation: tokens that are otherwise valid are accepted again.
func (reg *Registry) Restore(ctx context.Context, name string, v revocation.Revocation) error {
	if err := v.Check(); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	j, _, err := reg.journal(ctx, name)
	if err != nil {
		return err
	}
	incarnation, undo, err := j.Undo(&v, Now())
	if err != nil {
		return change.Error(err)
	}
	c := change.Commitment{Incarnation: incarnation, Groups: [][]*ledger.Fact{{undo}}, Urgent: true, Looked: true}
	c.Between = func(written []*ledger.Fact) (int, error) { return change.Look(ctx, reg.Store, j, written) }
	if _, err := change.Commit(ctx, reg.Store, j, c); err != nil {
		return err
	}
	if err := j.CheckUndone(undo); err != nil {
		return change.Error(err)
	}
	return nil
}

// Revocations returns the active revocations of a messenger, the newest first.
func (reg *Registry) Revocations(ctx context.Context, name string) ([]revocation.Revocation, error) {
	j, m, err := reg.journal(ctx, name)
	if err != nil {
		return nil, err
	}
	return j.Revocations(time.Duration(m.MaxLifetime), Now()), nil
}
