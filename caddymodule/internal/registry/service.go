package registry

import (
	"context"
	"errors"

	"github.com/caddyserver/caddy/v2"
)

// ChangeAndEnd is Change, and also returns how many connections of this node the change has ended.
func (reg *Registry) ChangeAndEnd(ctx context.Context, name, kind string, f func(old *Record) (*Record, error)) (r *Record, ended int, err error) {
	r, err = reg.Store.change(ctx, name, kind, f, func(r *Record) (err error) {
		ended, err = reg.Store.Changed(name, kind, r)
		return err
	})
	if err == nil {
		return r, ended, nil
	}
	if !errors.As(err, new(caddy.APIError)) {
		_ = reg.Store.reread(ctx, name) // the value may have been written in spite of the error
	}
	return nil, 0, StorageError(err)
}
