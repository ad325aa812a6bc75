// Package change makes the changes of one messenger in the store: it checks the condition under which a caller wants a change, and
// decides, without locks of the storage, which of several simultaneous changes is made. Of two callers that change the same settings
// at once, on any nodes, at most one gets a success.
//
// It does not know which messengers there are, or how facts become active on a node (registry); what facts mean is ledger's concern.
//
// Begin reading with [Condition], and then with [PutSettings].
package change

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// A Node is what a change needs of the node that makes it. The registry's store is one.
type Node interface {
	// Write adds facts about an incarnation of a messenger. When it returns nil, they are acknowledged, and active on this node. It
	// returns how many connections it closed on this node.
	Write(ctx context.Context, j *ledger.Journal, incarnation string, urgent bool, facts ...*ledger.Fact) (ended int, err error)

	// Again reads the facts that other nodes have written meanwhile, and makes them active together with those of this node.
	Again(ctx context.Context, j *ledger.Journal) (ended int, err error)
}

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
		return apierror.New(http.StatusPreconditionFailed, "there is a stored messenger of this name already")
	case c.Present && old == nil:
		return apierror.New(http.StatusPreconditionFailed, "there is nothing yet that could be changed")
	case c.Revision != "" && (old == nil || old.Revision != c.Revision):
		return apierror.New(http.StatusPreconditionFailed, "it was changed meanwhile; look at it again, and repeat the change if it still makes sense")
	}
	return nil
}

var (
	// ErrNoMessenger is the error for a name without a messenger.
	ErrNoMessenger = apierror.New(http.StatusNotFound, "there is no messenger of this name, neither configured nor stored; see: caddy messenger list")

	errNewerSettings = apierror.New(http.StatusConflict, "these settings were made by a newer version of the gateway, and this one would lose what it does not know; change them with that version, or delete the messenger")

	errTwoWriters = apierror.New(http.StatusConflict, "another change of this messenger was made at the same moment, and this one was not; look at it again, and repeat the change if it still makes sense")

	// errSecretsOpen is the error for settings with secrets of another server if the storage is not encrypted.
	errSecretsOpen = apierror.New(http.StatusConflict, "jwks header has a secret, which is stored sealed or not at all: give the store a key, with store { key {file.…} } in the "+
		"global option messenger { … }, or configure this messenger in the Caddyfile with a placeholder")
)

// Error makes an API error from an error of the ledger, which says why a change cannot be made.
func Error(err error) error {
	status := http.StatusConflict
	switch {
	case errors.As(err, new(caddy.APIError)):
		return err
	case errors.Is(err, ledger.ErrNothing):
		return ErrNoMessenger
	case errors.Is(err, ledger.ErrNoToken), errors.Is(err, ledger.ErrNotRevoked):
		status = http.StatusNotFound
	case errors.As(err, new(ledger.InvalidError)):
		status = http.StatusBadRequest
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}
