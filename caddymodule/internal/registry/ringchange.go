package registry

import (
	"context"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// ChangeRing changes the shared tokens of a messenger. It returns the token that was made, if any, and how many connections of
// this node were ended.
func (reg *Registry) ChangeRing(ctx context.Context, name, kind string, ring ledger.RingChange, c change.Condition) (made *ledger.NewToken, ended int, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, kind) // all facts, so that a token that another node has made is not missed
	if err != nil {
		return nil, 0, apierror.Storage(err)
	}
	r := j.Record()
	if err := c.Check(r); err != nil {
		return nil, 0, err
	}
	if r == nil && kind == ledger.KindStored {
		return nil, 0, change.ErrNoMessenger
	}
	if err := c.Confirms(config.Loss{Tokens: ring.Revokes(r)}, "rotate with an overlap above 0"); err != nil {
		return nil, 0, err
	}
	incarnation, made, facts, err := j.ChangeRing(ring, Now())
	if err != nil {
		return nil, 0, change.Error(err)
	}
	confirmed := j.IsConfirmed(incarnation)
	if ended, err = s.Write(ctx, j, incarnation, true, facts...); err != nil {
		return nil, 0, apierror.Storage(err)
	}
	more, err := change.KeepToken(ctx, s, j, incarnation, facts)
	if err != nil {
		return nil, 0, apierror.Storage(err)
	}
	if err := change.CheckContest(ctx, s, j, incarnation, confirmed, true); err != nil {
		return nil, 0, err
	}
	return made, ended + more, nil
}
