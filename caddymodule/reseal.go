package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
)

// reseal writes every value again that is not sealed with the first key, and returns their number. Only with adopt are
// values taken that are not sealed at all. One that cannot be read is left as it is, and named in the error.
func (v *vault) reseal(ctx context.Context, adopt bool, ours func(key string) bool) (int, error) {
	if err := v.checkWritable(); err != nil {
		return 0, err
	}
	count := 0
	err := v.locked(ctx, func(ctx context.Context) error {
		s, err := v.storage()
		if err != nil {
			return err
		}
		keys, err := s.List(ctx, storeRoot, true)
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
			case isUnreadable(err):
				unreadable = append(unreadable, err)
			case err != nil:
				return err
			case resealed:
				count++
			}
		}
		if n := len(unreadable); n > maxNamed {
			unreadable = append(unreadable[:maxNamed], fmt.Errorf("and %d more", n-maxNamed))
		}
		return errors.Join(unreadable...)
	})
	return count, err
}

// maxNamed is how many values that cannot be read one error names.
const maxNamed = 10

func (v *vault) resealOne(ctx context.Context, s certmagic.Storage, key string, adopt bool) (bool, error) {
	stored, err := fetch(ctx, s, key, v.limit(key))
	if errors.Is(err, fs.ErrNotExist) || err == nil && v.seal.current(stored) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	value, err := v.seal.open(key, stored)
	if errors.Is(err, errUnsealed) && adopt {
		value, err = stored, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", key, err)
	}
	return true, s.Store(ctx, key, v.seal.seal(key, value))
}

// isStoreKey reports whether key is one of ours, and no temporary file of the storage.
func isStoreKey(key string) bool {
	parts := strings.Split(key, "/")
	if key == changesKey {
		return true
	}
	if len(parts) != 3 || parts[0] != storeRoot {
		return false
	}
	return parts[1] == keySetFolder && len(parts[2]) == 2*keySetIDSize || slices.Contains([]string{kindStored, kindRing, usesKind(kindRing), usesKind(kindStored)}, parts[2])
}
