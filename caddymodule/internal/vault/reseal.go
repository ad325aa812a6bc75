package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddyserver/certmagic"
)

// Reseal seals every value again that is not sealed with the first key, and returns their number. Values that are not sealed
// at all are accepted only with adopt. A value that cannot be read is left as it is, and named in the error. ours says which
// keys of the storage are values.
func (v *Vault) Reseal(ctx context.Context, adopt bool, ours func(key string) bool) (int, error) {
	if err := v.CheckWritable(); err != nil {
		return 0, err
	}
	count := 0
	err := v.Locked(ctx, func(ctx context.Context) error {
		s, err := v.storage()
		if err != nil {
			return err
		}
		keys, err := s.List(ctx, StoreRoot, true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var unreadable []error
		for _, key := range keys {
			if !ours(key) {
				continue
			}
			resealed, err := v.resealOne(ctx, s, key, adopt)
			switch {
			case IsUnreadable(err):
				unreadable = append(unreadable, err)
			case err != nil:
				return err
			case resealed:
				count++
			}
		}
		if n := len(unreadable); n > MaxNamed {
			unreadable = append(unreadable[:MaxNamed], fmt.Errorf("and %d more", n-MaxNamed))
		}
		return errors.Join(unreadable...)
	})
	return count, err
}

// MaxNamed is how many unreadable values one error names.
const MaxNamed = 10

// resealOne seals the value at key again, and reports whether that was needed.
func (v *Vault) resealOne(ctx context.Context, s certmagic.Storage, key string, adopt bool) (bool, error) {
	stored, err := fetch(ctx, s, key, v.Limit(key))
	if errors.Is(err, fs.ErrNotExist) || err == nil && v.Seal.current(stored) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	value, err := v.Seal.open(key, stored)
	if errors.Is(err, errUnsealed) && adopt {
		value, err = stored, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", key, err)
	}
	return true, s.Store(ctx, key, v.Seal.Seal(key, value))
}
