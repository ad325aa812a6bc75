package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddyserver/certmagic"
)

// MaxValue is the largest value in bytes; of a record without its revocations.
const MaxValue = 1 << 20

var ErrTooLarge = errors.New("the value is larger than any that the gateway writes, and is not read; restore it from a backup, or delete it")

// fetch reads what is stored at key, if it has no more than limit bytes. It answers fs.ErrNotExist only if the storage can be
// reached: there is one that says so of every key when it cannot (caddy-storage-redis 1.8.1), and a ring that is not there would
// become active, or be replaced by a new one, although it is only out of reach. Asking for what lies below key tells the two
// apart.
func fetch(ctx context.Context, s certmagic.Storage, key string, limit int64) ([]byte, error) {
	// A storage that cannot say how large a value is fails at reading it, too.
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
