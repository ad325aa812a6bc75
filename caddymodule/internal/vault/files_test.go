package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddyserver/certmagic"
)

// newFiles makes a vault on a folder of the test.
func newFiles(t testing.TB) (*Vault, string) {
	t.Helper()
	v := New(mustSealer(t), func() {})
	folder := filepath.Join(t.TempDir(), "storage")
	v.Use(&certmagic.FileStorage{Path: folder})
	return v, folder
}

// filesOfAnother is a storage module that keeps its values in files, with the listing of Caddy's own.
type filesOfAnother struct{ *certmagic.FileStorage }

// A folder is listed while files in it are written, renamed and removed: whatever stays there is always listed, and the
// listing never fails.
func TestListingIsCompleteDuringConcurrentChanges(t *testing.T) {
	t.Run("Caddy's own storage", func(t *testing.T) {
		v, folder := newFiles(t)
		listWhileFilesAreWritten(t, v, folder)
	})
	t.Run("another storage of files", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "storage")
		v := New(mustSealer(t, make([]byte, 32)), func() {})
		v.Use(filesOfAnother{&certmagic.FileStorage{Path: folder}})
		listWhileFilesAreWritten(t, v, folder)
	})
}

func listWhileFilesAreWritten(t *testing.T, v *Vault, folder string) {
	t.Helper()
	stays := []Key{{"acme/a", writerA, 1}, {"acme/a", writerA, 2}, {"acme/b", writerA, 1}}
	for _, key := range stays {
		if err := v.SaveBatch(t.Context(), key, aFact(1)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := uint64(1); ctx.Err() == nil; n++ {
				key := Key{fmt.Sprintf("acme/%c", 'a'+i%3), writerB, n%7 + 1}
				if err := v.SaveBatch(t.Context(), key, aFact(i)); err != nil {
					t.Error(err)
				}
				if err := v.Delete(t.Context(), key.String()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 300 {
		keys, err := v.List(t.Context(), "messenger/acme", true)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range stays {
			if _, found := slices.BinarySearch(keys, key.String()); !found {
				t.Fatalf("the listing does not have %s: %q", key, keys)
			}
		}
	}
	cancel()
	all.Wait()
	if keys, err := v.List(t.Context(), "messenger/nothing", true); err != nil || len(keys) > 0 {
		t.Errorf("a folder that is not there: %q, %v", keys, err)
	}
	last := Key{"acme/d", writerB, 1}
	if err := errors.Join(v.SaveBatch(t.Context(), last, aFact(1)), v.Delete(t.Context(), last.String())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "messenger", "acme", "d", "facts")); err != nil {
		t.Errorf("a folder is removed with its last file: %v", err)
	}
}

// A value is measured before it is read, and a folder, a listing and a deletion of what is not there are no errors.
func TestOversizedFilesAreNotRead(t *testing.T) {
	v, folder := newFiles(t)
	if keys, err := v.List(t.Context(), "messenger/acme", true); err != nil || len(keys) > 0 {
		t.Errorf("a storage that is not there yet: %q, %v", keys, err)
	}
	if err := v.Save(t.Context(), "messenger/acme/x", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(folder, "messenger", "acme", "large")
	for size, readable := range map[int64]bool{MaxValue: true, MaxValue + 1: false, 1 << 40: false} {
		if err := os.WriteFile(large, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(large, size); err != nil {
			t.Skipf("not run: no sparse files of %d bytes here: %v", size, err)
		}
		_, err := v.Load(t.Context(), "messenger/acme/large")
		if (err == nil) != readable || !readable && (!errors.Is(err, ErrTooLarge) || !IsUnreadable(err)) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	if err := v.Delete(t.Context(), "messenger/acme/none"); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	if err := v.Delete(t.Context(), "messenger/acme"); err == nil {
		t.Error("a folder with values was deleted")
	}
	if _, err := v.Load(t.Context(), "messenger/acme"); err == nil || isNotThere(err) {
		t.Errorf("reading a folder: got %v", err)
	}
}

// What os.CreateTemp and others leave next to values is none of ours.
func TestTemporaryFilesAreIgnored(t *testing.T) {
	_, folder := newFiles(t)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		f, err := os.CreateTemp(folder, "")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		name := filepath.Base(f.Name())
		if _, ok := ParseKey("messenger/acme/a/facts/" + name); ok {
			t.Errorf("%s is taken for a batch", name)
		}
		if isListName(name) || IsList(path.Join(writersFolder, name)) {
			t.Errorf("%s is taken for a list", name)
		}
	}
	if isListName("2345672345672345") {
		t.Error("digits are taken for a list")
	}
	w := NewWriter(New(mustSealer(t), func() {}))
	if !IsList(path.Join(writersFolder, w.ID)) || IsList(NotificationKey) || IsList(OriginKey) {
		t.Errorf("IsList is wrong about the list of %s, or about the notification or the origin", w.ID)
	}
	if key := (Key{"acme/a", w.ID, 1}); !isKey(key.String(), key) {
		t.Errorf("%s is a batch", key)
	}
}

func isKey(text string, want Key) bool {
	got, ok := ParseKey(text)
	return ok && got == want
}

// After a write the folders are on the disk up to the one that has the storage, and only those that may not be are
// synchronised. A failure is not forgotten.
func TestFoldersAreSynchronisedUpToTheRoot(t *testing.T) {
	v, folder := newFiles(t)
	if err := v.Save(t.Context(), "messenger/acme/a/facts/x", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "messenger", "messenger/acme", "messenger/acme/a", "messenger/acme/a/facts"} {
		if file := filepath.Join(folder, name); !v.isDurable(file) {
			t.Errorf("%s may not be on the disk", file)
		}
	}
	files := &certmagic.FileStorage{Path: filepath.Join(folder, "gone")}
	if err := v.syncFolders(files, "messenger/acme"); err == nil {
		t.Error("a folder that is not there was synchronised")
	}
	if v.isDurable(files.Filename("messenger/acme")) || v.isDurable(files.Filename("messenger")) {
		t.Error("after a failure nothing is durable")
	}
	for err, ignored := range map[error]bool{syscall.EINVAL: true, syscall.ENOTSUP: true, syscall.EACCES: true, syscall.EIO: false, syscall.ENOSPC: false} {
		if got := cannotSync(&os.PathError{Err: err}); got != ignored {
			t.Errorf("%v: got %t", err, got)
		}
	}
}

// The folder of a storage is a mount that fails: that is not an empty storage.
func TestUnreachableStorageIsNotEmpty(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v := New(mustSealer(t), func() {})
	v.Use(&certmagic.FileStorage{Path: filepath.Join(file, "storage")})
	if _, err := v.List(t.Context(), "messenger", true); err == nil {
		t.Error("it is listed as empty")
	}
	if _, err := v.Load(t.Context(), "messenger/x"); err == nil || isNotThere(err) {
		t.Errorf("it is read as empty: %v", err)
	}
}

// A batch is read back as it was written, with members that this version does not know. Whatever else is there is damaged,
// or made by a newer version.
func TestBatchRoundTrip(t *testing.T) {
	facts := aFact(1)
	facts = append(facts, []byte(`{"id":"x","unknown":{"nested":[1,2]},"kind":"later"}`))
	text, err := encodeBatch(facts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBatch(text)
	if err != nil || len(got) != 2 || string(got[1]) != string(facts[1]) {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]error{
		`{"format":2,"facts":[{}]}`: ErrNewer, `{"format":2}`: ErrNewer, `{"format":7,"facts":{"other":"form"}}`: ErrNewer,
		``: ErrDamaged, `{`: ErrDamaged, `null`: ErrDamaged, `{"format":1}`: ErrDamaged, `{"format":1,"facts":[]}`: ErrDamaged,
		`{"format":0,"facts":[{}]}`: ErrDamaged, `{"facts":[{}]}`: ErrDamaged, `{"format":1,"facts":[null]}`: ErrDamaged,
		`{"format":1,"facts":["x"]}`: ErrDamaged, `{"format":1,"facts":[{}]} x`: ErrDamaged, `{"format":-1,"facts":[{}]}`: ErrDamaged,
	} {
		if _, err := DecodeBatch([]byte(text)); !errors.Is(err, want) || !IsUnreadable(err) {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
	}
}

// What ParseKey accepts is exactly what String writes.
func FuzzKeysAreParsedAsTheyAreWritten(f *testing.F) {
	for _, key := range []string{
		"messenger/acme/a/facts/aaaaaaaaaaaaaaaa-1", "messenger/acme/a/facts/oldrecord-1", "messenger/facts/facts/facts/aaaaaaaa-9999999999999999999",
		"messenger/acme/a/facts/aaaaaaaa-01", "messenger/acme//facts/aaaaaaaa-1", "messenger/../x/facts/aaaaaaaa-1", "messenger/facts/aaaaaaaa-1",
		"messenger/acme/a/facts/123456789", "/messenger/acme/a/facts/aaaaaaaa-1", "messenger/acme/a/facts/aaaaaaaa-1/", NotificationKey,
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, ok := ParseKey(text)
		if !ok {
			return
		}
		if key.String() != text || key.Number == 0 || key.Folder == "" || strings.Contains(text, "..") && path.Clean(text) != text {
			t.Errorf("%q is parsed as %+v", text, key)
		}
		if IsList(text) || text == NotificationKey || text == OriginKey {
			t.Errorf("%q is a batch and a list", text)
		}
	})
}

// Nothing that is stored makes the decoder panic, and what it accepts it would write again in a form that it accepts.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`{"format":1,"facts":[{"n":1},{"x":[null]}]}`))
	f.Add([]byte(`{"format":2,"facts":{}}`))
	f.Add([]byte(`{"format":1,"facts":[null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		facts, err := DecodeBatch(text)
		if err != nil {
			if !IsUnreadable(err) {
				t.Errorf("%v is not an answer that a reader knows", err)
			}
			return
		}
		again, err := encodeBatch(facts)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeBatch(again); err != nil || len(got) != len(facts) {
			t.Errorf("%s is written as %s, which is read as %d facts: %v", text, again, len(got), err)
		}
	})
}

// A folder that is there, and whose listing never succeeds, is not taken for an empty one.
func TestUnlistableFolderIsNotEmpty(t *testing.T) {
	v := New(mustSealer(t, make([]byte, 32)), func() {})
	v.Use(neverListed{newMemory()})
	if keys, err := v.List(t.Context(), "messenger/acme", true); err == nil {
		t.Errorf("the listing has %q", keys)
	}
}

type neverListed struct{ *memory }

func (neverListed) List(context.Context, string, bool) ([]string, error) { return nil, fs.ErrNotExist }

func (neverListed) Exists(context.Context, string) bool { return true }
