package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

var errNotRevoked = registry.StatusError(http.StatusNotFound, "no such revocation exists")

// restore undoes a revocation: tokens that are otherwise valid are accepted again.
func (s *Service) restore(ctx context.Context, name string, v registry.Revocation, by registry.Actor) error {
	if err := v.Check(); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	_, kind, err := s.RecordKind(ctx, name)
	if err != nil {
		return err
	}
	_, err = s.Change(ctx, name, kind, func(old *registry.Record) (*registry.Record, error) {
		if old == nil {
			return nil, errNotRevoked
		}
		kept := slices.DeleteFunc(slices.Clone(old.Revocations), v.SameTarget)
		if len(kept) == len(old.Revocations) {
			if v.Covers = true; slices.ContainsFunc(kept, v.SameTarget) {
				return nil, registry.ErrCovers
			}
			return nil, errNotRevoked
		}
		old.Revocations = kept
		return old, nil
	})
	if err != nil {
		return err
	}
	s.Audit("revocation removed", name, by, zap.String("target", v.Target()))
	return nil
}

// revocations returns the active revocations, the newest first.
func (s *Service) revocations(ctx context.Context, name string) ([]registry.Revocation, error) {
	m, kind, err := s.RecordKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := s.Store.Read(ctx, name, kind)
	if err != nil {
		return nil, registry.StorageError(err)
	}
	list := []registry.Revocation{}
	if r != nil {
		now := time.Now()
		for _, v := range slices.Backward(r.Revocations) {
			kept := v.KeptUntil(time.Duration(m.MaxLifetime))
			if kept != nil && !now.Before(*kept) {
				continue // it covers only tokens that have expired
			}
			if kept != nil || v.Until != nil && !now.Before(*v.Until) {
				v.Until = kept
			}
			list = append(list, v)
		}
	}
	return list, nil
}
