package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// IsStoreKey reports whether key is one of ours, and no temporary file of the storage.
func IsStoreKey(key string) bool {
	parts := strings.Split(key, "/")
	if key == vault.ChangesKey {
		return true
	}
	if len(parts) != 3 || parts[0] != vault.StoreRoot {
		return false
	}
	return parts[1] == keySetFolder && len(parts[2]) == 2*keySetIDSize || slices.Contains([]string{KindStored, kindRing, usesKind(kindRing), usesKind(KindStored)}, parts[2])
}

const KindStored = "stored"

const kindRing = "ring"

func storeKey(name, kind string) string { return path.Join(vault.StoreRoot, name, kind) }

// usesKind is the kind of value that holds the last uses of a ring of the given kind.
func usesKind(kind string) string { return "used-" + kind }

// A Record is one value of the store: a stored messenger, or what belongs to a configured one. Its key ring and its
// revocations stand in the same value, so that a messenger costs one read and is never known by halves.
type Record struct {
	Revision    string            `json:"revision"` // a new one with every change of settings or tokens
	Version     uint64            `json:"version"`  // one more with every change
	Created     time.Time         `json:"created"`
	Changed     time.Time         `json:"changed"`            // settings or tokens
	Settings    *config.Messenger `json:"settings,omitempty"` // of a stored messenger
	Tokens      []ringToken       `json:"tokens,omitempty"`
	Revocations []Revocation      `json:"revocations,omitempty"`
	Closings    uint64            `json:"closings,omitempty"` // how often a change of tokens was to close connections too

	bound time.Duration // the messenger's max_lifetime while a revocation is added; 0 for none
}

// change replaces the record of name: f gets the one that is there, or nil, and returns the new one, or nil to delete it.
// One that is returned with a revision keeps it; another gets a new one. What f refuses changes nothing. written is called
// with what was written while the lock is held, and nothing newer can be there.
func (v *Store) change(ctx context.Context, name, kind string, f func(old *Record) (*Record, error), written func(*Record) error) (*Record, error) {
	if err := v.CheckWritable(); err != nil {
		return nil, err
	}
	var changed *Record
	err := v.Locked(ctx, func(ctx context.Context) error {
		old := new(Record)
		switch err := v.Load(ctx, storeKey(name, kind), old); {
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
		if err := v.Write(ctx, name, storeKey(name, kind), asValue(next)); err != nil {
			return err
		}
		return written(next)
	})
	return changed, err
}

// Discard deletes a record that is there and cannot be read.
func (v *Store) Discard(ctx context.Context, name, kind string, written func(*Record) error) error {
	if err := v.CheckWritable(); err != nil {
		return err
	}
	return v.Locked(ctx, func(ctx context.Context) error {
		if err := v.Load(ctx, storeKey(name, kind), new(Record)); !vault.IsUnreadable(err) {
			return err // it can be read, or is gone, or the storage is
		}
		if err := v.Write(ctx, name, storeKey(name, kind), nil); err != nil {
			return err
		}
		return written(nil)
	})
}

// asValue keeps a nil record from looking like a value.
func asValue(r *Record) any {
	if r == nil {
		return nil
	}
	return r
}

func (r *Record) stamp(version uint64, now time.Time) {
	r.Version = version
	if r.Revision == "" {
		r.Revision, r.Changed = rand.Text(), now
	}
	if r.Created.IsZero() {
		r.Created = now
	}
}
