package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// configIncarnation is the incarnation of a configured messenger, which has no beginning and no end.
	configIncarnation = "config"

	// nameFolder is the folder of the facts about a name, beside those of its incarnations: which of these were deleted.
	nameFolder = "name"

	// maxAhead is how far ahead a time may be. Later ones come from a clock that is wrong, and are not followed.
	maxAhead = time.Hour
)

// A journal has the facts of one name that this node has read: of a configured messenger, or of all stored messengers that had
// the name. What it has, it keeps as long as it is of use, whatever the storage says later: a store that has gone back must not
// make a revoked token valid.
//
// mu guards everything below it, and is not held while the storage is read or written.
type journal struct {
	name, kind string

	applying sync.Mutex // makes what the journal says active, one call at a time
	unknown  bool       // whether the messenger answers keys_unavailable; guarded by applying

	mu       sync.Mutex
	batches  map[vault.Key]*batch
	newestOf map[vault.Key]uint64 // the largest number that was read, by folder and writer
	last     map[vault.Key]uint64 // up to which number all that there are were read, by the same
	ledgers  map[string]*ledger   // by incarnation
	deleted  map[string]time.Time // incarnations, and when the deletion was recorded
	bad      map[vault.Key]error  // batches that a listing names and that cannot be read
	missing  map[vault.Key]bool   // batches that this node has read, and that the storage does not have any more
	newest   time.Time            // of a fact, unless it is more than maxAhead ahead
	ahead    bool                 // whether there is a fact that is

	partial  bool   // a reading has not finished, or has failed: batches before the last ones may be missing
	effect   effect // of the facts that were added, and that apply has not seen yet
	readings uint64 // how many listings were begun; see compare

	recordErr     error  // why the record of an older version cannot be read
	recordChecked bool   // whether it was looked at, since the last sweep
	recordDigest  string // of the record, if it was carried over earlier
}

// A batch is what was read from one key.
type batch struct {
	facts []*fact
	texts []json.RawMessage // to write it back

	reading   uint64 // the last listing that was begun before it was added
	unwritten bool   // it was made from an old record, and is not in the storage yet
}

func newJournal(name, kind string) *journal {
	return &journal{
		name: name, kind: kind,
		batches: make(map[vault.Key]*batch), ledgers: make(map[string]*ledger), deleted: make(map[string]time.Time),
		newestOf: make(map[vault.Key]uint64), last: make(map[vault.Key]uint64), bad: make(map[vault.Key]error), missing: make(map[vault.Key]bool),
	}
}

// folder returns the folder of an incarnation below the root of the store.
func folder(name, incarnation string) string { return path.Join(name, incarnation) }

// incarnationOf returns the incarnation that a batch belongs to, and whether it is one of this journal.
func (j *journal) incarnationOf(key vault.Key) (string, bool) {
	incarnation, found := strings.CutPrefix(key.Folder, j.name+"/")
	if !found || strings.Contains(incarnation, "/") {
		return "", false
	}
	return incarnation, (incarnation == configIncarnation) == (j.kind == kindRing)
}

// root returns the folder that has all batches of the journal.
func (j *journal) root() string { return path.Join(vault.StoreRoot, j.name) }

// ledger returns the ledger of an incarnation. The caller holds mu.
func (j *journal) ledger(incarnation string) *ledger {
	l := j.ledgers[incarnation]
	if l == nil {
		l = newLedger()
		j.ledgers[incarnation] = l
	}
	return l
}

// add adds a batch. What it changes is active after the next call of apply. An effect on another incarnation than the current
// one may be an effect of the settings: which one is current may change.
func (j *journal) add(key vault.Key, texts []json.RawMessage, now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var e effect
	incarnation, ours := j.incarnationOf(key)
	if !ours || j.batches[key] != nil {
		return nil
	}
	facts, err := decode(texts)
	if err != nil {
		j.bad[key] = fmt.Errorf("%s: %w", key, err)
		return j.bad[key]
	}
	delete(j.bad, key)
	j.batches[key] = &batch{facts: facts, texts: texts, reading: j.readings}
	of := vault.Key{Folder: key.Folder, Writer: key.Writer}
	j.newestOf[of] = max(j.newestOf[of], key.Number)
	for _, f := range facts {
		switch {
		case f.At.After(now.Add(maxAhead)):
			j.ahead = true
		case f.At.After(j.newest):
			j.newest = f.At
		}
		if incarnation != nameFolder {
			j.ledger(incarnation).add(f, &e)
			continue
		}
		for _, gone := range f.Of {
			if at, found := j.deleted[gone]; !found || f.At.Before(at) {
				j.deleted[gone] = f.At
			}
		}
		e.settings = true
	}
	if j.kind == KindStored && incarnation != nameFolder && incarnation != j.current() {
		e = effect{settings: e.settings}
	}
	j.effect.merge(e)
	return nil
}

// take returns what the facts have changed that were added since the last call. The caller makes it active.
func (j *journal) take() effect {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.effect
	j.effect = effect{}
	return e
}

// isApplied reports whether everything that was added is active.
func (j *journal) isApplied() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.effect.empty()
}

// current returns the incarnation that counts, or "" if there is none: of those that were not deleted the one whose settings
// are confirmed; of several the first, and of those of one instant the one with the smallest name. The caller holds mu.
func (j *journal) current() string {
	if j.kind == kindRing {
		return configIncarnation
	}
	best, bestConfirmed := "", false
	var bestAt time.Time
	for incarnation, l := range j.ledgers {
		v := l.version()
		if _, gone := j.deleted[incarnation]; gone || v == nil {
			continue
		}
		confirmed := len(l.confirmed) > 0
		switch {
		case best != "" && bestConfirmed && !confirmed:
		case best == "" || confirmed && !bestConfirmed,
			v.Created.Before(bestAt),
			v.Created.Equal(bestAt) && incarnation < best:
			best, bestConfirmed, bestAt = incarnation, confirmed, *v.Created
		}
	}
	return best
}

// view calls f with the current incarnation and its ledger, which is nil if there is no messenger.
func (j *journal) view(f func(incarnation string, l *ledger)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	incarnation := j.current()
	if incarnation == "" {
		f("", nil)
		return
	}
	f(incarnation, j.ledger(incarnation))
}

// record returns what the facts say, or nil if there is no messenger, or nothing about a configured one.
func (j *journal) record() (r *Record) {
	j.view(func(incarnation string, l *ledger) {
		if l != nil && len(l.facts) > 0 {
			r = l.record(incarnation)
		}
	})
	return r
}

// stamp returns the time for facts that are made now. It is not before any fact that this one follows.
func (j *journal) stamp(now time.Time) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	now = now.UTC().Round(0)
	if !now.After(j.newest) {
		now = j.newest.Add(1)
	}
	return now
}

// damage returns why the journal cannot be relied upon, or nil. A batch that cannot be read may have a revocation. Facts without
// any settings mean that the settings were lost.
func (j *journal) damage() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.recordErr != nil {
		return j.recordErr
	}
	for key, err := range j.bad {
		if incarnation, _ := j.incarnationOf(key); j.deleted[incarnation].IsZero() {
			return err
		}
	}
	if j.kind == kindRing || j.current() != "" {
		return nil
	}
	for incarnation, l := range j.ledgers {
		if j.deleted[incarnation].IsZero() && len(l.facts) > 0 && len(l.versions) == 0 {
			return fmt.Errorf("%s has facts and no settings: %w", path.Join(vault.StoreRoot, folder(j.name, incarnation)), vault.ErrDamaged)
		}
	}
	return nil
}

// read reads what the storage has and the journal does not. When it returns an error, the journal has what could be read.
func (s *Store) read(ctx context.Context, j *journal) error {
	j.mu.Lock()
	j.readings++
	reading := j.readings
	j.partial = true
	before := maps.Clone(j.newestOf)
	j.mu.Unlock()
	names, err := s.List(ctx, j.root(), true)
	if err != nil {
		return err
	}
	if err := s.carryOver(ctx, j, names); err != nil {
		return err
	}
	listed := make(map[vault.Key]bool)
	var keys []string
	j.mu.Lock()
	for _, name := range names {
		key, valid := vault.ParseKey(name)
		if _, ours := j.incarnationOf(key); !valid || !ours {
			continue
		}
		listed[key] = true
		if j.batches[key] == nil {
			keys = append(keys, name)
		}
	}
	j.mu.Unlock()
	if err := s.readBatches(ctx, j, keys); err != nil {
		return err
	}
	j.compare(listed, reading, Now())
	s.checkRecord(ctx, j)
	j.mu.Lock()
	defer j.mu.Unlock()
	// A file system reads a folder in parts: of the batches that were written during a listing it may have a later one without
	// an earlier one. Those before one that was known when it began are all in it.
	for of, n := range before {
		j.last[of] = max(j.last[of], n)
	}
	return nil
}

// readBatches reads the batches at keys.
func (s *Store) readBatches(ctx context.Context, j *journal, keys []string) error {
	return vault.UntilError(ctx, keys, func(_ int, name string) error {
		key, _ := vault.ParseKey(name)
		texts, err := s.loadBatch(ctx, key)
		if err == nil && texts == nil {
			return nil // it was never acknowledged
		}
		if vault.IsUnreadable(err) {
			j.mu.Lock()
			j.bad[key] = err
			j.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
		_ = j.add(key, texts, Now()) // an error is noted in the journal
		return nil
	})
}

// loadBatch reads a batch that a listing names. If there is no value, it asks again: it may be about to be written. If its
// writer has not said that it was written, it was never acknowledged, and loadBatch returns nil. Otherwise it was lost, and may
// have had a revocation.
func (s *Store) loadBatch(ctx context.Context, key vault.Key) ([]json.RawMessage, error) {
	for try := 0; ; try++ {
		text, err := s.Load(ctx, key.String())
		switch {
		case err == nil:
			texts, err := vault.DecodeBatch(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			return texts, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case try < 3:
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		pending, err := s.IsPending(ctx, key)
		if err != nil || pending {
			return nil, err
		}
		names, err := s.List(ctx, path.Dir(key.String()), false)
		if err != nil || !slices.Contains(names, key.String()) {
			return nil, err // it has outlived its use, and was removed meanwhile
		}
		return nil, fmt.Errorf("%s is listed, and has no value: %w", key, vault.ErrDamaged)
	}
}

// compare finds the batches that the storage has lost, and forgets what it does not have any more because it is of no use. A
// batch that was written after the listing was begun is not in it, and was not lost.
func (j *journal) compare(listed map[vault.Key]bool, reading uint64, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.partial = false
	clear(j.missing)
	for key, b := range j.batches {
		switch {
		case listed[key], b.unwritten, b.reading >= reading:
		case j.isUseless(key, b, now):
			j.forget(key, b)
		default:
			j.missing[key] = true
		}
	}
	for key := range j.bad {
		if !listed[key] {
			delete(j.bad, key)
		}
	}
}

// forget removes a batch. The caller holds mu.
func (j *journal) forget(key vault.Key, b *batch) {
	delete(j.batches, key)
	incarnation, _ := j.incarnationOf(key)
	if l := j.ledgers[incarnation]; l != nil {
		l.forget(b.facts)
		if len(l.facts) == 0 && j.kind == KindStored {
			delete(j.ledgers, incarnation)
		}
	}
}

// merge adds what another effect says.
func (e *effect) merge(other effect) {
	e.settings = e.settings || other.settings
	e.ring = e.ring || other.ring
	e.fewer = e.fewer || other.fewer
	e.distrust = e.distrust || other.distrust
	e.added = append(e.added, other.added...)
}

// lost returns the batches that the storage does not have any more.
func (j *journal) lost() map[vault.Key][]json.RawMessage {
	j.mu.Lock()
	defer j.mu.Unlock()
	lost := make(map[vault.Key][]json.RawMessage)
	for key := range j.missing {
		if b := j.batches[key]; b != nil {
			lost[key] = b.texts
		}
	}
	return lost
}
