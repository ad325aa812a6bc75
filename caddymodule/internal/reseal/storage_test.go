package reseal

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

func init() { caddy.RegisterModule(new(storage)) }

// A storage of a test, in memory. before is called before each call, and may change the values or fail.
type storage struct {
	certmagic.Locker // none: nothing takes locks

	Name string `json:"name"`
	*shared
}

type shared struct {
	mu     sync.Mutex
	values map[string][]byte
	empty  map[string]bool // keys that are listed and have no value
	before func(op, key string) error
}

var storages sync.Map

func (*storage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.reseal_test", New: func() caddy.Module { return new(storage) }}
}

func (s *storage) CertMagicStorage() (certmagic.Storage, error) {
	found, _ := storages.Load(s.Name)
	s.shared = found.(*shared)
	return s, nil
}

func (s *shared) call(op, key string, f func()) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(op, key); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	return nil
}

func (s *storage) Store(_ context.Context, key string, value []byte) error {
	return s.call("store", key, func() { s.values[key] = slices.Clone(value) })
}

func (s *storage) Load(_ context.Context, key string) (value []byte, err error) {
	var found bool
	if err := s.call("load", key, func() { value, found = s.values[key] }); err != nil {
		return nil, err
	}
	if !found {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(value), nil
}

func (s *storage) Delete(_ context.Context, key string) error {
	return s.call("delete", key, func() {
		delete(s.values, key)
		delete(s.empty, key)
	})
}

func (s *storage) List(_ context.Context, folder string, recursive bool) (keys []string, err error) {
	err = s.call("list", folder, func() {
		for _, key := range slices.Concat(slices.Collect(maps.Keys(s.values)), slices.Collect(maps.Keys(s.empty))) {
			if below, found := strings.CutPrefix(key, folder+"/"); found {
				if !recursive {
					below, _, _ = strings.Cut(below, "/")
				}
				keys = append(keys, path.Join(folder, below))
			}
		}
	})
	slices.Sort(keys)
	return slices.Compact(keys), err
}

func (s *storage) Exists(context.Context, string) bool { return false }

func (s *storage) Stat(context.Context, string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{}, fs.ErrNotExist
}

// set stores a value as another node does, or removes it if it is nil.
func (s *shared) set(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[key] = value; value == nil {
		delete(s.values, key)
	}
}

// now returns a copy of the values.
func (s *shared) now() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

// hook sets what is called before each call.
func (s *shared) hook(before func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// newStorage makes an empty storage.
func newStorage(t *testing.T) *shared {
	t.Helper()
	s := &shared{values: make(map[string][]byte), empty: make(map[string]bool)}
	storages.Store(t.Name(), s)
	t.Cleanup(func() { storages.Delete(t.Name()) })
	return s
}

var oldKey, newKey, wrongKey = key(1), key(2), key(3)

func key(b byte) []byte { return slices.Repeat([]byte{b}, vault.SealKeySize) }

// newNode makes a node on the storage of the test.
func newNode(t *testing.T, keys ...[]byte) *registry.Registry {
	t.Helper()
	text, err := json.Marshal(map[string]string{"module": "reseal_test", "name": t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{StorageRaw: text, Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "PANIC"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.NewRegistry(ctx, keys, nil, func(context.Context) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Release)
	return reg
}

// create creates messengers, and a shared token for each.
func create(t *testing.T, reg *registry.Registry, names ...string) {
	t.Helper()
	for _, name := range names {
		settings := &config.Messenger{IdentityKey: "sub", SharedToken: new(config.SharedToken)}
		if _, _, err := reg.Put(t.Context(), name, settings, change.Condition{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := reg.ChangeRing(t.Context(), name, ledger.KindStored, ledger.GenerateToken(), change.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
}

// complete takes steps until all is done.
func complete(t *testing.T, reg *registry.Registry, o Options) (total Step) {
	t.Helper()
	for {
		step, err := Run(t.Context(), reg.Store, o)
		if err != nil {
			t.Fatal(err)
		}
		total.Resealed += step.Resealed
		total.Removed += step.Removed
		total.Unreadable += step.Unreadable
		total.Discarded += step.Discarded
		total.Foreign += step.Foreign
		total.Left += step.Left
		total.Named = append(total.Named, step.Named...)
		if o.After = step.After; step.Done {
			return total
		}
	}
}

// at makes the store's clock show another time.
func at(t *testing.T, shift time.Duration) {
	t.Helper()
	vault.Now = func() time.Time { return time.Now().Add(shift) }
	t.Cleanup(func() { vault.Now = time.Now })
}
