package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

const StoreRoot = "messenger"

const writeLock = "messenger_changes"

// ChangesKey has a folder of its own. Caddy's file system leaves a file with a number for its name beside a value
// that was being written when the process was killed, and a number is a name that a messenger can have.
const ChangesKey = StoreRoot + "/_changes/list"

// MaxChanges is how many changed names are remembered for nodes that come behind.
const MaxChanges = 256

// StoreTimeout bounds a read, and changeTimeout a change with its lock, which may be held by a node that has died.
const StoreTimeout = 5 * time.Second

const changeTimeout = 30 * time.Second

// maxQueuedChanges is how many changes may be under way or wait at a time: contacts make some, by logging out.
const maxQueuedChanges = 1000

var errTooManyChanges = errors.New("too many changes of the store wait at this moment")

// A Vault is Caddy's storage as the store uses it.
type Vault struct {
	Seal   *sealer
	Failed func()                 // told of every read that fails
	Limit  func(key string) int64 // how large the value at key may be, in bytes

	Writing chan struct{} // one change at a time in this process; between processes it is the storage's lock
	queued  atomic.Int64  // changes that wait for that

	mu       sync.Mutex
	backends []certmagic.Storage // those of the loaded configurations; the last one is used
}

// Use adds the storage of a configuration, and drop takes it back.
func (v *Vault) Use(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.backends = append(v.backends, s)
}

func (v *Vault) Drop(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.Index(v.backends, s); i >= 0 {
		v.backends = slices.Delete(v.backends, i, i+1)
	}
}

var ErrNoStorage = errors.New("no configuration with a storage is loaded")

func (v *Vault) storage() (certmagic.Storage, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.backends) == 0 {
		return nil, ErrNoStorage
	}
	return v.backends[len(v.backends)-1], nil
}

var ErrNotSealed = errors.New("this storage is not the local file system, and what is written there must be sealed: " +
	"add store { key {file.…} } with a key of 32 bytes in base64 to the global option messenger { … }")

// CheckWritable refuses to write secrets in clear to a storage that others may read. Caddy's file system is exempt: it
// holds Caddy's own private keys with the same permissions.
func (v *Vault) CheckWritable() error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	if _, local := s.(*certmagic.FileStorage); !local && !v.Seal.Enabled() {
		return ErrNotSealed
	}
	return nil
}

// checked is a value that judges itself after it was read, whatever wrote it: from which key, with how many bytes, and with
// which error. It returns that error, or another.
type checked interface {
	Check(key string, size int, err error) error
}

// Load reads the value at key into value. It answers fs.ErrNotExist if there is none.
func (v *Vault) Load(ctx context.Context, key string, value any) error {
	text, err := v.LoadRaw(ctx, key)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			v.Failed()
		}
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields() // a newer node may have written a restriction that this one does not know
	err = nil
	if decoder.Decode(value) != nil || decoder.More() {
		err = ErrDamaged // the decoder's error could quote a secret
	}
	if c, ok := value.(checked); ok {
		err = c.Check(key, len(text), err)
	}
	if err != nil {
		v.Failed()
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (v *Vault) LoadRaw(ctx context.Context, key string) ([]byte, error) {
	s, err := v.storage()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, StoreTimeout)
	defer cancel()
	stored, err := fetch(ctx, s, key, v.Limit(key))
	if err != nil {
		return nil, err
	}
	text, err := v.Seal.open(key, stored)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

func (v *Vault) Save(ctx context.Context, key string, value any) error {
	if err := v.CheckWritable(); err != nil {
		return err
	}
	s, err := v.storage()
	if err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.Store(ctx, key, v.Seal.Seal(key, text))
}

func (v *Vault) Delete(ctx context.Context, key string) error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	return s.Delete(ctx, key)
}

// Locked calls f under the lock for changes.
func (v *Vault) Locked(ctx context.Context, f func(ctx context.Context) error) error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	defer v.queued.Add(-1)
	if v.queued.Add(1) > maxQueuedChanges {
		return errTooManyChanges
	}
	select {
	case v.Writing <- struct{}{}:
		defer func() { <-v.Writing }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for other changes: %w", ctx.Err())
	}
	if err := s.Lock(ctx, writeLock); err != nil {
		return fmt.Errorf("taking the storage's lock: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), StoreTimeout)
		defer cancel()
		_ = s.Unlock(ctx, writeLock) // a lock that cannot be given back ends by itself
	}()
	return f(ctx)
}

// Names returns the names after a given one under which something is stored, in order; only those that are valid.
func (v *Vault) Names(ctx context.Context, after string, valid func(name string) bool) ([]string, error) {
	s, err := v.storage()
	if err != nil {
		return nil, err
	}
	keys, err := s.List(ctx, StoreRoot, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(keys)
	var names []string
	for _, key := range keys {
		name := strings.TrimPrefix(strings.TrimSuffix(key, "/"), StoreRoot+"/")
		if name > after && valid(name) {
			names = append(names, name)
		}
	}
	return names, nil
}
