package registry

import (
	"context"
	"net/http"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
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
		return nil, apierror.Storage(err)
	}
	return j.Record(), nil
}

// StoredRecord returns what the store has of a stored messenger. It returns change.ErrNoMessenger if there is none.
func (reg *Registry) StoredRecord(ctx context.Context, name string) (*ledger.Record, error) {
	r, err := reg.Record(ctx, name, ledger.KindStored)
	if err == nil && r == nil {
		return nil, change.ErrNoMessenger
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

// journal returns the journal of a messenger with everything that the storage has now, and the messenger's settings.
func (reg *Registry) journal(ctx context.Context, name string) (*ledger.Journal, *config.Messenger, error) {
	m, kind, err := reg.RecordKind(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	j, err := reg.Store.fresh(ctx, name, kind)
	return j, m, apierror.Storage(err)
}

// Put creates a stored messenger, or changes its settings. Its shared tokens stay, unless the validation method changes. Of two
// callers who change the same settings at once, on any nodes, at most one succeeds.
func (reg *Registry) Put(ctx context.Context, name string, settings *config.Messenger, c change.Condition) (r *ledger.Record, created bool, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, false, err
	}
	defer end()
	j, err := reg.Store.fresh(ctx, name, ledger.KindStored)
	if err != nil {
		return nil, false, apierror.Storage(err)
	}
	return reg.Store.put(ctx, j, change.Settings{New: settings, Condition: c, Urgent: true})
}

// put makes a version of the settings the current one; see change.PutSettings.
func (s *Store) put(ctx context.Context, j *ledger.Journal, p change.Settings) (*ledger.Record, bool, error) {
	p.Sealed = s.Seal.Enabled()
	return change.PutSettings(ctx, s, j, p)
}

// Remove deletes a stored messenger with its shared tokens, and returns how many connections it closed on this node. A
// messenger that cannot be read can be deleted only without a condition, because none can be checked.
func (reg *Registry) Remove(ctx context.Context, name string, c change.Condition) (ended int, unreadable bool, err error) {
	if config.CheckName(name) != nil {
		return 0, false, change.ErrNoMessenger
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
		return 0, false, apierror.Storage(err)
	}
	r := j.Record()
	if r == nil && !unreadable {
		if reg.Messengers[name] != nil {
			return 0, false, apierror.New(http.StatusConflict, "this messenger is in the configuration; remove it there")
		}
		return 0, false, change.ErrNoMessenger
	}
	if err := c.Check(r); err != nil {
		return 0, false, err
	}
	if f := j.Deletion(Now()); f != nil {
		if ended, err = s.Write(ctx, j, ledger.NameFolder, true, f); err != nil {
			return 0, false, apierror.Storage(err)
		}
	}
	if err := s.Delete(ctx, j.RecordKey()); err != nil { // of an older version; there is none as a rule
		return 0, false, apierror.Storage(err)
	}
	more, err := s.Again(ctx, j)
	if err != nil {
		return 0, false, apierror.Storage(err)
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
