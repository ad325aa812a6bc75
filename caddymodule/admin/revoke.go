package admin

import (
	"context"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// UndoRevocation undoes a revocation: tokens that are otherwise valid are accepted again.
func (s *Service) UndoRevocation(ctx context.Context, name string, v ledger.Revocation, by registry.Actor) error {
	if err := s.Restore(registry.WithActor(ctx, by), name, v); err != nil {
		return err
	}
	s.Audit("revocation removed", name, by, zap.String("target", v.Target()))
	return nil
}
