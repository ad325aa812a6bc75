package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// listEvery is after how many polls the lists are read without a notification.
	listEvery = 15

	// parallel is how many values one call of Each reads at a time.
	parallel = 64

	// maxSilent is how long the list of a writer that changes nothing is kept.
	maxSilent = 24 * time.Hour
)

// A Change is a change that another writer has made, or is about to make.
type Change struct {
	Key     Key // of the last batch in that folder
	Pending bool
	Again   bool // the whole folder has to be read again
}

// A Follower notices what other writers change. Its methods are called by one goroutine at a time.
type Follower struct {
	// Confirmed returns the sequence number of the last list that the writer of this process has written; see [Writer.Confirmed].
	Confirmed func() uint64

	// HasLostList reports whether the storage has lost such a list, as the writer found out; see [Writer.HasLostList].
	HasLostList func() bool

	vault *Vault
	own   string // the writer of this process, whose changes are known

	begun          bool              // whether Begin has succeeded
	notification   string            // see readNotification
	origin         string            // of the storage; "" while it is not known
	pollsSinceRead int               // polls since the lists were read
	readAt         time.Time         // when the lists were read last
	seen           map[string]uint64 // by writer: the last change that is known
	stale          map[string]uint64 // by writer: the sequence number of a list that is older than the last change that is known
	ownStale       uint64            // the same for the own list, plus 1; 0 if it is not stale

	behind     atomic.Int64 // nanoseconds
	unreadable unreadableLists
}

// NewFollower makes a follower. Begin is called before anything is read from the storage.
func NewFollower(v *Vault, own string) *Follower {
	return &Follower{
		Confirmed:   func() uint64 { return 0 },
		HasLostList: func() bool { return false },
		vault:       v,
		own:         own,
		seen:        make(map[string]uint64),
		stale:       make(map[string]uint64),
	}
}

// Begin reads the lists. Their changes are not reported: whatever is read from the storage after Begin contains them.
func (f *Follower) Begin(ctx context.Context) error {
	if f.begun {
		return nil
	}
	notification, err := f.readNotification(ctx)
	if err != nil {
		return err
	}
	got, err := f.read(ctx)
	if err != nil {
		return err
	}
	f.notification, f.origin, f.begun, f.readAt = notification, got.origin, true, Now()
	if got.origin == "" {
		f.pollsSinceRead = listEvery // the first poll writes one
	}
	return nil
}

// Poll returns what has changed since the last call. The result is not complete if more has changed than the lists name: then
// anything may have changed. An error means that the storage cannot be read; the next call returns the same changes.
func (f *Follower) Poll(ctx context.Context) (changes []Change, complete bool, err error) {
	if !f.begun {
		return nil, false, f.Begin(ctx)
	}
	notification, err := f.readNotification(ctx)
	if err != nil {
		return nil, false, err
	}
	lost := notification == "" && f.notification != "" // the storage was restored or emptied
	if f.HasLostList() || f.sinceRead() > maxSilent/2 {
		lost = true // lists that this node has not read may have been removed
	}
	if f.pollsSinceRead++; notification == f.notification && f.pollsSinceRead < listEvery && !lost {
		return nil, true, nil
	}
	notified := notification != f.notification
	got, err := f.read(ctx)
	if err != nil {
		return nil, false, err
	}
	lost = f.wasEmptied(ctx, got.origin) || lost
	f.notification, f.pollsSinceRead, f.readAt = notification, 0, Now()
	if got.missing && notified {
		f.pollsSinceRead = listEvery // a storage that fails may say that a value does not exist: the lists are read again with the next poll
	}
	return got.changes, got.complete && !lost, nil
}

// sinceRead returns how long ago the lists were read, by the clock that says longer: the monotonic clock of a suspended machine may
// stop, and the wall clock may be set back.
func (f *Follower) sinceRead() time.Duration {
	now := Now()
	return max(now.Sub(f.readAt), now.Round(0).Sub(f.readAt.Round(0)))
}

// readNotification returns a hash of the value at NotificationKey, which changes with every notification, or "" without one. The value
// is not opened, so that it may be sealed with any key.
func (f *Follower) readNotification(ctx context.Context) (string, error) {
	stored, err := f.vault.fetch(ctx, NotificationKey, MaxValue)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil && !IsUnreadable(err):
		f.vault.failed(ctx)
		return "", err
	}
	sum := sha256.Sum256(stored)
	return hex.EncodeToString(sum[:]), nil
}

// isListName reports whether a list can have this name.
func isListName(name string) bool { return isWriterID(name) && len(name) == writerIDSize }

// writers returns the keys of all lists.
func (v *Vault) writers(ctx context.Context) ([]string, error) {
	keys, err := v.List(ctx, writersFolder, false)
	return slices.DeleteFunc(keys, func(key string) bool { return !isListName(path.Base(key)) }), err
}

// A reading has the changes in the lists of all writers that were not known yet.
type reading struct {
	changes  []Change
	complete bool
	missing  bool // the storage lists a list that this node has read before, and does not have its value
	origin   string
}

// read reads the lists of all writers.
func (f *Follower) read(ctx context.Context) (got reading, err error) {
	confirmed := f.Confirmed() // before the lists are read, so that the storage must have this one
	keys, err := f.vault.writers(ctx)
	if err != nil {
		return got, err
	}
	lists, origin, err := f.load(ctx, keys)
	if err != nil {
		return got, err
	}
	got.origin, got.complete = origin, true
	present := make(map[string]bool)
	var behind time.Duration
	now := Now()
	if f.hasLostOwn(keys, lists, confirmed) {
		got.complete = false
	}
	for i, list := range lists {
		writer := path.Base(keys[i])
		present[writer] = true
		if writer == f.own {
			continue
		}
		if list == nil {
			got.missing = got.missing || f.seen[writer] > 0
			continue
		}
		if list.Format == 0 {
			if f.unreadable.hasChanged(writer, list.digest) {
				got.complete = false // its changes are unknown
			}
			continue
		}
		f.unreadable.remove(func(w string) bool { return w == writer })
		seen := f.seen[writer]
		if list.Seq < seen && f.stale[writer] != list.Seq {
			got.complete = false // the storage was restored from a backup, or this is a late duplicate
			f.stale[writer] = list.Seq
		}
		if list.Seq >= seen {
			delete(f.stale, writer)
		}
		if list.Seq <= seen {
			continue
		}
		if list.Dropped > seen {
			got.complete = false
		}
		for _, e := range list.Changes {
			if e.Seq > seen {
				got.changes = append(got.changes, Change{Key{e.Folder, writer, e.Last}, e.Pending, e.Again})
			}
		}
		f.seen[writer] = list.Seq
		behind = max(behind, list.At.Sub(now))
	}
	if behind > 0 || len(got.changes) > 0 {
		f.behind.Store(int64(behind))
	}
	gone := func(writer string) bool { return !present[writer] }
	maps.DeleteFunc(f.seen, func(writer string, _ uint64) bool { return gone(writer) })
	maps.DeleteFunc(f.stale, func(writer string, _ uint64) bool { return gone(writer) })
	f.unreadable.remove(gone)
	return got, nil
}

// hasLostOwn reports whether the own list is missing or older than the one that the storage has confirmed: the storage was restored from a
// backup, and may have lost changes that no other node has seen. Each such list is reported once. If another node has removed the list,
// because this node wrote nothing for maxSilent, everything is read again in vain.
func (f *Follower) hasLostOwn(keys []string, lists []*loadedList, confirmed uint64) bool {
	found := uint64(0)
	if i := slices.IndexFunc(keys, func(key string) bool { return path.Base(key) == f.own }); i >= 0 && lists[i] != nil {
		if found = lists[i].Seq; lists[i].Format == 0 {
			return false // it cannot be opened; unreadableLists has only those of other writers
		}
	}
	if found >= confirmed {
		f.ownStale = 0
		return false
	}
	before := f.ownStale
	f.ownStale = found + 1
	return f.ownStale != before
}

// Behind returns by how much the clock of this node is at least behind that of another writer: a list had a later time than the
// moment at which it was read.
func (f *Follower) Behind() time.Duration { return time.Duration(f.behind.Load()) }

// Each calls f for all keys, several at a time, and returns the first error.
func Each[K any](ctx context.Context, keys []K, f func(i int, key K) error) error {
	return each(ctx, keys, parallel, false, f)
}

// EachOf is Each with at most n at a time.
func EachOf[K any](ctx context.Context, n int, keys []K, f func(i int, key K) error) error {
	return each(ctx, keys, n, false, f)
}

// UntilError is Each, and stops at the first error: during an outage of the storage each call could take its whole timeout.
func UntilError[K any](ctx context.Context, keys []K, f func(i int, key K) error) error {
	return each(ctx, keys, parallel, true, f)
}

// each panics in the caller's goroutine if f does: there a panic ends one request, in a goroutine of its own the process.
func each[K any](ctx context.Context, keys []K, n int, untilError bool, f func(i int, key K) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	panicked := ""
	failed := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return first != nil
	}
	slots := make(chan struct{}, n)
	for i, key := range keys {
		slots <- struct{}{}
		if ctx.Err() != nil || untilError && failed() {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer func() {
				if p := recover(); p != nil {
					mu.Lock()
					defer mu.Unlock()
					panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			if err := f(i, key); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	if panicked != "" {
		panic(panicked)
	}
	if first == nil {
		first = ctx.Err()
	}
	return first
}
