package reseal

import (
	"context"
	"errors"
	"path"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Values that cannot be opened are replaced before they are removed, so that nothing that was revoked becomes valid again, even after a
// crash. A value that a newer version has written is never discarded.

// discard names the values of a unit that cannot be opened, and replaces them if the caller wants that.
func (r *run) discard(ctx context.Context, c *content) error {
	var lost []*value
	for _, v := range c.values {
		if v.err != nil && !v.gone {
			lost = append(lost, v)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	said := make(map[*value]string)
	for _, v := range lost {
		said[v] = c.lostWith(v) // before the journals know of the replacement
	}
	wanted := slices.DeleteFunc(slices.Clone(lost), func(v *value) bool { return !r.options.Discard || errors.Is(v.err, vault.ErrNewer) })
	if len(wanted) > 0 {
		if err := r.replace(ctx, c, wanted); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range lost {
		discarded := slices.Contains(wanted, v)
		if discarded {
			r.step.Discarded++
		}
		r.name(v, said[v], discarded)
	}
	return nil
}

// replace replaces and removes values of a unit.
func (r *run) replace(ctx context.Context, c *content, values []*value) error {
	if c.ring != nil {
		if err := r.replaceFacts(ctx, c, values); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(values, func(v *value) bool { return v.kind == distrust }) {
		id := path.Base(c.unit) // of a URL that is unknown
		if err := r.store.KeySets.Distrust(ctx, id); err != nil {
			return err
		}
		r.store.KeySets.Refetch(ctx, id)
	}
	for _, v := range values {
		var err error
		switch {
		case v.kind == notification, v.kind == origin:
			_, err = r.store.Renew(ctx, v.Key)
		case r.store.IsOwnList(v.Key):
			err = r.store.Republish(ctx)
		default:
			err = r.store.Delete(ctx, v.Key)
		}
		if err != nil {
			return err
		}
		if v.kind == list {
			r.store.ReadEverythingAgain()
		}
	}
	if c.ring == nil {
		return nil
	}
	err := r.store.ReadAgain(ctx, c.unit)
	if vault.IsUnreadable(err) {
		return nil // a newer version has written a part of it
	}
	return err
}

// replaceFacts writes the facts that replace those of a messenger.
func (r *run) replaceFacts(ctx context.Context, c *content, values []*value) error {
	for _, j := range []*ledger.Journal{c.ring, c.stored} {
		needed := slices.ContainsFunc(values, func(v *value) bool {
			switch v.kind {
			case record:
				carried, _ := j.IsCarriedOver()
				return v.Key == j.RecordKey() && !carried
			case configured:
				return j == c.ring
			}
			return v.kind == stored && j == c.stored && !j.IsDeleted(v.batch)
		})
		if !needed {
			continue
		}
		if incarnation, facts := j.Replacement(registry.Now()); len(facts) > 0 {
			if err := r.store.AddFacts(ctx, j.Folder(incarnation), facts...); err != nil {
				return err
			}
		}
		if j == c.stored {
			r.store.Uses.Drop(ctx, c.unit, ledger.KindStored)
		}
	}
	return nil
}

// AnyOpens reports whether any fact of the store can be opened with the keys that are configured. If not, a wrong key was probably
// configured. It looks at facts from all over the store, and at most at so many messengers that it does not take long.
func AnyOpens(ctx context.Context, s *registry.Store) (bool, error) {
	r := newRun(s, Options{Check: true}, maxWorkers)
	units, err := r.units(ctx, "")
	if err != nil {
		return false, err
	}
	for chunk := range units.spread() {
		if err := r.handle(ctx, chunk); err != nil {
			return false, err
		}
		if r.step.Opened > 0 {
			return true, nil
		}
	}
	return r.step.Unreadable == 0, nil
}
