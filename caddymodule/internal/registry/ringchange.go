package registry

import (
	"context"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// ChangeRing changes the shared tokens of a messenger. It returns the token that was made, if any, and how many connections of
// this node were ended.
func (reg *Registry) ChangeRing(ctx context.Context, name, kind string, change ledger.RingChange, c Condition) (made *ledger.NewToken, ended int, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, kind) // all facts, so that a token that another node has made is not missed
	if err != nil {
		return nil, 0, StorageError(err)
	}
	r := j.Record()
	if err := c.Check(r); err != nil {
		return nil, 0, err
	}
	if r == nil && kind == ledger.KindStored {
		return nil, 0, ErrNoMessenger
	}
	if err := c.confirms(config.Loss{Tokens: change.Revokes(r)}); err != nil {
		return nil, 0, err
	}
	incarnation, made, facts, err := j.ChangeRing(change, Now())
	if err != nil {
		return nil, 0, changeError(err)
	}
	confirmed := j.IsConfirmed(incarnation)
	if ended, err = s.write(ctx, j, incarnation, true, facts...); err != nil {
		return nil, 0, StorageError(err)
	}
	more, err := s.keepToken(ctx, j, incarnation, facts)
	if err != nil {
		return nil, 0, StorageError(err)
	}
	if err := s.checkContest(ctx, j, incarnation, confirmed, true); err != nil {
		return nil, 0, err
	}
	return made, ended + more, nil
}

// keepToken looks again whether a node has reset the tokens at the same instant, without knowing of the one that was just made.
// It has not been shown yet, and outlives the reset.
func (s *Store) keepToken(ctx context.Context, j *ledger.Journal, incarnation string, facts []*ledger.Fact) (ended int, err error) {
	for {
		more, err := s.again(ctx, j)
		if err != nil {
			return 0, err
		}
		ended += more
		missed := j.MissedResets(incarnation, facts)
		if missed == nil {
			return ended, nil
		}
		if _, err := s.write(ctx, j, incarnation, true, missed); err != nil {
			return 0, err
		}
	}
}
