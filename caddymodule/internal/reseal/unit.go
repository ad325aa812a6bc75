package reseal

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A content has the values of one unit: all values of a messenger or of a key set, or one value.
type content struct {
	unit   string
	values []*value // in the order of their keys

	// Of a messenger: what its facts say.
	ring, stored *ledger.Journal
}

// A value is a value of a unit.
type value struct {
	vault.Sealed
	kind  *kind
	batch vault.Key // of a fact
	err   error     // why it cannot be opened, or nil
	gone  bool      // it was removed since it was listed
}

// unit handles one unit.
func (r *run) unit(ctx context.Context, unit string) error {
	c, err := r.read(ctx, unit)
	if err != nil {
		return err
	}
	for _, v := range c.values {
		r.count(v)
	}
	if !r.options.Check {
		if err := r.reseal(ctx, c); err != nil {
			return err
		}
	}
	return r.discard(ctx, c)
}

// count counts a value that was looked at.
func (r *run) count(v *value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case v.gone:
	case v.kind == foreign:
		r.step.Foreign++
		r.name(v, "", false)
	default:
		r.step.Values++
		if v.err != nil {
			r.step.Unreadable++
		} else if v.kind.fact {
			r.step.Opened++
		}
	}
}

// read reads the values of a unit.
func (r *run) read(ctx context.Context, unit string) (*content, error) {
	root := path.Join(vault.StoreRoot, unit)
	c := &content{unit: unit}
	if config.CheckName(unit) == nil {
		c.ring, c.stored = ledger.New(unit, ledger.KindRing), ledger.New(unit, ledger.KindStored)
	}
	keys := []string{root}
	if !isSingle(unit) {
		r.take()
		var err error
		keys, err = r.store.List(ctx, root, true)
		r.release(0)
		if err != nil || len(keys) == 0 {
			_, absent := r.store.Inspect(ctx, root, true)
			switch {
			case absent == nil, vault.IsUnreadable(absent):
				keys = []string{root} // a foreign value in place of a folder
			case err != nil:
				return nil, err
			}
		}
	}
	for _, key := range keys {
		if isTemporary(key) || vault.IsListed(key) {
			continue
		}
		v := &value{Sealed: vault.Sealed{Key: key}, kind: kindOf(key)}
		v.batch, _ = vault.ParseKey(key)
		c.values = append(c.values, v)
	}
	return c, vault.UntilError(ctx, c.values, func(_ int, v *value) error { return r.open(ctx, c, v) })
}

// isTemporary reports whether a file system may have a file of this name for a moment, or since a process died.
func isTemporary(key string) bool { return strings.Trim(path.Base(key), "0123456789") == "" }

// open opens a value. An error is about the storage.
func (r *run) open(ctx context.Context, c *content, v *value) error {
	if v.kind == foreign {
		return nil
	}
	r.take()
	var err error
	v.Sealed, err = r.store.Inspect(ctx, v.Key, r.options.Adopt)
	r.release(0)
	if errors.Is(err, fs.ErrNotExist) {
		return r.missing(ctx, v)
	}
	if vault.IsUnreadable(err) {
		v.err = err
	} else if err != nil {
		return err
	}
	switch {
	case v.batch == (vault.Key{}):
		return nil
	case v.err != nil:
		v.fail(c, v.err)
		return nil
	}
	texts, err := vault.DecodeBatch(v.Value)
	v.Value = nil // it is read once more before it is written, and there may be many
	if err == nil && c.ring != nil {
		err = errors.Join(c.ring.Add(v.batch, texts, registry.Now()), c.stored.Add(v.batch, texts, registry.Now()))
	}
	if errors.Is(err, vault.ErrDamaged) {
		v.fail(c, err)
	}
	return nil
}

// fail records that a fact cannot be read.
func (v *value) fail(c *content, err error) {
	v.err = err
	if c.ring == nil {
		return
	}
	for _, j := range []*ledger.Journal{c.ring, c.stored} {
		if j.Lacks(v.batch) {
			j.SetUnreadable(v.batch, err)
		}
	}
}

var errGone = errors.New("it is listed, and has no value")

// missing is open for a key that was listed and has no value. It was removed since, or its writer died; some storages then list it for good.
func (r *run) missing(ctx context.Context, v *value) error {
	if v.batch != (vault.Key{}) {
		_, err := r.store.Vault.LoadBatch(ctx, v.batch)
		if v.gone = err == nil; err == nil || vault.IsUnreadable(err) {
			v.err = err
			return nil
		}
		return err
	}
	names, err := r.store.List(ctx, path.Dir(v.Key), false)
	if err != nil {
		return err
	}
	if !slices.Contains(names, v.Key) {
		v.gone = true
		return nil
	}
	// Some storages list a value before they have it: it may be a new one.
	if v.Sealed, err = r.store.Inspect(ctx, v.Key, r.options.Adopt); errors.Is(err, fs.ErrNotExist) {
		err = errGone
	} else if err != nil && !vault.IsUnreadable(err) {
		return err
	}
	v.err = err
	return nil
}

// reseal seals the values of a unit again that are not sealed with the first key.
func (r *run) reseal(ctx context.Context, c *content) error {
	removed, err := r.prune(ctx, c)
	if err != nil {
		return err
	}
	old := slices.DeleteFunc(slices.Clone(c.values), func(v *value) bool {
		return v.gone || v.err != nil || v.kind == foreign || v.Current || removed[v.batch]
	})
	return vault.UntilError(ctx, old, func(_ int, v *value) error { return r.write(ctx, c, v) })
}

// prune removes the obsolete facts of a messenger. Only prune removes those of a deleted messenger, which no node has in memory. Obsolete
// facts must not be written again, because they could reappear after another node has removed them.
func (r *run) prune(ctx context.Context, c *content) (map[vault.Key]bool, error) {
	removed := make(map[vault.Key]bool)
	if c.ring == nil {
		return removed, nil
	}
	for _, j := range []*ledger.Journal{c.ring, c.stored} {
		keys, err := j.PruneForReseal(ctx, r.store.Vault, registry.Now())
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			removed[key] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step.Removed += len(removed)
	return removed, nil
}

// write seals one value with the first key. It reads the value once more immediately before, so that a removed value does not reappear.
func (r *run) write(ctx context.Context, c *content, v *value) error {
	r.take()
	var took time.Duration
	defer func() { r.release(took) }()
	s, err := r.store.Inspect(ctx, v.Key, r.options.Adopt)
	if errors.Is(err, fs.ErrNotExist) || vault.IsUnreadable(err) || err == nil && s.Current {
		return nil // it has changed meanwhile; a second run reports its new state
	}
	if err != nil {
		return err
	}
	began := time.Now()
	defer func() { took = time.Since(began) }()
	switch {
	case v.Key == vault.NotificationKey:
		_, err = r.store.Renew(ctx, v.Key)
	case r.store.IsOwnList(v.Key):
		err = r.store.Republish(ctx)
	case vault.BelongsToWriter(v.Key, s.Value):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.step.Left++
		return nil
	case v.kind == record && c.isDeleted(v.Key):
		return r.store.Delete(ctx, v.Key)
	default:
		err = r.store.Reseal(ctx, s)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step.Resealed++
	r.folders[path.Dir(v.Key)] = true
	return nil
}

// isDeleted reports whether the record of an older version at key is that of a messenger that was deleted.
func (c *content) isDeleted(key string) bool {
	_, deleted := c.journalOf(key).IsCarriedOver()
	return deleted
}

// journalOf returns the journal to which the record of an older version belongs.
func (c *content) journalOf(key string) *ledger.Journal {
	if key == c.ring.RecordKey() {
		return c.ring
	}
	return c.stored
}
