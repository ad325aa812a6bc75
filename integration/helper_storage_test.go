package integration

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
)

func init() {
	caddy.RegisterModule(new(memoryStorage))
}

// memoryStorage is a storage of Caddy that counts what is asked of it. In a Caddyfile: storage test_memory <name>. All
// configurations that give the same name share one memory, as nodes share a server.
type memoryStorage struct {
	Name string `json:"name"`

	*memory
}

func (*memoryStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.test_memory", New: func() caddy.Module { return new(memoryStorage) }}
}

func (s *memoryStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&s.Name) {
		return d.ArgErr()
	}
	return nil
}

func (s *memoryStorage) CertMagicStorage() (certmagic.Storage, error) {
	memories.Lock()
	defer memories.Unlock()
	s.memory = memories.byName[s.Name]
	if s.memory == nil {
		return nil, errors.New("no test has made this memory")
	}
	return s, nil
}

var memories struct {
	sync.Mutex
	byName map[string]*memory
}

// A memory holds the values.
type memory struct {
	loads, writes atomic.Int64 // of keys below messenger/; Caddy has others of its own

	mu      sync.Mutex
	values  map[string][]byte
	folders map[string]map[string]bool // what each folder has, and whether that is a folder
	locks   map[string]chan struct{}
}

// newMemory makes a memory, and returns the line of a Caddyfile that names it.
func newMemory(t testing.TB) (*memory, string) {
	t.Helper()
	memories.Lock()
	defer memories.Unlock()
	if memories.byName == nil {
		memories.byName = make(map[string]*memory)
	}
	name := strings.ReplaceAll(t.Name(), "/", "-")
	m := &memory{values: make(map[string][]byte), folders: make(map[string]map[string]bool), locks: make(map[string]chan struct{})}
	memories.byName[name] = m
	t.Cleanup(func() {
		memories.Lock()
		defer memories.Unlock()
		delete(memories.byName, name)
	})
	return m, "storage test_memory " + name
}

// factKeys returns the storage keys of all facts about a messenger, sorted.
func factKeys(values map[string][]byte, name string) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for key := range values {
			if strings.HasPrefix(key, "messenger/"+name+"/") && strings.Contains(key, "/facts/") && !yield(key) {
				return
			}
		}
	})
}

// factFile returns the file of a storage in folder that has a fact about a messenger with that text, and its content.
func factFile(t testing.TB, folder, name, text string) (file, content string) {
	t.Helper()
	values := files(t, folder)
	for _, key := range factKeys(values, name) {
		if content := string(values[key]); strings.Contains(content, text) {
			return filepath.Join(folder, filepath.FromSlash(key)), content
		}
	}
	t.Fatalf("no fact about %s has %s", name, text)
	return "", ""
}

func count(n *atomic.Int64, key string) {
	if strings.HasPrefix(key, "messenger/") {
		n.Add(1)
	}
}

func (m *memory) Load(_ context.Context, key string) ([]byte, error) {
	count(&m.loads, key)
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(value), nil
}

func (m *memory) Store(_ context.Context, key string, value []byte) error {
	count(&m.writes, key)
	m.set(key, slices.Clone(value))
	return nil
}

// set is Store without counting.
func (m *memory) set(key string, value []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = value
	for child, isFolder := key, false; child != "."; child, isFolder = path.Dir(child), true {
		folder := path.Dir(child)
		if m.folders[folder] == nil {
			m.folders[folder] = make(map[string]bool)
		}
		m.folders[folder][path.Base(child)] = isFolder
	}
}

func (m *memory) Delete(_ context.Context, key string) error {
	count(&m.writes, key)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	delete(m.folders[path.Dir(key)], path.Base(key))
	return nil
}

func (m *memory) Exists(_ context.Context, key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.values[key]
	return ok
}

func (m *memory) List(_ context.Context, prefix string, recursive bool) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.folders[prefix] == nil {
		return nil, fs.ErrNotExist
	}
	return m.list(prefix, recursive), nil
}

func (m *memory) list(prefix string, recursive bool) (keys []string) {
	for name, isFolder := range m.folders[prefix] {
		if key := path.Join(prefix, name); recursive && isFolder {
			keys = append(keys, m.list(key, true)...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

func (m *memory) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value, ok := m.values[key]; ok {
		return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
	}
	return certmagic.KeyInfo{}, fs.ErrNotExist
}

func (m *memory) Lock(ctx context.Context, name string) error {
	m.mu.Lock()
	lock := m.locks[name]
	if lock == nil {
		lock = make(chan struct{}, 1)
		m.locks[name] = lock
	}
	m.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memory) Unlock(_ context.Context, name string) error {
	m.mu.Lock()
	lock := m.locks[name]
	m.mu.Unlock()
	<-lock
	return nil
}

// keys returns the keys of all values under a prefix.
func (m *memory) keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.values {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Interface guards
var (
	_ caddy.StorageConverter = (*memoryStorage)(nil)
	_ caddyfile.Unmarshaler  = (*memoryStorage)(nil)
	_ certmagic.Storage      = (*memoryStorage)(nil)
)
