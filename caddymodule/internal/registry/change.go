package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/namelock"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Where a messenger comes from.
const (
	SourceConfig = "config"
	SourceStored = "stored"
)

// A Condition is what must be true of the record of a messenger for a change to be made.
type Condition struct {
	Revision string // if not empty, the record must have this revision
	Absent   bool   // there must not be a record
	Present  bool   // there must be a record

	Confirm      int            // how many keys and shared tokens the change may take out of use, exactly; or AnyLoss
	KeepPrevious *time.Duration // of a change of settings: how long the method that is replaced stays in use; nil leaves that to the settings
}

// IsEmpty reports whether c requires nothing of the record.
func (c Condition) IsEmpty() bool { return c.Revision == "" && !c.Absent && !c.Present }

// Check returns an error with status 412 if old, which is nil if there is no record, does not meet the condition.
func (c Condition) Check(old *ledger.Record) error {
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

var (
	// ErrNoMessenger is the error for a name without a messenger.
	ErrNoMessenger = StatusError(http.StatusNotFound, "there is no messenger of this name, neither configured nor stored; see: caddy messenger list")

	errNewerSettings = StatusError(http.StatusConflict, "these settings were made by a newer version of the gateway, and this one would lose what it does not know; change them with that version, or delete the messenger")

	errTwoWriters = StatusError(http.StatusConflict, "another change of this messenger was made at the same moment, and this one was not; look at it again, and repeat the change if it still makes sense")
)

// changeError makes an API error from an error of the ledger, which says why a change cannot be made.
func changeError(err error) error {
	status := http.StatusConflict
	switch {
	case errors.As(err, new(caddy.APIError)):
		return err
	case errors.Is(err, ledger.ErrNothing):
		return ErrNoMessenger
	case errors.Is(err, ledger.ErrNoToken), errors.Is(err, ledger.ErrNotRevoked):
		status = http.StatusNotFound
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// StatusError makes an API error with an HTTP status.
func StatusError(status int, message string) error {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}

// StorageError makes an API error from err, which says why the storage cannot be read or written.
func StorageError(err error) error {
	if err == nil || errors.As(err, new(caddy.APIError)) {
		return err
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, vault.ErrNotSealed) {
		status = http.StatusConflict
	}
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("the storage: %w", err)}
}

// IsUnreadable reports whether an error of this package means that a value exists and cannot be trusted.
func IsUnreadable(err error) bool {
	if answer, ok := errors.AsType[caddy.APIError](err); ok {
		err = answer.Err
	}
	return vault.IsUnreadable(err)
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

// changeTimeout bounds a change together with waiting for others of the same messenger.
const changeTimeout = 30 * time.Second

// maxChanges is how many changes of one messenger may wait.
const maxChanges = 100

// beginChange waits until no other change of this messenger is made on this node.
func (s *Store) beginChange(ctx context.Context, name string) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	unlock, err := s.changing.LockWithin(ctx, name, maxChanges)
	switch {
	case errors.Is(err, namelock.ErrTooMany):
		cancel()
		return nil, nil, StatusError(http.StatusServiceUnavailable, "too many changes of this messenger are waiting")
	case err != nil:
		cancel()
		return nil, nil, StatusError(http.StatusServiceUnavailable, "other changes of this messenger have not ended in time")
	}
	return ctx, func() {
		unlock()
		cancel()
	}, nil
}

// fresh returns the journal of a name with everything that the storage has now. It has no messenger if there is none.
func (s *Store) fresh(ctx context.Context, name, kind string) (*ledger.Journal, error) {
	defer s.lock(name)()
	var j *ledger.Journal
	for _, held := range s.held(name) {
		if held.Kind == kind {
			j = held
		}
	}
	if j != nil {
		return j, s.readMore(ctx, j)
	}
	j, err := s.begin(ctx, name, kind)
	if errors.As(err, new(*unusableError)) {
		err = nil
	}
	return j, err
}

// again reads what others have written meanwhile, and makes it active together with what this node has written.
func (s *Store) again(ctx context.Context, j *ledger.Journal) (ended int, err error) {
	defer s.lock(j.Name)()
	failed := s.read(ctx, j)
	if j.Detached {
		return 0, cmp.Or(failed, j.Damage())
	}
	ended, err = s.apply(j, ledger.Effect{}) // also what could be read before it failed
	return ended, cmp.Or(failed, err)
}

// write adds facts about an incarnation of a messenger. When it returns nil, they are acknowledged, and active on this node.
func (s *Store) write(ctx context.Context, j *ledger.Journal, incarnation string, urgent bool, facts ...*ledger.Fact) (ended int, err error) {
	signFacts(ctx, facts)
	if settlement := j.Settlement(incarnation, Now()); settlement != nil {
		facts = append(facts, settlement)
	}
	texts, err := ledger.Encode(facts)
	if err != nil {
		return 0, err
	}
	s.countEnded(facts[0])
	_, err = s.writer.Append(ctx, j.Folder(incarnation), urgent, texts)
	ended = s.endedBy(facts[0])
	if err != nil {
		return 0, err
	}
	return ended, nil
}
