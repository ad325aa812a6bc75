// Package vault reads and writes values in Caddy's storage: sealed, bounded in size and time, one change at a time, with a
// list of changes by which other nodes notice them.
//
// It does not know what a value means; the registry decides that.
//
// Begin reading with [Vault.Load] and [Vault.Write].
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

// StoreRoot is the folder of all values in Caddy's storage.
const StoreRoot = "messenger"

// writeLock is the name of the storage's lock for changes.
const writeLock = "messenger_changes"

// ChangesKey is the storage key of the list of changes. It has a folder of its own: if the process is killed while it writes a
// value, Caddy's file system leaves a file with a number as its name next to it, and a messenger can have that name.
const ChangesKey = StoreRoot + "/_changes/list"

// MaxChanges is how many changes the list has. A node that missed more reads everything again.
const MaxChanges = 256

// StoreTimeout bounds a read.
const StoreTimeout = 5 * time.Second

// changeTimeout bounds a change together with waiting for its lock, which may be held by a node that has died.
const changeTimeout = 30 * time.Second

// maxQueuedChanges is how many changes may be in progress or waiting at a time. It is needed because contacts cause changes, by
// logging out.
const maxQueuedChanges = 1000

var errTooManyChanges = errors.New("too many changes of the store wait at this moment")

// A Vault is Caddy's storage as the gateway uses it.
type Vault struct {
	Seal   *sealer
	Failed func()                 // called for every read that fails
	Limit  func(key string) int64 // returns how large the value at key may be, in bytes

	Writing chan struct{} // allows one change at a time in this process; between processes the storage's lock does
	queued  atomic.Int64  // changes in progress or waiting

	mu       sync.Mutex
	backends []certmagic.Storage // those of the loaded configurations; the last one is used
}

// Use adds the storage of a configuration. It is used until Drop is called or another one is added.
func (v *Vault) Use(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.backends = append(v.backends, s)
}

// Drop removes a storage that Use has added.
func (v *Vault) Drop(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.Index(v.backends, s); i >= 0 {
		v.backends = slices.Delete(v.backends, i, i+1)
	}
}

// ErrNoStorage is the error if no configuration is loaded.
var ErrNoStorage = errors.New("no configuration with a storage is loaded")

func (v *Vault) storage() (certmagic.Storage, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.backends) == 0 {
		return nil, ErrNoStorage
	}
	return v.backends[len(v.backends)-1], nil
}

// ErrNotSealed is the error for writing to a shared storage without a seal key.
var ErrNotSealed = errors.New("this storage is not the local file system, and what is written there must be sealed: " +
	"add store { key {file.…} } with a key of 32 bytes in base64 to the global option messenger { … }")

// CheckWritable returns an error if secrets would be written unencrypted to a storage that others may read. Caddy's file system
// is exempt: it contains Caddy's own private keys with the same permissions.
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

// A checked value checks itself after it was read. Check gets its storage key, its size in bytes and the error of decoding, and
// returns that error, or another.
type checked interface {
	Check(key string, size int, err error) error
}

// Load reads the value at key into value. It returns fs.ErrNotExist if there is none. IsUnreadable tells damaged values from a
// failing storage.
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

// LoadRaw returns the opened value at key as it was saved.
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

// Save seals value as JSON and stores it at key. Changes that other nodes must notice use Write.
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

// Delete deletes the value at key.
func (v *Vault) Delete(ctx context.Context, key string) error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	return s.Delete(ctx, key)
}

// Locked calls f under the lock for changes, first that of this process and then that of the storage.
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
		_ = s.Unlock(ctx, writeLock) // a lock that cannot be released expires by itself
	}()
	return f(ctx)
}

// Names returns the valid names with stored values, sorted, beginning after the given one.
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
