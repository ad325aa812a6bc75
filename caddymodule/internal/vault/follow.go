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
	// listEvery is after how many polls the lists are read although the bell was not rung.
	listEvery = 15

	// parallel is how many values one call of Each reads at a time.
	parallel = 64

	// maxSilent is how long the list of a writer that changes nothing is kept.
	maxSilent = 24 * time.Hour
)

// A Change is something that another writer has changed, or is about to change.
type Change struct {
	Key     Key // of the last batch in that folder
	Pending bool
	Again   bool // the whole folder has to be read again
}

// A Follower notices what other writers change. Its methods are called by one goroutine at a time.
type Follower struct {
	// Told returns the sequence number of the last list that the writer of this process has written; see [Writer.Told].
	Told func() uint64

	// HasLostList reports whether the writer has found that the storage lost such a list, and has written another one since; see
	// [Writer.HasLostList].
	HasLostList func() bool

	vault *Vault
	own   string // the writer of this process, whose changes are known

	begun  bool // whether the lists were read before anything else was
	bell   string
	origin string            // of the storage; "" while it is not known
	quiet  int               // polls since the lists were read
	asked  time.Time         // when the lists were read last
	seen   map[string]uint64 // by writer: the last change that is known
	older  map[string]uint64 // by writer: the sequence number of a list that is older than what is known
	ownOld uint64            // the same of the own list, and 1 more, so that 0 is for none

	behind atomic.Int64 // nanoseconds
	closed closedLists
}

// NewFollower makes a follower. Begin is called before anything is read from the storage.
func NewFollower(v *Vault, own string) *Follower {
	return &Follower{
		Told:        func() uint64 { return 0 },
		HasLostList: func() bool { return false },
		vault:       v,
		own:         own,
		seen:        make(map[string]uint64),
		older:       make(map[string]uint64),
	}
}

// Begin takes the lists as they are: what is read from now on contains these changes.
func (f *Follower) Begin(ctx context.Context) error {
	if f.begun {
		return nil
	}
	bell, err := f.hear(ctx)
	if err != nil {
		return err
	}
	got, err := f.read(ctx)
	if err != nil {
		return err
	}
	f.bell, f.origin, f.begun, f.asked = bell, got.origin, true, Now()
	if got.origin == "" {
		f.quiet = listEvery // the first poll writes one
	}
	return nil
}

// Poll returns what has changed since the last call. It is not complete if more has changed than the lists have: then anything
// may have. An error means that the storage cannot be read; the next call returns the same changes.
func (f *Follower) Poll(ctx context.Context) (changes []Change, complete bool, err error) {
	if !f.begun {
		return nil, false, f.Begin(ctx)
	}
	bell, err := f.hear(ctx)
	if err != nil {
		return nil, false, err
	}
	lost := bell == "" && f.bell != "" // the storage went back
	if f.HasLostList() || f.away() > maxSilent/2 {
		lost = true // or lists may have been removed that this node has not read
	}
	if f.quiet++; bell == f.bell && f.quiet < listEvery && !lost {
		return nil, true, nil
	}
	rung := bell != f.bell
	got, err := f.read(ctx)
	if err != nil {
		return nil, false, err
	}
	lost = f.wentBack(ctx, got.origin) || lost
	f.bell, f.quiet, f.asked = bell, 0, Now()
	if got.missing && rung {
		f.quiet = listEvery // a storage that fails may say that a value does not exist: the lists are read again with the next poll
	}
	return got.changes, got.complete && !lost, nil
}

// away returns how long ago the lists were read. The monotonic clock of a suspended machine may stop, and the wall clock may be
// set back.
func (f *Follower) away() time.Duration {
	now := Now()
	return max(now.Sub(f.asked), now.Round(0).Sub(f.asked.Round(0)))
}

// hear returns what the bell has, which differs after every ring. Nothing depends on whether it can be opened.
func (f *Follower) hear(ctx context.Context) (string, error) {
	stored, err := f.vault.fetch(ctx, BellKey, MaxValue)
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

// A reading is what the lists of all writers say that was not known.
type reading struct {
	changes  []Change
	complete bool
	missing  bool // the storage lists one that was there, and does not have it
	origin   string
}

// read reads the lists of all writers.
func (f *Follower) read(ctx context.Context) (got reading, err error) {
	told := f.Told() // before, so that the storage must have it
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
	if f.hasLostOwn(keys, lists, told) {
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
			if f.closed.isNews(writer, list.digest) {
				got.complete = false // it is unknown what it says
			}
			continue
		}
		f.closed.remove(func(w string) bool { return w == writer })
		seen := f.seen[writer]
		if list.Seq < seen && f.older[writer] != list.Seq {
			got.complete = false // the storage was restored from a backup, or this is a late duplicate
			f.older[writer] = list.Seq
		}
		if list.Seq >= seen {
			delete(f.older, writer)
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
	maps.DeleteFunc(f.older, func(writer string, _ uint64) bool { return gone(writer) })
	f.closed.remove(gone)
	return got, nil
}

// hasLostOwn reports whether the own list is older than what the storage has confirmed, or is not there: the storage was restored from a
// backup, and may have lost changes that no other node has seen. It says so once for each list that it finds. A
// list that another node has removed, because this node wrote nothing for maxSilent, looks the same: it costs one reading of everything.
func (f *Follower) hasLostOwn(keys []string, lists []*loadedList, told uint64) bool {
	found := uint64(0)
	if i := slices.IndexFunc(keys, func(key string) bool { return path.Base(key) == f.own }); i >= 0 && lists[i] != nil {
		if found = lists[i].Seq; lists[i].Format == 0 {
			return false // it cannot be opened, and closedLists are about those of others
		}
	}
	if found >= told {
		f.ownOld = 0
		return false
	}
	before := f.ownOld
	f.ownOld = found + 1
	return f.ownOld != before
}

// Behind returns by how much the clock of this node is behind that of another writer, at least: a list had a time that was later
// than the one at which it was read.
func (f *Follower) Behind() time.Duration { return time.Duration(f.behind.Load()) }

// Each calls f for all keys, several at a time, and returns the first error.
func Each[K any](ctx context.Context, keys []K, f func(i int, key K) error) error {
	return each(ctx, keys, parallel, false, f)
}

// EachOf is Each with at most n at a time.
func EachOf[K any](ctx context.Context, n int, keys []K, f func(i int, key K) error) error {
	return each(ctx, keys, n, false, f)
}

// UntilError is Each until one call fails: while a storage is away, each of the others could take its whole timeout.
func UntilError[K any](ctx context.Context, keys []K, f func(i int, key K) error) error {
	return each(ctx, keys, parallel, true, f)
}

// each panics if f does, in the caller's goroutine: in a request that ends this request, and in a goroutine of its own the process.
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
