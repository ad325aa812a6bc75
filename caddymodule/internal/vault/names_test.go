package vault

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// An indexed storage lists folders as caddy-storage-redis does: each folder has a set of what is in it, which is changed step by
// step with its values, and from which nothing else follows.
type indexed struct {
	certmagic.Storage

	mu      sync.Mutex
	values  map[string][]byte
	folders map[string]map[string]bool
	between func(folder string) // called before a folder without values is taken out of the one above it
}

func newIndexed() *indexed {
	return &indexed{values: make(map[string][]byte), folders: make(map[string]map[string]bool), between: func(string) {}}
}

func (s *indexed) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for child := key; child != "."; child = path.Dir(child) {
		folder := path.Dir(child)
		if s.folders[folder] == nil {
			s.folders[folder] = make(map[string]bool)
		}
		if s.folders[folder][path.Base(child)] {
			break
		}
		s.folders[folder][path.Base(child)] = true
	}
	s.values[key] = value
	return nil
}

func (s *indexed) Delete(_ context.Context, key string) error {
	for child := key; child != "."; child = path.Dir(child) {
		s.mu.Lock()
		folder := path.Dir(child)
		delete(s.folders[folder], path.Base(child))
		empty := len(s.folders[folder]) == 0
		s.mu.Unlock()
		if !empty {
			break
		}
		s.between(folder)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return nil
}

func (s *indexed) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.values[key]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (s *indexed) List(_ context.Context, folder string, _ bool) (keys []string, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.folders[folder] {
		keys = append(keys, path.Join(folder, name))
	}
	return keys, nil
}

// The last deletion of a name is removed at the instant at which another node creates a messenger of that name, or deletes one.
// What that node has written is found by listings.
func TestFolderRemovalDoesNotHideNewValues(t *testing.T) {
	for _, raced := range []string{"acme/name/facts", "acme/name", "acme"} {
		for _, written := range []Key{{"acme/name", writerB, 1}, {"acme/new", writerB, 1}} {
			t.Run(fmt.Sprint(written.Folder, " while ", raced, " is removed"), func(t *testing.T) {
				s := newIndexed()
				seal, err := NewSealer([][]byte{make([]byte, SealKeySize)})
				if err != nil {
					t.Fatal(err)
				}
				v := New(seal, func() {})
				v.Use(s)
				old := Key{"acme/name", writerA, 1}
				if err := v.SaveBatch(t.Context(), old, aFact(1)); err != nil {
					t.Fatal(err)
				}
				s.between = func(folder string) {
					if folder == path.Join(StoreRoot, raced) {
						if err := v.SaveBatch(t.Context(), written, aFact(2)); err != nil {
							t.Error(err)
						}
					}
				}
				if err := v.Delete(t.Context(), old.String()); err != nil {
					t.Fatal(err)
				}
				for _, folder := range []string{"messenger/acme/name/facts", "messenger/acme/name", "messenger/acme"} {
					if err := v.KeepListed(t.Context(), folder); err != nil {
						t.Fatal(err)
					}
				}
				for child := written.String(); child != "messenger"; child = path.Dir(child) {
					keys, err := v.List(t.Context(), path.Dir(child), false)
					if err != nil || !slices.Contains(keys, child) {
						t.Errorf("%s is not listed: %q, %v", child, keys, err)
					}
				}
				if keys, _ := v.List(t.Context(), "messenger/acme", false); slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, listedName) }) {
					t.Errorf("something is left: %q", keys)
				}
			})
		}
	}
}

// The names of a folder are read without its values, also while other nodes write there. A folder that cannot be reached is not an
// empty one.
func TestNamesOfAFolder(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	folder := t.TempDir()
	v := New(new(sealer), func() {})
	v.Use(&certmagic.FileStorage{Path: folder})
	count := func(each EachName) (n int, err error) {
		err = each(func(name string) error {
			if !strings.HasPrefix(name, "_") {
				n++
			}
			return nil
		})
		return n, err
	}
	if n, err := Names(t.Context(), v, count); err != nil || n != 0 {
		t.Errorf("an empty storage: %v", err)
	}
	for i := range namesAtOnce + 5 {
		if err := os.MkdirAll(filepath.Join(folder, StoreRoot, fmt.Sprint("m", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, StoreRoot, "_writers"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := Names(t.Context(), v, count); err != nil || n != namesAtOnce+5 {
		t.Errorf("got %d names, want %d: %v", n, namesAtOnce+5, err)
	}
	v.Use(&certmagic.FileStorage{Path: filepath.Join(folder, StoreRoot, "m1", "\x00")})
	if _, err := Names(t.Context(), v, count); err == nil {
		t.Error("a folder that cannot be read is an empty one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Names(ctx, v, count); err == nil {
		t.Error("a caller that has gone away gets names")
	}
}
