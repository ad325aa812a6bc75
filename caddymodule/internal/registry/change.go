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

// Where a messenger comes from.
const (
	SourceConfig = "config"
	SourceStored = "stored"
)

// An Actor is who makes a change, for the audit log.
type Actor string

// A Condition is what must be true of the stored record for a change to be made.
type Condition struct {
	Revision string // if not empty, the record must have this revision
	Absent   bool   // there must not be a record
	Present  bool   // there must be a record
}

// Check returns an error with status 412 if old, which is nil if there is no record, does not meet the condition.
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

// StoredRecord reads the record of a stored messenger. It returns ErrNoMessenger if there is none.
func (reg *Registry) StoredRecord(ctx context.Context, name string) (*Record, error) {
	if config.CheckName(name) != nil {
		return nil, ErrNoMessenger
	}
	r, err := reg.Store.Read(ctx, name, KindStored)
	if err != nil {
		return nil, StorageError(err)
	}
	if r == nil || r.Settings == nil {
		return nil, ErrNoMessenger
	}
	return r, nil
}

// ErrNoMessenger is the error for a name without a messenger.
var ErrNoMessenger = StatusError(http.StatusNotFound, "there is no messenger of this name, neither configured nor stored; list shows those that there are")

// StorageError makes an API error from err, which says why the storage cannot be read or written.
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

// Change changes a record in the store and makes the change active on this node. Other nodes notice it when they poll.
func (reg *Registry) Change(ctx context.Context, name, kind string, f func(old *Record) (*Record, error)) (*Record, error) {
	r, _, err := reg.ChangeAndEnd(ctx, name, kind, f)
	return r, err
}

// Audit logs a change and who made it.
func (reg *Registry) Audit(action, name string, by Actor, fields ...zap.Field) {
	reg.Logger.Named("audit").Info(action, append([]zap.Field{zap.String("messenger", name), zap.String("by", string(by))}, fields...)...)
}

// AuditWarning logs that the configuration is valid but probably not intended.
func (reg *Registry) AuditWarning(warning string, fields ...zap.Field) {
	reg.Logger.Named("audit").Named("configuration").Warn(warning, append(fields, zap.String("by", "the configuration"))...)
}

// LookUp returns the messenger of that name as it is active on this node.
func (reg *Registry) LookUp(ctx context.Context, name string) (*Messenger, error) {
	m, rej := reg.Find(ctx, name)
	switch {
	case rej == nil:
		return m, nil
	case rej.Code == authn.MessengerUnknown:
		return nil, ErrNoMessenger
	}
	return nil, StatusError(http.StatusServiceUnavailable, rej.Reason)
}

// StatusError makes an API error with an HTTP status.
func StatusError(status int, message string) error {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}
