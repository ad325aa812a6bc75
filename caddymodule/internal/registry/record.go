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

// IsStoreKey reports whether key is one of ours, and not a temporary file of the storage.
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

// The kinds of records. KindStored is a stored messenger; kindRing has the tokens and revocations of a configured one.
const (
	KindStored = "stored"
	kindRing   = "ring"
)

// storeKey returns the storage key of a value.
func storeKey(name, kind string) string { return path.Join(vault.StoreRoot, name, kind) }

// usesKind returns the kind of value that has the last uses of the tokens of a record of this kind.
func usesKind(kind string) string { return "used-" + kind }

// A Record is one value of the store: a stored messenger, or the tokens and revocations of a configured one. They are in the
// same value, so that a messenger costs one read and is never half up to date.
type Record struct {
	Revision    string            `json:"revision"` // changes with every change of settings or tokens
	Version     uint64            `json:"version"`  // increases by one with every change
	Created     time.Time         `json:"created"`
	Changed     time.Time         `json:"changed"`            // when settings or tokens were changed last
	Settings    *config.Messenger `json:"settings,omitempty"` // of a stored messenger
	Tokens      []ringToken       `json:"tokens,omitempty"`
	Revocations []Revocation      `json:"revocations,omitempty"`
	Closings    uint64            `json:"closings,omitempty"` // how often tokens were removed together with their connections

	bound time.Duration // the messenger's max_lifetime while a revocation is added; 0 for none
}

// change replaces the record of name. f gets the current record, or nil, and returns the new one, or nil to delete it; if f
// fails, nothing changes. A record that is returned with a revision keeps it, and one without gets a new one. written is
// called with what was written while the lock of the storage is still held, so that there cannot be anything newer.
func (s *Store) change(ctx context.Context, name, kind string, f func(old *Record) (*Record, error), written func(*Record) error) (*Record, error) {
	if err := s.CheckWritable(); err != nil {
		return nil, err
	}
	var changed *Record
	err := s.Locked(ctx, func(ctx context.Context) error {
		old := new(Record)
		switch err := s.Load(ctx, storeKey(name, kind), old); {
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
		if err := s.Write(ctx, name, storeKey(name, kind), asValue(next)); err != nil {
			return err
		}
		return written(next)
	})
	return changed, err
}

// Discard deletes a record that exists but is unreadable. It does nothing if the record can be read.
func (s *Store) Discard(ctx context.Context, name, kind string, written func(*Record) error) error {
	if err := s.CheckWritable(); err != nil {
		return err
	}
	return s.Locked(ctx, func(ctx context.Context) error {
		if err := s.Load(ctx, storeKey(name, kind), new(Record)); !vault.IsUnreadable(err) {
			return err // it can be read, or does not exist, or the storage fails
		}
		if err := s.Write(ctx, name, storeKey(name, kind), nil); err != nil {
			return err
		}
		return written(nil)
	})
}

// asValue makes a nil interface from a nil record, which means: delete.
func asValue(r *Record) any {
	if r == nil {
		return nil
	}
	return r
}

// stamp sets version, revision and times of a record that is about to be written.
func (r *Record) stamp(version uint64, now time.Time) {
	r.Version = version
	if r.Revision == "" {
		r.Revision, r.Changed = rand.Text(), now
	}
	if r.Created.IsZero() {
		r.Created = now
	}
}
