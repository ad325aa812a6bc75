package registry

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Record returns what the store has of a messenger, or nil if there is nothing.
func (reg *Registry) Record(ctx context.Context, name, kind string) (*ledger.Record, error) {
	if config.CheckName(name) != nil {
		return nil, nil
	}
	j, err := reg.Store.fresh(ctx, name, kind)
	if err != nil {
		return nil, StorageError(err)
	}
	return j.Record(), nil
}

// StoredRecord returns what the store has of a stored messenger. It returns ErrNoMessenger if there is none.
func (reg *Registry) StoredRecord(ctx context.Context, name string) (*ledger.Record, error) {
	r, err := reg.Record(ctx, name, ledger.KindStored)
	if err == nil && r == nil {
		return nil, ErrNoMessenger
	}
	return r, err
}

// RecordKind returns the messenger's settings, and the kind of its record.
func (reg *Registry) RecordKind(ctx context.Context, name string) (*config.Messenger, string, error) {
	if m := reg.Messengers[name]; m != nil {
		return m.Messenger, ledger.KindRing, nil
	}
	r, err := reg.StoredRecord(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return r.Settings, ledger.KindStored, nil
}

// Put creates a stored messenger, or changes its settings. Its shared tokens stay, unless the validation method changes. Of two
// callers who change the same settings at once, on any nodes, at most one succeeds.
func (reg *Registry) Put(ctx context.Context, name string, settings *config.Messenger, c Condition) (r *ledger.Record, created bool, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, false, err
	}
	defer end()
	j, err := reg.Store.fresh(ctx, name, ledger.KindStored)
	if err != nil {
		return nil, false, StorageError(err)
	}
	return reg.Store.put(ctx, j, putting{settings: settings, condition: c, urgent: true})
}

// errSecretsOpen is the error for settings with secrets of others where the storage would show them to all who can read it.
var errSecretsOpen = StatusError(http.StatusConflict, "jwks header has a secret, which is stored sealed or not at all: give the store a key, with store { key {file.…} } in the "+
	"global option messenger { … }, or configure this messenger in the Caddyfile with a placeholder")

// A putting is what is written by a change of settings.
type putting struct {
	settings  *config.Messenger
	condition Condition
	urgent    bool
	created   *time.Time     // of a new messenger, if that is not now
	before    []*ledger.Fact // of a new messenger: what is in the storage before its settings are, so that no revoked token is valid for a moment
}

// put makes a version of the settings the current one. The caller has begun a change of the name, and j has everything that the
// storage has.
func (s *Store) put(ctx context.Context, j *ledger.Journal, p putting) (r *ledger.Record, created bool, err error) {
	settings := p.settings
	before := j.Record()
	if err := p.condition.Check(before); err != nil {
		return nil, false, err
	}
	if before != nil && errors.Is(before.Unusable, vault.ErrNewer) {
		return nil, false, errNewerSettings
	}
	settings, err = p.condition.next(before, settings, Now())
	if err != nil {
		return nil, false, err
	}
	if settings.HasSecrets() && !s.Seal.Enabled() {
		return nil, false, errSecretsOpen
	}
	version, incarnation, err := j.NextVersion(settings, Now())
	if err != nil {
		return nil, false, err
	}
	v := version[0]
	if p.created != nil {
		v.Created = p.created
	}
	if err = s.writeFirst(ctx, j, incarnation, p, version); err == nil {
		_, err = s.again(ctx, j)
	}
	if err != nil {
		return nil, false, StorageError(err)
	}
	if j.HasRival(incarnation, v) || hasLost(j, incarnation) {
		return nil, false, s.withdraw(ctx, j, incarnation, p, version)
	}
	if Now().Round(0).Sub(v.At) > ledger.Undecided { // the machine was suspended, and others do not wait any more
		return nil, false, StorageError(vault.ErrUnknown)
	}
	if _, err = s.write(ctx, j, incarnation, p.urgent, j.Confirmation(v, before, settings, Now())...); err == nil {
		_, err = s.again(ctx, j)
	}
	if err != nil {
		return nil, false, StorageError(err)
	}
	if err := s.settleContest(ctx, j, incarnation); err != nil {
		return nil, false, err
	}
	if r = j.Record(); r == nil {
		return nil, false, errTwoWriters // it was deleted meanwhile
	}
	return r, before == nil, nil
}

// writeFirst writes a version of the settings together with what has to be there before: if it fits, in one batch.
func (s *Store) writeFirst(ctx context.Context, j *ledger.Journal, incarnation string, p putting, version []*ledger.Fact) error {
	for _, facts := range ledger.Batches(append(slices.Clone(p.before), version...)) {
		if _, err := s.write(ctx, j, incarnation, p.urgent, facts...); err != nil {
			return err
		}
	}
	return nil
}

// withdraw undoes a version that has a rival, and returns what its caller is told.
func (s *Store) withdraw(ctx context.Context, j *ledger.Journal, incarnation string, p putting, version []*ledger.Fact) error {
	v := version[0]
	withdrawal := j.Withdrawal(v, Now())
	_, err := s.write(ctx, j, incarnation, p.urgent, withdrawal)
	if err == nil {
		_, err = s.again(ctx, j)
	}
	if err == nil && j.IsBuiltUpon(incarnation, v, slices.Concat(p.before, version, []*ledger.Fact{withdrawal})) {
		err = vault.ErrUnknown
	}
	if err != nil {
		return StorageError(err)
	}
	return errTwoWriters
}

// hasLost reports whether another node has created a messenger of the same name that goes first.
func hasLost(j *ledger.Journal, incarnation string) bool {
	lost, _ := j.Contest(incarnation)
	return lost
}

// settleContest looks whether another node has created a messenger of the same name that goes first, and waits for a moment as long
// as that is not decided.
func (s *Store) settleContest(ctx context.Context, j *ledger.Journal, incarnation string) error {
	for range 40 {
		switch lost, open := j.Contest(incarnation); {
		case lost:
			return errTwoWriters
		case !open:
			j.SetSettled(incarnation)
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
		if _, err := s.again(ctx, j); err != nil {
			return StorageError(err)
		}
	}
	return StorageError(vault.ErrUnknown)
}

// checkContest looks whether what was just written to an incarnation counts, before it is answered, and confirms the creation if that
// was not confirmed before it was written. looked says that the storage was looked at after the journal knew of that: an earlier creation
// that is not decided is in the journal then.
func (s *Store) checkContest(ctx context.Context, j *ledger.Journal, incarnation string, confirmed, looked bool) error {
	if j.Kind != ledger.KindStored {
		return nil
	}
	look := func() error {
		_, err := s.again(ctx, j)
		return err
	}
	if !confirmed || !looked {
		if err := look(); err != nil {
			return StorageError(err)
		}
	}
	if !confirmed && !j.IsConfirmed(incarnation) {
		confirmation := j.ConfirmCreation(incarnation, Now())
		if confirmation == nil || hasLost(j, incarnation) {
			return StorageError(vault.ErrUnknown)
		}
		_, err := s.write(ctx, j, incarnation, true, confirmation)
		if err == nil {
			err = look()
		}
		if err != nil {
			return StorageError(err)
		}
	}
	return s.settleContest(ctx, j, incarnation)
}

// Remove deletes a stored messenger with its shared tokens, and returns how many connections of this node that has ended. A
// messenger that cannot be read can be deleted only without a condition, because none can be checked.
func (reg *Registry) Remove(ctx context.Context, name string, c Condition) (ended int, unreadable bool, err error) {
	if config.CheckName(name) != nil {
		return 0, false, ErrNoMessenger
	}
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return 0, false, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, ledger.KindStored)
	unreadable = vault.IsUnreadable(err) && c.IsEmpty()
	if err != nil && !unreadable {
		return 0, false, StorageError(err)
	}
	r := j.Record()
	if r == nil && !unreadable {
		if reg.Messengers[name] != nil {
			return 0, false, StatusError(http.StatusConflict, "this messenger is in the configuration; remove it there")
		}
		return 0, false, ErrNoMessenger
	}
	if err := c.Check(r); err != nil {
		return 0, false, err
	}
	if f := j.Deletion(Now()); f != nil {
		if ended, err = s.write(ctx, j, ledger.NameFolder, true, f); err != nil {
			return 0, false, StorageError(err)
		}
	}
	if err := j.DeleteRecord(ctx, s.Vault); err != nil { // of an older version; there is none as a rule
		return 0, false, StorageError(err)
	}
	more, err := s.again(ctx, j)
	if err != nil {
		return 0, false, StorageError(err)
	}
	s.Uses.Drop(ctx, name, ledger.KindStored)
	if r != nil {
		s.ForgetUnused(ctx, r.Settings, new(config.Messenger))
	}
	return ended + more, unreadable, nil
}

// ForgetUnused removes the copies of the key sets that before uses and next does not. If another messenger uses the URL, its next fetch
// stores the copy again.
func (s *Store) ForgetUnused(ctx context.Context, before, next *config.Messenger) {
	kept := next.KeySetURLs()
	for _, url := range before.KeySetURLs() {
		if !slices.Contains(kept, url) {
			_ = s.KeySets.Forget(ctx, url)
		}
	}
}
