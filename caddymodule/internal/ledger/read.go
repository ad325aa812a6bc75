package ledger

import (
	"context"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Read reads what the storage has and the journal does not. write says whether the record of an older version may be carried over. When
// it returns an error, the journal has what could be read.
func (j *Journal) Read(ctx context.Context, v *vault.Vault, write bool) (recordChanged bool, err error) {
	j.mu.Lock()
	j.readings++
	reading := j.readings
	j.partial, j.compared = true, false
	before := maps.Clone(j.newestOf)
	j.mu.Unlock()
	names, err := v.List(ctx, j.root(), true)
	if err != nil {
		return false, err
	}
	if err := j.carryOver(ctx, v, names, write); err != nil {
		return false, err
	}
	listed := make(map[vault.Key]bool)
	var keys []vault.Key
	j.mu.Lock()
	for _, name := range names {
		key, valid := vault.ParseKey(name)
		if _, ours := j.incarnationOf(key); !valid || !ours {
			continue
		}
		listed[key] = true
		if j.batches[key] == nil {
			keys = append(keys, key)
		}
	}
	j.mu.Unlock()
	refused, err := j.readBatches(ctx, v, keys)
	if err != nil {
		return false, err
	}
	j.compare(listed, reading, vault.Now())
	recordChanged = j.checkRecord(ctx, v)
	j.mu.Lock()
	defer j.mu.Unlock()
	if refused != nil {
		j.partial = true
		return recordChanged, refused
	}
	// A file system reads a folder in parts: of the batches that were written during a listing it may have a later one without
	// an earlier one. Those before one that was known when it began are all in it.
	for of, n := range before {
		j.last[of] = max(j.last[of], n)
	}
	return recordChanged, nil
}

// IsCompared reports whether the last reading came so far that Lost is known.
func (j *Journal) IsCompared() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compared
}

// readBatches reads the batches at keys. A value that a file system refuses keeps it from reading no other; refused is the error of one.
func (j *Journal) readBatches(ctx context.Context, v *vault.Vault, keys []vault.Key) (refused, err error) {
	var mu sync.Mutex
	err = vault.UntilError(ctx, keys, func(_ int, key vault.Key) error {
		texts, err := v.LoadBatch(ctx, key)
		if err == nil && texts == nil {
			return nil // it was never acknowledged
		}
		if vault.IsUnreadable(err) {
			j.SetUnreadable(key, err)
			return nil
		}
		if vault.IsOfOneValue(err) {
			mu.Lock()
			defer mu.Unlock()
			refused = err
			return nil
		}
		if err != nil {
			return err
		}
		_ = j.Add(key, texts, vault.Now()) // an error is noted in the journal
		return nil
	})
	return refused, err
}

// ReadNext reads the batches that follow those that the journal has of the same writer, up to last, and reports whether that
// was all. A journal of another kind needs nothing.
func (j *Journal) ReadNext(ctx context.Context, v *vault.Vault, last vault.Key) bool {
	if _, ours := j.incarnationOf(last); !ours {
		return true
	}
	j.mu.Lock()
	have := j.last[vault.Key{Folder: last.Folder, Writer: last.Writer}]
	partial := j.partial
	j.mu.Unlock()
	if partial {
		return false
	}
	if have >= last.Number {
		return true
	}
	if last.Number-have > maxTargeted {
		return false
	}
	var keys []vault.Key
	j.mu.Lock()
	for n := have + 1; n <= last.Number; n++ {
		if key := (vault.Key{Folder: last.Folder, Writer: last.Writer, Number: n}); j.batches[key] == nil {
			keys = append(keys, key)
		}
	}
	j.mu.Unlock()
	batches := make([][]json.RawMessage, len(keys))
	err := vault.UntilError(ctx, keys, func(i int, key vault.Key) error {
		text, err := v.Load(ctx, key.String())
		if err == nil {
			batches[i], err = vault.DecodeBatch(text)
		}
		return err
	})
	if err != nil {
		return false
	}
	for i, key := range keys {
		if j.Add(key, batches[i], vault.Now()) != nil {
			return false
		}
	}
	j.mu.Lock()
	of := vault.Key{Folder: last.Folder, Writer: last.Writer}
	j.last[of] = max(j.last[of], last.Number)
	j.mu.Unlock()
	return j.Damage() == nil // what it lacks may be in the folder already, told by another writer
}

// maxTargeted is how many batches are read by their numbers, without listing their folder.
const maxTargeted = 64

// IsReplaced reports whether the storage has an incarnation, or the deletion of one, that the journal does not know. It does not
// list the facts, of which there may be many. If the storage cannot be read, it reports true.
func (j *Journal) IsReplaced(ctx context.Context, v *vault.Vault) bool {
	names, err := v.List(ctx, j.root(), false)
	if err != nil {
		return true
	}
	j.mu.Lock()
	var unknown bool
	for _, name := range names {
		incarnation := path.Base(name)
		switch {
		case incarnation == NameFolder:
			unknown = unknown || len(j.deleted) == 0
		case incarnation == ConfigIncarnation, j.ledgers[incarnation] != nil, strings.ContainsAny(incarnation, "-_."):
		case incarnation == KindStored, incarnation == KindRing:
		default:
			unknown = unknown || !j.isDeleted(incarnation)
		}
	}
	knows := len(j.deleted) > 0
	j.mu.Unlock()
	if unknown || !knows {
		return unknown
	}
	deletions, err := v.List(ctx, path.Join(j.root(), NameFolder, "facts"), false)
	if err != nil {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(deletions, func(name string) bool {
		key, valid := vault.ParseKey(name)
		return valid && j.batches[key] == nil
	})
}

// Count returns how many facts the journal has.
func (j *Journal) Count() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.ledgers {
		n += len(l.facts)
	}
	return n
}

// Health returns how many batches the storage has lost that the journal has, and whether there is a fact whose time is more than an
// hour ahead.
func (j *Journal) Health() (missing int, ahead bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.missing), j.ahead.After(vault.Now().Add(maxAhead))
}

// Lacks reports whether a batch belongs to the journal, and was not read yet.
func (j *Journal) Lacks(key vault.Key) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ours := j.incarnationOf(key)
	return ours && j.batches[key] == nil
}
