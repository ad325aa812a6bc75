package change

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Settings are what a change of settings writes.
type Settings struct {
	New       *config.Messenger
	Condition Condition
	Sealed    bool // whether the storage seals what is written
	Urgent    bool

	// Of a new messenger that is imported:
	Created     *time.Time     // if that is not now
	Incarnation string         // that was begun for it, or ""
	Before      []*ledger.Fact // what is in the storage before its settings are, so that no revoked token is valid for a moment
}

// PutSettings makes a version of the settings the current one. The caller has begun a change of the name, and j has everything that the
// storage has.
func PutSettings(ctx context.Context, n Node, j *ledger.Journal, p Settings) (r *ledger.Record, created bool, err error) {
	before := j.Record()
	if err := p.Condition.Check(before); err != nil {
		return nil, false, err
	}
	if before != nil && errors.Is(before.Unusable, vault.ErrNewer) {
		return nil, false, errNewerSettings
	}
	settings, err := p.Condition.next(before, p.New, vault.Now())
	if err != nil {
		return nil, false, err
	}
	if settings.HasSecrets() && !p.Sealed {
		return nil, false, errSecretsOpen
	}
	version, incarnation, err := j.NextVersion(settings, vault.Now())
	if err != nil {
		return nil, false, err
	}
	v := version[0]
	if before == nil {
		incarnation = cmp.Or(p.Incarnation, incarnation)
	}
	if p.Created != nil {
		j.SetCreated(v, *p.Created)
	}
	if err = writeFirst(ctx, n, j, incarnation, p, version); err == nil {
		_, err = Look(ctx, n, j, version)
	}
	if err != nil {
		return nil, false, apierror.Storage(err)
	}
	if j.HasRival(incarnation, v) || hasLost(j, incarnation) {
		return nil, false, withdraw(ctx, n, j, incarnation, p, version)
	}
	if vault.Now().Round(0).Sub(v.At) > ledger.Undecided { // the machine was suspended, and others do not wait any more
		return nil, false, apierror.Storage(vault.ErrUnknown)
	}
	if err := writeAndLook(ctx, n, j, incarnation, p.Urgent, j.Confirmation(v, before, settings, vault.Now())...); err != nil {
		return nil, false, err
	}
	if err := settleContest(ctx, n, j, incarnation); err != nil {
		return nil, false, err
	}
	if r = j.Record(); r == nil {
		return nil, false, errTwoWriters // it was deleted meanwhile
	}
	return r, before == nil, nil
}

// writeFirst writes a version of the settings together with what has to be there before: if it fits, in one batch. The facts of the
// version are in one batch however large the settings are; see [ledger.Journal.NextVersion].
func writeFirst(ctx context.Context, n Node, j *ledger.Journal, incarnation string, p Settings, version []*ledger.Fact) error {
	batches := ledger.Batches(append(slices.Clone(p.Before), version[0]))
	last := len(batches) - 1
	batches[last] = append(batches[last], version[1:]...)
	for _, facts := range batches {
		if _, err := n.Write(ctx, j, incarnation, p.Urgent, facts...); err != nil {
			return err
		}
	}
	return nil
}

// withdraw undoes a version that has a rival, and returns what its caller is told.
func withdraw(ctx context.Context, n Node, j *ledger.Journal, incarnation string, p Settings, version []*ledger.Fact) error {
	v := version[0]
	withdrawal := j.Withdrawal(v, vault.Now())
	if err := writeAndLook(ctx, n, j, incarnation, p.Urgent, withdrawal); err != nil {
		return err
	}
	if j.IsBuiltUpon(incarnation, v, slices.Concat(p.Before, version, []*ledger.Fact{withdrawal})) {
		return apierror.Storage(vault.ErrUnknown)
	}
	return errTwoWriters
}
