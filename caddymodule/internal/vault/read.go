package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddyserver/certmagic"
)

// MaxValue is the largest size of a value in bytes; the revocations of a record do not count.
const MaxValue = 1 << 20

// ErrTooLarge is the error for a value that the gateway cannot have written.
var ErrTooLarge = errors.New("the value is larger than any that the gateway writes, and is not read; restore it from a backup, or delete it")

// fetch reads the value at key, if it has at most limit bytes. It returns fs.ErrNotExist only if the storage can be reached.
// One storage returns that for every key while it cannot be reached (caddy-storage-redis 1.8.1): an existing ring would then
// count as empty, and be replaced by a new one. Listing the keys below key distinguishes the two cases.
func fetch(ctx context.Context, s certmagic.Storage, key string, limit int64) ([]byte, error) {
	// An error is ignored: Load reports it as well.
	if info, err := s.Stat(ctx, key); err == nil && info.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes: %w", key, info.Size, ErrTooLarge)
	}
	stored, err := s.Load(ctx, key)
	if int64(len(stored)) > limit {
		return nil, fmt.Errorf("%s has %d bytes: %w", key, len(stored), ErrTooLarge)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, reached := s.List(ctx, key, false); reached != nil && !errors.Is(reached, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s cannot be read: %w", key, reached)
		}
	}
	return stored, err
}
