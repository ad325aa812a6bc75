package admin

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// ChangeTokensAndEnd is ChangeTokens, and also returns how many connections of this node it has ended.
func (s *Service) ChangeTokensAndEnd(ctx context.Context, name string, change RingChange, c registry.Condition, by registry.Actor) (made *registry.NewToken, ended int, err error) {
	kind, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	_, ended, err = s.ChangeAndEnd(ctx, name, kind, func(old *registry.Record) (*registry.Record, error) {
		if err := c.Check(old); err != nil {
			return nil, err
		}
		if old == nil {
			if kind == registry.KindStored {
				return nil, registry.ErrNoMessenger
			}
			old = new(registry.Record)
		}
		var err error
		if made, err = change.apply(old); err != nil {
			status := http.StatusConflict
			if errors.Is(err, registry.ErrNoToken) {
				status = http.StatusNotFound
			}
			return nil, caddy.APIError{HTTPStatus: status, Err: err}
		}
		old.Revision = "" // it gets a new one
		if change.close {
			old.Closings++
		}
		return old, nil
	})
	if err != nil {
		return nil, 0, err
	}
	kid := change.kid
	if made != nil {
		kid = made.KeyID
		if change.close {
			made.Ended = &ended
		}
	}
	s.Audit(change.action, name, by, zap.String("kid", kid), zap.Bool("close_connections", change.close), zap.Int("connections", ended))
	return made, ended, nil
}
