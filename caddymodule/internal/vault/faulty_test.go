package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"
)

// A memory is a storage of Caddy that fails as a test wants it to. It remembers every value that it was asked to store.
type memory struct {
	certmagic.Locker // none: the vault takes no locks

	mu     sync.Mutex
	values map[string][]byte
	tried  map[string][][]byte // every value, in the order in which they came
	order  []string            // the keys of the same
	denied string              // a key for which Load says that it does not exist

	// fault is called for every call, without mu. It may wait, also after ctx is done, or panic. An error is what the call
	// returns; with applied, what it asks for is done nevertheless.
	fault func(ctx context.Context, op, key string, value []byte) (applied bool, err error)
}

func newMemory() *memory {
	return &memory{values: make(map[string][]byte), tried: make(map[string][][]byte)}
}

func isNotThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }

var errFault = errors.New("the test's storage fails")

// do does what a call asks for, unless the test has another plan.
func (m *memory) do(ctx context.Context, op, key string, value []byte, f func()) error {
	applied, err := true, error(nil)
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	if fault != nil {
		applied, err = fault(ctx, op, key, value)
	}
	if err == nil || applied {
		m.mu.Lock()
		defer m.mu.Unlock()
		f()
	}
	return err
}

func (m *memory) Store(ctx context.Context, key string, value []byte) error {
	value = slices.Clone(value)
	m.mu.Lock()
	m.tried[key] = append(m.tried[key], value)
	m.order = append(m.order, key)
	m.mu.Unlock()
	return m.do(ctx, "store", key, value, func() { m.values[key] = value })
}

func (m *memory) Load(ctx context.Context, key string) (value []byte, err error) {
	ok := false
	err = m.do(ctx, "load", key, nil, func() {
		value, ok = m.values[key]
		ok = ok && key != m.denied
		value = slices.Clone(value)
	})
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	return value, err
}

func (m *memory) Delete(ctx context.Context, key string) error {
	return m.do(ctx, "delete", key, nil, func() { delete(m.values, key) })
}

func (m *memory) List(ctx context.Context, folder string, recursive bool) (keys []string, err error) {
	err = m.do(ctx, "list", folder, nil, func() {
		for key := range m.values {
			below, found := strings.CutPrefix(key, folder+"/")
			if !found {
				continue
			}
			if !recursive {
				below, _, _ = strings.Cut(below, "/")
			}
			keys = append(keys, path.Join(folder, below))
		}
	})
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if err == nil && len(keys) == 0 {
		err = fs.ErrNotExist
	}
	return keys, err
}

func (m *memory) Exists(context.Context, string) bool { return false }

func (m *memory) Stat(context.Context, string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{}, errors.ErrUnsupported
}

// fail makes the calls from now on fail as f says; nil for not at all.
func (m *memory) fail(f func(ctx context.Context, op, key string, value []byte) (applied bool, err error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// set stores a value without a fault, as another process would.
func (m *memory) set(key string, value []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value == nil {
		delete(m.values, key)
		return
	}
	m.values[key] = slices.Clone(value)
}

func (m *memory) get(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key]
}

// attempts returns how often a value was stored at a key.
func (m *memory) attempts(key string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.tried[key])
}

// checkWrittenOnce reports every key of a batch at which different values were stored.
func (m *memory) checkWrittenOnce(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, values := range m.tried {
		if _, ok := ParseKey(key); !ok {
			continue
		}
		for _, value := range values {
			if string(value) != string(values[0]) {
				t.Errorf("%s was written with different bytes", key)
			}
		}
	}
}

// newNode makes a vault on a storage, with a writer that stops with the test.
func newNode(t *testing.T, s certmagic.Storage) (*Vault, *Writer) {
	t.Helper()
	v := New(mustSealer(t, sealKeyBytes(1)), func() {})
	v.Use(s)
	w := NewWriter(v)
	w.Wrote = func(Key, []json.RawMessage) int { return 0 }
	t.Cleanup(w.Stop)
	return v, w
}

// aFact returns a fact that says n.
func aFact(n int) []json.RawMessage { return []json.RawMessage{fmt.Appendf(nil, `{"n":%d}`, n)} }

// factsAt returns the facts of the batch at key.
func factsAt(t *testing.T, v *Vault, key Key) []json.RawMessage {
	t.Helper()
	text, err := v.Load(t.Context(), key.String())
	if err != nil {
		t.Fatal(err)
	}
	facts, err := DecodeBatch(text)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// listOf returns the list of a writer as it is stored.
func listOf(t *testing.T, v *Vault, writer string) (list changeList) {
	t.Helper()
	text, err := v.Load(t.Context(), path.Join(writersFolder, writer))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// entryOf returns the entry of a folder.
func (l changeList) entryOf(folder string) (entry, bool) {
	i := slices.IndexFunc(l.Changes, func(e entry) bool { return e.Folder == folder })
	if i < 0 {
		return entry{}, false
	}
	return l.Changes[i], true
}
