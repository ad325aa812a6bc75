package registry

import (
	"context"
	"errors"

	"github.com/caddyserver/caddy/v2"
)

// ChangeAndEnd is change for what is meant to end connections, and returns how many of this node it has ended.
func (a *Registry) ChangeAndEnd(ctx context.Context, name, kind string, f func(old *Record) (*Record, error)) (r *Record, ended int, err error) {
	r, err = a.Store.change(ctx, name, kind, f, func(r *Record) (err error) {
		ended, err = a.Store.Changed(name, kind, r)
		return err
	})
	if err == nil {
		return r, ended, nil
	}
	if !errors.As(err, new(caddy.APIError)) {
		_ = a.Store.reread(ctx, name) // it may have been written all the same
	}
	return nil, 0, StorageError(err)
}
