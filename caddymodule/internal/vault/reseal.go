package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"
)

// MaxNamed is how many unreadable values one error names.
const MaxNamed = 10

// Reseal seals every value again that is not sealed with the first key, and returns their number. Values that are not sealed
// at all are accepted only with adopt. A value that cannot be read is left as it is, and named in the error. ours says which
// keys of the storage are values.
//
// It holds no lock: what it writes says the same as what it has read, and no other value is ever written at the key of a batch.
func (v *Vault) Reseal(ctx context.Context, adopt bool, ours func(key string) bool) (int, error) {
	if err := v.CheckWritable(); err != nil {
		return 0, err
	}
	keys, err := v.List(ctx, StoreRoot, true)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var unreadable []error
	count := 0
	err = UntilError(ctx, keys, func(_ int, key string) error {
		if !ours(key) {
			return nil
		}
		resealed, err := v.resealOne(ctx, key, adopt)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case IsUnreadable(err):
			unreadable = append(unreadable, err)
		case err != nil:
			return err
		case resealed:
			count++
		}
		return nil
	})
	if err != nil {
		return count, err
	}
	if n := len(unreadable); n > MaxNamed {
		unreadable = append(unreadable[:MaxNamed], fmt.Errorf("and %d more", n-MaxNamed))
	}
	return count, errors.Join(unreadable...)
}

// resealOne seals the value at key again, and reports whether that was needed.
func (v *Vault) resealOne(ctx context.Context, key string, adopt bool) (bool, error) {
	stored, err := v.fetch(ctx, key, maxRecord)
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
	if isChanging(key, value) {
		return false, nil
	}
	return true, v.store(ctx, key, v.Seal.Seal(key, value))
}

// isChanging reports whether key has the list of a writer that may be writing to it now, or the bell. Writing an older list
// there would hide changes; its writer seals the next one with the first key anyway.
func isChanging(key string, value []byte) bool {
	if key == bellKey {
		return true
	}
	var list changeList
	return strings.HasPrefix(key, writersFolder+"/") && json.Unmarshal(value, &list) == nil && Now().Sub(list.At) < time.Minute
}
