package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/caddyserver/certmagic"
)

// MaxValue is the largest size of a value in bytes.
const MaxValue = 1 << 20

// ErrTooLarge is the error for a value that the gateway cannot have written.
var ErrTooLarge = errors.New("the value is larger than any that the gateway writes, and is not read; restore it from a backup, or delete it")

// Load returns the opened value at key as it was saved. It returns fs.ErrNotExist if there is none. IsUnreadable tells damaged
// values from a failing storage.
func (v *Vault) Load(ctx context.Context, key string) ([]byte, error) {
	s, err := v.open(ctx, key, MaxValue, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.failed(ctx)
	}
	return s.Value, err
}

// fetch reads the value at key as it is stored. It returns fs.ErrNotExist only if the storage can be reached: one storage
// returns that for every key while it cannot be reached (caddy-storage-redis 1.8.1). Listing distinguishes the two cases.
func (v *Vault) fetch(ctx context.Context, key string, limit int64) ([]byte, error) {
	return call(ctx, v, func(ctx context.Context, s certmagic.Storage) ([]byte, error) {
		if files, ok := s.(*certmagic.FileStorage); ok {
			// It is measured before it is read. The other storages have to read a value to know its size.
			switch info, err := os.Stat(files.Filename(key)); {
			case err != nil:
			case info.IsDir():
				return nil, fmt.Errorf("%s is a folder: %w", key, ErrDamaged)
			case info.Size() > limit:
				return nil, fmt.Errorf("%s has %d bytes: %w", key, info.Size(), ErrTooLarge)
			}
		}
		stored, err := s.Load(ctx, key)
		if int64(len(stored)) > limit {
			return nil, fmt.Errorf("%s has %d bytes: %w", key, len(stored), ErrTooLarge)
		}
		if errors.Is(err, fs.ErrNotExist) {
			if _, reached := list(ctx, s, path.Dir(key), false); reached != nil {
				return nil, fmt.Errorf("%s cannot be read: %w", key, reached)
			}
		}
		return stored, err
	})
}

// Save seals text and stores it at key.
func (v *Vault) Save(ctx context.Context, key string, text []byte) error {
	return v.store(ctx, key, v.Seal.Seal(key, text))
}

// store stores sealed bytes. On a file system they are on the disk when it returns.
func (v *Vault) store(ctx context.Context, key string, sealed []byte) error {
	if err := v.CheckWritable(); err != nil {
		return err
	}
	_, err := call(ctx, v, func(ctx context.Context, s certmagic.Storage) (struct{}, error) {
		err := s.Store(ctx, key, sealed)
		if files, ok := s.(*certmagic.FileStorage); ok && err == nil {
			err = v.syncFolders(files, path.Dir(key))
		}
		return struct{}{}, err
	})
	return err
}

// syncFolders makes the entry of a new file in its folder survive a power loss, and the folder's entry in its own. The file
// storage of Caddy writes the content of a file to the disk, but not its name.
func (v *Vault) syncFolders(s *certmagic.FileStorage, folder string) error {
	if err := syncFolder(s.Filename(folder)); err != nil {
		return err
	}
	var fresh []string // folders whose entries may not be on the disk yet
	top := filepath.Clean(s.Path)
	for file, last := s.Filename(folder), false; !last && !v.isDurable(file); file = filepath.Dir(file) {
		last = file == top || file == filepath.Dir(file)
		fresh = append(fresh, file)
		// The folder above the storage may be one that the gateway may not read.
		if err := syncFolder(filepath.Dir(file)); err != nil && !(last && errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.durable) > maxDurable {
		clear(v.durable)
	}
	for _, file := range fresh {
		v.durable[file] = true
	}
	return nil
}

// isDurable reports whether the entries of a folder and of those above it have reached the disk.
func (v *Vault) isDurable(file string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.durable[file]
}

// maxDurable is how many folders are remembered as durable; others are synchronised again.
const maxDurable = 10_000

func syncFolder(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil && !cannotSync(err) {
		return fmt.Errorf("synchronising a folder of the storage: %w", err)
	}
	return nil
}

// cannotSync reports whether err means that folders cannot be synchronised there. Network file systems say EINVAL, and Windows
// that it is not permitted.
func cannotSync(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL)
}

// Delete deletes the value at key, and never a folder: on some storages that deletes values which other nodes are writing, or leaves
// values that no listing names.
func (v *Vault) Delete(ctx context.Context, key string) error {
	_, err := call(ctx, v, func(ctx context.Context, s certmagic.Storage) (struct{}, error) {
		if files, ok := s.(*certmagic.FileStorage); ok {
			err := os.Remove(files.Filename(key))
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return struct{}{}, err
		}
		return struct{}{}, s.Delete(ctx, key)
	})
	return err
}

// List returns the keys below folder, sorted. A folder that does not exist is empty.
func (v *Vault) List(ctx context.Context, folder string, recursive bool) ([]string, error) {
	keys, err := call(ctx, v, func(ctx context.Context, s certmagic.Storage) ([]string, error) {
		return list(ctx, s, folder, recursive)
	})
	if err != nil {
		v.failed(ctx)
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	slices.Sort(keys)
	return keys, nil
}

// list lists a folder. The file storage of Caddy is read directly: its own listing looks at every file, and fails with "does
// not exist" if one of them was renamed meanwhile, so that a folder would look empty while a value is written to it.
func list(ctx context.Context, s certmagic.Storage, folder string, recursive bool) ([]string, error) {
	files, ok := s.(*certmagic.FileStorage)
	if !ok {
		return listOther(ctx, s, folder, recursive)
	}
	entries, err := os.ReadDir(files.Filename(folder))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The root must be reachable: a share that is not mounted is not an empty store.
		if _, err := os.Stat(filepath.Clean(files.Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, nil
	case err != nil:
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		key := path.Join(folder, e.Name())
		if _, isBatch := ParseKey(key); recursive && e.IsDir() && !isBatch { // a folder in the place of a batch is a damaged batch
			below, err := list(ctx, s, key, true)
			if err != nil {
				return nil, err
			}
			keys = append(keys, below...)
			continue
		}
		keys = append(keys, key)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return keys, nil
}

// listTries is how often a folder is listed if files in it are renamed meanwhile.
const listTries = 50

var errFolderChanges = errors.New("files are renamed faster than the storage can list them")

// listOther lists a folder of a storage that is not Caddy's own. It may be one of files behind something else, whose listing fails with
// "does not exist" as well: that alone does not say that the folder is empty.
func listOther(ctx context.Context, s certmagic.Storage, folder string, recursive bool) ([]string, error) {
	for range listTries {
		keys, err := s.List(ctx, folder, recursive)
		if !errors.Is(err, fs.ErrNotExist) {
			return keys, err
		}
		if len(keys) == 0 && !s.Exists(ctx, folder) {
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, errFolderChanges
}

// LoadJSON reads a value that is not a fact. Such values are informative only. One with an unknown member, which may be a restriction,
// is refused.
func (v *Vault) LoadJSON(ctx context.Context, key string, value any) error {
	text, err := v.Load(ctx, key)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(value) != nil || decoder.More() {
		return ErrDamaged // the decoder's error could quote a secret
	}
	return nil
}

// SaveJSON writes such a value.
func (v *Vault) SaveJSON(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return v.Save(ctx, key, text)
}
