package admin

import (
	"context"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// ChangeTokensAndEnd is ChangeTokens, and also returns how many connections of this node it has ended.
func (s *Service) ChangeTokensAndEnd(ctx context.Context, name string, change registry.RingChange, c registry.Condition, by registry.Actor) (made *registry.NewToken, ended int, err error) {
	kind, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	if made, ended, err = s.ChangeRing(ctx, name, kind, change, c); err != nil {
		return nil, 0, err
	}
	kid := change.KeyID
	if made != nil {
		kid = made.KeyID
		if change.Close {
			made.Ended = &ended
		}
	}
	s.Audit(change.Action, name, by, zap.String("kid", kid), zap.Bool("close_connections", change.Close), zap.Int("connections", ended))
	return made, ended, nil
}
