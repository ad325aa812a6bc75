package caddymodule

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// What is kept in Caddy's storage, all of it sealed if a store key is configured:
//
//	messenger/<name>/stored   a stored messenger with its key ring and its revocations
//	messenger/<name>/ring     key ring and revocations of a configured messenger; they never become those of a stored one
//	messenger/<name>/used-…   when the tokens of either ring were last used, to the hour
//	messenger/_changes/list   which names changed last; other nodes read this one key again and again
//	messenger/_keysets/<id>   the last good key set of a URL
//
// Every change of the first two is made under one lock of the storage. Before it is made, its name is put down in
// _changes as pending, and afterwards as done: a node that dies in between leaves a value that is whole, old or new, and
// a name that the others read again until somebody makes the next change.
const (
	storeRoot = "messenger"
	writeLock = "messenger_changes"

	// changesKey has a folder of its own. Caddy's file system leaves a file with a number for its name beside a value
	// that was being written when the process was killed, and a number is a name that a messenger can have.
	changesKey = storeRoot + "/_changes/list"

	kindStored = "stored"
	kindRing   = "ring"

	keySetFolder = "_keysets"

	// maxChanges is how many changed names are remembered for nodes that come behind.
	maxChanges = 256

	// storeTimeout bounds a read, and changeTimeout a change with its lock, which may be held by a node that has died.
	storeTimeout  = 5 * time.Second
	changeTimeout = 30 * time.Second

	// maxQueuedChanges is how many changes may be under way or wait at a time: contacts make some, by logging out.
	maxQueuedChanges = 1000
)

var errTooManyChanges = errors.New("too many changes of the store wait at this moment")

func storeKey(name, kind string) string { return path.Join(storeRoot, name, kind) }

// usesKind is the kind of value that holds the last uses of a ring of the given kind.
func usesKind(kind string) string { return "used-" + kind }

// A record is one value of the store: a stored messenger, or what belongs to a configured one. Its key ring and its
// revocations stand in the same value, so that a messenger costs one read and is never known by halves.
type record struct {
	Revision    string       `json:"revision"` // a new one with every change of settings or tokens
	Version     uint64       `json:"version"`  // one more with every change
	Created     time.Time    `json:"created"`
	Changed     time.Time    `json:"changed"`            // settings or tokens
	Settings    *Messenger   `json:"settings,omitempty"` // of a stored messenger
	Tokens      []ringToken  `json:"tokens,omitempty"`
	Revocations []revocation `json:"revocations,omitempty"`
	Closings    uint64       `json:"closings,omitempty"` // how often a change of tokens was to close connections too

	bound time.Duration // the messenger's max_lifetime while a revocation is added; 0 for none
}

// A vault is Caddy's storage as the store uses it.
type vault struct {
	seal   *sealer
	failed func()                 // told of every read that fails
	limit  func(key string) int64 // how large the value at key may be, in bytes

	writing chan struct{} // one change at a time in this process; between processes it is the storage's lock
	queued  atomic.Int64  // changes that wait for that

	mu       sync.Mutex
	backends []certmagic.Storage // those of the loaded configurations; the last one is used
}

// use adds the storage of a configuration, and drop takes it back.
func (v *vault) use(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.backends = append(v.backends, s)
}

func (v *vault) drop(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.Index(v.backends, s); i >= 0 {
		v.backends = slices.Delete(v.backends, i, i+1)
	}
}

var errNoStorage = errors.New("no configuration with a storage is loaded")

func (v *vault) storage() (certmagic.Storage, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.backends) == 0 {
		return nil, errNoStorage
	}
	return v.backends[len(v.backends)-1], nil
}

var errNotSealed = errors.New("this storage is not the local file system, and what is written there must be sealed: " +
	"add store { key {file.…} } with a key of 32 bytes in base64 to the global option messenger { … }")

// checkWritable refuses to write secrets in clear to a storage that others may read. Caddy's file system is exempt: it
// holds Caddy's own private keys with the same permissions.
func (v *vault) checkWritable() error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	if _, local := s.(*certmagic.FileStorage); !local && !v.seal.enabled() {
		return errNotSealed
	}
	return nil
}

// checked is a value that judges itself after it was read, whatever wrote it: from which key, with how many bytes, and with
// which error. It returns that error, or another.
type checked interface {
	Check(key string, size int, err error) error
}

// load reads the value at key into value. It answers fs.ErrNotExist if there is none.
func (v *vault) load(ctx context.Context, key string, value any) error {
	text, err := v.loadRaw(ctx, key)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			v.failed()
		}
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields() // a newer node may have written a restriction that this one does not know
	err = nil
	if decoder.Decode(value) != nil || decoder.More() {
		err = errDamaged // the decoder's error could quote a secret
	}
	if c, ok := value.(checked); ok {
		err = c.Check(key, len(text), err)
	}
	if err != nil {
		v.failed()
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (v *vault) loadRaw(ctx context.Context, key string) ([]byte, error) {
	s, err := v.storage()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, err := fetch(ctx, s, key, v.limit(key))
	if err != nil {
		return nil, err
	}
	text, err := v.seal.open(key, stored)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

func (v *vault) save(ctx context.Context, key string, value any) error {
	if err := v.checkWritable(); err != nil {
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
	return s.Store(ctx, key, v.seal.seal(key, text))
}

// change replaces the record of name: f gets the one that is there, or nil, and returns the new one, or nil to delete it.
// One that is returned with a revision keeps it; another gets a new one. What f refuses changes nothing. written is called
// with what was written while the lock is held, and nothing newer can be there.
func (v *live) change(ctx context.Context, name, kind string, f func(old *record) (*record, error), written func(*record) error) (*record, error) {
	if err := v.checkWritable(); err != nil {
		return nil, err
	}
	var changed *record
	err := v.locked(ctx, func(ctx context.Context) error {
		old := new(record)
		switch err := v.load(ctx, storeKey(name, kind), old); {
		case errors.Is(err, fs.ErrNotExist):
			old = nil
		case err != nil:
			return err
		}
		version := uint64(1)
		if old != nil {
			version = old.Version + 1
		}
		next, err := f(old)
		if err != nil {
			return err
		}
		if next != nil {
			next.stamp(version, time.Now().UTC())
		}
		changed = next
		if err := v.write(ctx, name, storeKey(name, kind), asValue(next)); err != nil {
			return err
		}
		return written(next)
	})
	return changed, err
}

// discard deletes a record that is there and cannot be read.
func (v *live) discard(ctx context.Context, name, kind string, written func(*record) error) error {
	if err := v.checkWritable(); err != nil {
		return err
	}
	return v.locked(ctx, func(ctx context.Context) error {
		if err := v.load(ctx, storeKey(name, kind), new(record)); !isUnreadable(err) {
			return err // it can be read, or is gone, or the storage is
		}
		if err := v.write(ctx, name, storeKey(name, kind), nil); err != nil {
			return err
		}
		return written(nil)
	})
}

// asValue keeps a nil record from looking like a value.
func asValue(r *record) any {
	if r == nil {
		return nil
	}
	return r
}

func (r *record) stamp(version uint64, now time.Time) {
	r.Version = version
	if r.Revision == "" {
		r.Revision, r.Changed = rand.Text(), now
	}
	if r.Created.IsZero() {
		r.Created = now
	}
}

func (v *vault) delete(ctx context.Context, key string) error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	return s.Delete(ctx, key)
}

// locked calls f under the lock for changes.
func (v *vault) locked(ctx context.Context, f func(ctx context.Context) error) error {
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
	case v.writing <- struct{}{}:
		defer func() { <-v.writing }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for other changes: %w", ctx.Err())
	}
	if err := s.Lock(ctx, writeLock); err != nil {
		return fmt.Errorf("taking the storage's lock: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		_ = s.Unlock(ctx, writeLock) // a lock that cannot be given back ends by itself
	}()
	return f(ctx)
}

// names returns the names after a given one under which something is stored, in order; only those that are valid.
func (v *vault) names(ctx context.Context, after string, valid func(name string) bool) ([]string, error) {
	s, err := v.storage()
	if err != nil {
		return nil, err
	}
	keys, err := s.List(ctx, storeRoot, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(keys)
	var names []string
	for _, key := range keys {
		name := strings.TrimPrefix(strings.TrimSuffix(key, "/"), storeRoot+"/")
		if name > after && valid(name) {
			names = append(names, name)
		}
	}
	return names, nil
}
