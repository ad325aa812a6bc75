package vault

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// silentFor is how long a writer has to be silent before another writer writes its list again: its own next list must not be
// overwritten by an older one.
const silentFor = 10 * time.Minute

// A Sealed is the value at one key, opened.
type Sealed struct {
	Key   string
	Value []byte // the opened value, which is not checked further
	Adopt bool   // it was not sealed, and the caller accepts that

	Current bool // it is sealed with the first key, or not sealed if there is no key
}

// maxRecord is the largest size of a record of the first versions in bytes.
const maxRecord = 6 << 20

// Inspect opens the value at key, which may be a record of the first versions. It returns fs.ErrNotExist if there is none; IsUnreadable
// tells a value that cannot be opened from a failing storage. With adopt a value that is not sealed counts as opened although there is
// a key.
func (v *Vault) Inspect(ctx context.Context, key string, adopt bool) (Sealed, error) {
	return v.open(ctx, key, maxRecord, adopt)
}

func (v *Vault) open(ctx context.Context, key string, limit int64, adopt bool) (Sealed, error) {
	s := Sealed{Key: key}
	stored, err := v.fetch(ctx, key, limit)
	if err != nil {
		return s, err
	}
	s.Current = v.Seal.current(stored)
	s.Value, err = v.Seal.Open(key, stored)
	if errors.Is(err, errUnsealed) && adopt {
		s.Value, s.Adopt, err = stored, true, nil
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", key, err)
	}
	return s, nil
}

// Reseal seals a value with the first key and stores it at its key. The opened value is the same before and after, so that concurrent
// readers are not affected. On a file system the caller calls SyncFolder before it relies on the change.
func (v *Vault) Reseal(ctx context.Context, s Sealed) error {
	if err := v.CheckWritable(); err != nil {
		return err
	}
	_, err := call(ctx, v, func(ctx context.Context, storage certmagic.Storage) (struct{}, error) {
		return struct{}{}, storage.Store(ctx, s.Key, v.Seal.Seal(s.Key, s.Value))
	})
	return err
}

// SyncFolder makes the names in a folder of a file system survive a power loss. Other storages do that themselves. After many values
// were stored, one call is much cheaper than a call for each.
func (v *Vault) SyncFolder(ctx context.Context, folder string) error {
	_, err := call(ctx, v, func(_ context.Context, s certmagic.Storage) (struct{}, error) {
		if files, ok := s.(*certmagic.FileStorage); ok {
			if err := syncFolder(files.Filename(folder)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err
}

// BelongsToWriter reports whether only the writer of a list may write to key. A writer that has been silent for silentFor is taken for
// gone. The notification belongs to all, and is renewed instead of being sealed again.
func BelongsToWriter(key string, value []byte) bool {
	var list changeList
	return strings.HasPrefix(key, writersFolder+"/") && json.Unmarshal(value, &list) == nil && Now().Sub(list.At) < silentFor
}

// IsList reports whether key has the list of a writer.
func IsList(key string) bool {
	folder, name := path.Split(key)
	return folder == writersFolder+"/" && isListName(name)
}

// Renew writes another random value at NotificationKey, so that other nodes read the lists, or at OriginKey, so that they read everything
// again, once.
func (v *Vault) Renew(ctx context.Context, key string) (text string, err error) {
	text = `"` + rand.Text() + `"`
	return text, v.Save(ctx, key, []byte(text))
}
