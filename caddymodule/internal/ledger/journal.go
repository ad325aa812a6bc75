package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// ConfigIncarnation is the incarnation of a configured messenger, which has no beginning and no end.
	ConfigIncarnation = "config"

	// NameFolder is the folder of the facts about a name. They say which of its incarnations were deleted; each incarnation has a
	// folder of its own.
	NameFolder = "name"

	// maxAhead is how far ahead a time may be. Later ones come from a clock that is wrong, and are not followed.
	maxAhead = time.Hour
)

// A Journal has the facts of one name that this node has read: of a configured messenger, or of all stored messengers that had
// the name. What it has, it keeps as long as it is of use, whatever the storage says later: a store that has gone back must not
// make a revoked token valid.
//
// mu guards everything below it, and is not held while the storage is read or written.
type Journal struct {
	Name, Kind string

	// Applying is held by the registry while it makes active what the journal says. It guards Unknown, which says whether the
	// messenger answers keys_unavailable.
	Applying sync.Mutex
	Unknown  bool

	// Detached is set for a journal that is read for one answer or change, and that the registry does not keep in memory.
	Detached bool

	// Epoch is that of the registry when it began the journal. In a later one it has dropped what it knew.
	Epoch uint64

	mu        sync.Mutex
	batches   map[vault.Key]*batch
	newestOf  map[vault.Key]uint64 // the largest number that was read, by folder and writer
	last      map[vault.Key]uint64 // the number up to which every batch was read, by the same
	ledgers   map[string]*ledger   // by incarnation
	deleted   map[string]time.Time // incarnations that a deletion names, and when it was recorded; see isDeleted
	deletions map[int64][]*Fact    // by when a messenger was created that they are about, in nanoseconds
	lost      map[string]bool      // incarnations of which the storage does not have the settings any more
	bad       map[vault.Key]error  // batches that a listing names and that cannot be read
	missing   map[vault.Key]bool   // batches that this node has read, and that the storage does not have any more
	newest    time.Time            // of a fact, unless it is more than maxAhead ahead
	ahead     time.Time            // of the latest fact that is

	compared bool   // the last reading has compared the listing
	partial  bool   // a reading has not finished, or has failed: batches before the last ones may be missing
	effect   Effect // of the facts that were added, and that apply has not seen yet
	readings uint64 // how many listings were begun; see compare

	recordErr     error  // why the record of an older version cannot be read
	recordChecked bool   // whether it was looked at, since the last sweep
	recordDigest  string // of the record, if it was carried over earlier
}

// A batch is what was read from one key.
type batch struct {
	facts []*Fact
	texts []json.RawMessage // to write it back

	reading   uint64 // the last listing that was begun before it was added
	unwritten bool   // it was made from an old record, and is not in the storage yet
}

// New makes an empty journal of a name; kind is KindRing or KindStored.
func New(name, kind string) *Journal {
	return &Journal{
		Name: name, Kind: kind,
		batches: make(map[vault.Key]*batch), ledgers: make(map[string]*ledger), deleted: make(map[string]time.Time), deletions: make(map[int64][]*Fact), lost: make(map[string]bool),
		newestOf: make(map[vault.Key]uint64), last: make(map[vault.Key]uint64), bad: make(map[vault.Key]error), missing: make(map[vault.Key]bool),
	}
}

// Folder returns the folder of an incarnation below the root of the store.
func (j *Journal) Folder(incarnation string) string { return path.Join(j.Name, incarnation) }

// incarnationOf returns the incarnation that a batch belongs to, and whether it is one of this journal.
func (j *Journal) incarnationOf(key vault.Key) (string, bool) {
	incarnation, found := strings.CutPrefix(key.Folder, j.Name+"/")
	if !found || strings.Contains(incarnation, "/") {
		return "", false
	}
	return incarnation, (incarnation == ConfigIncarnation) == (j.Kind == KindRing)
}

// root returns the folder that has all batches of the journal.
func (j *Journal) root() string { return path.Join(vault.StoreRoot, j.Name) }

// ledger returns the ledger of an incarnation. The caller holds mu.
func (j *Journal) ledger(incarnation string) *ledger {
	l := j.ledgers[incarnation]
	if l == nil {
		l = newLedger()
		j.ledgers[incarnation] = l
	}
	return l
}

// Add adds a batch. What it changes is active after the next call of apply. An effect on another incarnation than the current
// one may be an effect of the settings: which one is current may change.
func (j *Journal) Add(key vault.Key, texts []json.RawMessage, now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var e Effect
	incarnation, ours := j.incarnationOf(key)
	if !ours || j.batches[key] != nil {
		return nil
	}
	facts, err := Decode(texts)
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
			if f.At.After(j.ahead) {
				j.ahead = f.At
			}
		case f.At.After(j.newest):
			j.newest = f.At
		}
		if incarnation != NameFolder {
			j.ledger(incarnation).add(f, &e)
			continue
		}
		j.addDeletion(f)
		e.Settings = true
	}
	if j.Kind == KindStored && incarnation != NameFolder && incarnation != j.current() {
		e = Effect{Settings: e.Settings || e.Ring || e.Fewer || len(e.added) > 0}
	}
	j.effect.Merge(e)
	return nil
}

// Take returns what the facts have changed that were added since the last call. The caller makes it active.
func (j *Journal) Take() Effect {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.effect
	j.effect = Effect{}
	return e
}

// IsApplied reports whether everything that was added is active.
func (j *Journal) IsApplied() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.effect.Settings && !j.effect.Ring && !j.effect.Fewer && len(j.effect.added) == 0
}

// current returns the incarnation that counts, or "" if there is none: of those that were not deleted the one that is settled, or else
// confirmed; of several the first, and of those of one instant the one with the smallest name. One that the storage has lost does not count
// beside one that it has, which other nodes may know alone: what is done here has to reach them. The caller holds mu.
func (j *Journal) current() string {
	if j.Kind == KindRing {
		return ConfigIncarnation
	}
	best, bestRank, stored := "", 0, len(j.lost) > 0 && j.hasStored()
	var bestAt time.Time
	for incarnation, l := range j.ledgers {
		v := l.version()
		if v == nil || j.isDeleted(incarnation) || j.lost[incarnation] && stored {
			continue
		}
		rank := 0
		switch {
		case l.settled:
			rank = 2
		case len(l.confirmed) > 0:
			rank = 1
		}
		if best == "" || cmp.Or(cmp.Compare(rank, bestRank), bestAt.Compare(*v.Created), cmp.Compare(best, incarnation)) > 0 {
			best, bestRank, bestAt = incarnation, rank, *v.Created
		}
	}
	return best
}

// Record returns what the facts say, or nil if there is no messenger, or nothing about a configured one.
func (j *Journal) Record() (r *Record) {
	j.view(func(incarnation string, l *ledger) {
		if len(l.facts) > 0 {
			r = l.record(incarnation)
		}
	})
	return r
}

// stamp returns the time for facts that are made now. It is not before any fact that this one follows.
func (j *Journal) stamp(now time.Time) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	now = now.UTC().Round(0)
	if !now.After(j.newest) {
		now = j.newest.Add(1)
	}
	return now
}

// Damage returns why the journal cannot be relied upon, or nil. A batch that cannot be read may have a revocation. Facts without
// any settings mean that the settings were lost.
func (j *Journal) Damage() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.recordErr != nil {
		return j.recordErr
	}
	for key, err := range j.bad {
		if incarnation, _ := j.incarnationOf(key); !j.isDeleted(incarnation) {
			return err
		}
	}
	if j.Kind == KindRing || j.current() != "" {
		return nil
	}
	for incarnation, l := range j.ledgers {
		if !j.isDeleted(incarnation) && len(l.facts) > 0 && len(l.versions) == 0 {
			return fmt.Errorf("%s has facts and no settings: %w", path.Join(vault.StoreRoot, j.Folder(incarnation)), vault.ErrDamaged)
		}
	}
	return nil
}

// compare finds the batches that the storage has lost, and forgets what it does not have any more because it is of no use. A
// batch that was written after the listing was begun is not in it, and was not lost.
func (j *Journal) compare(listed map[vault.Key]bool, reading uint64, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.partial, j.compared = false, true
	before, lost := j.current(), maps.Clone(j.lost)
	clear(j.missing)
	for key, b := range j.batches {
		if !listed[key] && !b.unwritten && b.reading < reading {
			j.missing[key] = true
		}
	}
	j.noteLost(j.missing)
	useless := maps.Clone(j.missing) // all are found before any is forgotten: whether one is of use depends on others
	maps.DeleteFunc(useless, func(key vault.Key, _ bool) bool { return !j.isUseless(key, j.batches[key], now) })
	for key := range useless {
		delete(j.missing, key)
		j.forget(key, j.batches[key])
	}
	for key := range j.bad {
		if !listed[key] {
			delete(j.bad, key)
		}
	}
	j.effect.Settings = j.effect.Settings || j.current() != before || !maps.Equal(j.lost, lost) // which were deleted, and which count, may have changed
}

// forget removes a batch. The caller holds mu.
func (j *Journal) forget(key vault.Key, b *batch) {
	delete(j.batches, key)
	incarnation, _ := j.incarnationOf(key)
	if incarnation == NameFolder {
		j.forgetDeletions()
	}
	if l := j.ledgers[incarnation]; l != nil {
		l.forget(b.facts)
		if len(l.facts) == 0 && j.Kind == KindStored {
			delete(j.ledgers, incarnation)
		}
	}
}

// Merge adds what another effect says.
func (e *Effect) Merge(other Effect) {
	e.Settings = e.Settings || other.Settings
	e.Ring = e.Ring || other.Ring
	e.Fewer = e.Fewer || other.Fewer
	e.added = append(e.added, other.added...)
}
