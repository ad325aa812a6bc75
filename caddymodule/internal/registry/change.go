package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Where a messenger is from.
const (
	SourceConfig = "config"
	SourceStored = "stored"
)

// An Actor is who makes a change, for the audit log.
type Actor string

// A Condition says on what a change may be made.
type Condition struct {
	Revision string // if not empty, what is there must have this revision
	Absent   bool   // nothing must be there
	Present  bool   // something must be there
}

func (c Condition) Check(old *Record) error {
	switch {
	case c.Absent && old != nil:
		return StatusError(http.StatusPreconditionFailed, "there is a stored messenger of this name already")
	case c.Present && old == nil:
		return StatusError(http.StatusPreconditionFailed, "there is nothing yet that could be changed")
	case c.Revision != "" && (old == nil || old.Revision != c.Revision):
		return StatusError(http.StatusPreconditionFailed, "it was changed meanwhile; look at it again, and repeat the change if it still makes sense")
	}
	return nil
}

func (a *Registry) StoredRecord(ctx context.Context, name string) (*Record, error) {
	if config.CheckName(name) != nil {
		return nil, ErrNoMessenger
	}
	r, err := a.Store.Read(ctx, name, KindStored)
	if err != nil {
		return nil, StorageError(err)
	}
	if r == nil || r.Settings == nil {
		return nil, ErrNoMessenger
	}
	return r, nil
}

var ErrNoMessenger = StatusError(http.StatusNotFound, "there is no messenger of this name, neither configured nor stored; list shows those that there are")

// StorageError answers for a storage that cannot be read or written.
func StorageError(err error) error {
	if errors.As(err, new(caddy.APIError)) {
		return err
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, vault.ErrNotSealed) {
		status = http.StatusConflict
	}
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("the storage: %w", err)}
}

// Change makes a change in the store and puts it into force on this node.
func (a *Registry) Change(ctx context.Context, name, kind string, f func(old *Record) (*Record, error)) (*Record, error) {
	r, _, err := a.ChangeAndEnd(ctx, name, kind, f)
	return r, err
}

// Audit writes down a change with who made it.
func (a *Registry) Audit(action, name string, by Actor, fields ...zap.Field) {
	a.Logger.Named("audit").Info(action, append([]zap.Field{zap.String("messenger", name), zap.String("by", string(by))}, fields...)...)
}

// AuditWarning writes down that the configuration works, and is probably not meant so.
func (a *Registry) AuditWarning(warning string, fields ...zap.Field) {
	a.Logger.Named("audit").Named("configuration").Warn(warning, append(fields, zap.String("by", "the configuration"))...)
}

// LookUp returns the messenger of that name as it is in force on this node.
func (a *Registry) LookUp(ctx context.Context, name string) (*Messenger, error) {
	m, rej := a.Find(ctx, name)
	switch {
	case rej == nil:
		return m, nil
	case rej.Code == authn.MessengerUnknown:
		return nil, ErrNoMessenger
	}
	return nil, StatusError(http.StatusServiceUnavailable, rej.Reason)
}

func StatusError(status int, message string) error {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}
