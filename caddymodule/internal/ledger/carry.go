package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// The first versions of the gateway kept one record for each messenger, which was read, changed and written back. What such a
// record says is carried over into facts when a node first reads the messenger. Every node makes the same facts of a record, so
// that it does not matter which one writes them, or whether several do. All nodes of a storage are stopped for this step: what
// an older node writes afterwards is ignored, and logged as an error.

// recordWriter is the writer of facts that were carried over. The first batch says that all are there.
const recordWriter = "oldrecord"

// An oldRecord is a record of the first versions.
type oldRecord struct {
	Created  time.Time       `json:"created"`
	Changed  time.Time       `json:"changed"`
	Settings json.RawMessage `json:"settings"`
	Tokens   []struct {
		KeyID   string     `json:"kid"`
		Token   string     `json:"token"`
		Created time.Time  `json:"created"`
		End     *time.Time `json:"end"`
	} `json:"tokens"`
	Revocations []revocation.Revocation `json:"revocations"`
}

// RecordKey returns the key of the record that an older version kept in place of a journal.
func (j *Journal) RecordKey() string { return path.Join(vault.StoreRoot, j.Name, j.Kind) }

// carryOver reads the record of an older version, if there is one that was not carried over.
func (j *Journal) carryOver(ctx context.Context, v *vault.Vault, names []string, write bool) error {
	if _, found := slices.BinarySearch(names, j.RecordKey()); !found {
		j.setRecordError(nil)
		return nil
	}
	carried := slices.ContainsFunc(names, func(name string) bool {
		key, _ := vault.ParseKey(name)
		_, ours := j.incarnationOf(key)
		return ours && key.Writer == recordWriter && key.Number == 1
	})
	j.mu.Lock()
	checked := j.recordChecked
	j.recordChecked = true
	j.mu.Unlock()
	if carried && checked {
		return nil
	}
	record, err := v.Inspect(ctx, j.RecordKey(), false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case vault.IsUnreadable(err) && !carried:
		v.Failed()
		j.setRecordError(err)
		return nil
	case err != nil && !carried:
		return err
	case err != nil:
		return nil
	}
	batches, digest, err := j.factsOfRecord(record.Value)
	if err != nil && !carried {
		v.Failed()
		j.setRecordError(err)
		return nil
	}
	j.setRecordError(nil)
	if carried {
		j.mu.Lock()
		j.recordDigest = digest
		j.mu.Unlock()
		return nil
	}
	return j.carry(ctx, v, batches, write)
}

// carry adds the batches of a record, and writes them. Everything is active before anything is written: a storage that can only be read
// must not make a part of the record count.
func (j *Journal) carry(ctx context.Context, v *vault.Vault, batches map[vault.Key][]json.RawMessage, write bool) error {
	keys := slices.SortedFunc(maps.Keys(batches), vault.Key.Compare)
	for _, key := range keys {
		if err := j.Add(key, batches[key], vault.Now()); err != nil {
			return err
		}
		j.setUnwritten(key, true)
	}
	if !write {
		return nil // a later Read writes it
	}
	for _, key := range slices.Backward(keys) { // the first batch, which says that all are there, is written last
		if v.SaveBatch(ctx, key, batches[key]) != nil {
			break // it is tried again with the next read
		}
		j.setUnwritten(key, false)
	}
	return nil
}

// setUnwritten notes whether a batch is not in the storage yet.
func (j *Journal) setUnwritten(key vault.Key, unwritten bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b := j.batches[key]; b != nil {
		b.unwritten, b.reading = unwritten, j.readings // a listing from before does not have it
	}
}

// ForgetRecord makes the next read look at the record again.
func (j *Journal) ForgetRecord() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recordChecked = false
}

func (j *Journal) setRecordError(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recordErr = err
}

// factsOfRecord returns the batches that an old record becomes, and its digest. The first one has the digest.
func (j *Journal) factsOfRecord(text []byte) (map[vault.Key][]json.RawMessage, string, error) {
	var r oldRecord
	if json.Unmarshal(text, &r) != nil || j.Kind == KindStored && len(r.Settings) == 0 { // the error could quote a secret
		return nil, "", fmt.Errorf("%s: %w", j.RecordKey(), vault.ErrDamaged)
	}
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])
	incarnation := ConfigIncarnation
	if j.Kind == KindStored {
		incarnation = hashOf(j.Name+"\x00"+r.Created.UTC().Format(time.RFC3339Nano), idLength)
	}
	n := 0
	newFact := func(kind string, at time.Time) *Fact {
		n++
		if at.IsZero() {
			at = time.Unix(0, 0)
		}
		return &Fact{ID: hashOf(fmt.Sprintf("%s %d", digest, n), idLength), Kind: kind, At: at.UTC()}
	}
	mark := newFact(factCarried, r.Changed)
	mark.Key = digest
	var facts []*Fact
	if len(r.Settings) > 0 && j.Kind == KindStored {
		v := newFact(factSettings, r.Changed)
		created := r.Created.UTC()
		v.Number, v.Created, v.Settings = 1, &created, r.Settings
		confirmed := newFact(factConfirmed, r.Changed)
		confirmed.Of = []string{v.ID}
		facts = append(facts, v, confirmed)
	}
	for i, t := range r.Tokens {
		token := newFact(factToken, t.Created.Add(time.Duration(i))) // in their order, also if they were made in the same second
		token.KeyID, token.Token = t.KeyID, t.Token
		facts = append(facts, token)
		if t.End != nil {
			expiry := newFact(factExpiry, t.Created)
			expiry.Of, expiry.End = []string{token.ID}, t.End
			facts = append(facts, expiry)
		}
	}
	for i := range r.Revocations {
		f := newFact(factRevoke, r.Revocations[i].Created)
		f.Revocation = &r.Revocations[i]
		facts = append(facts, f)
	}
	batches, err := j.batchesOf(incarnation, slices.Concat([][]*Fact{{mark}}, grouped(facts, 0)))
	return batches, digest, err
}

// batchesOf returns the batches with these groups of facts.
func (j *Journal) batchesOf(incarnation string, groups [][]*Fact) (map[vault.Key][]json.RawMessage, error) {
	batches := make(map[vault.Key][]json.RawMessage)
	for i, group := range groups {
		for _, f := range group {
			if err := f.check(); err != nil {
				return nil, fmt.Errorf("%s: %w", j.RecordKey(), err)
			}
		}
		texts, err := Encode(group)
		if err != nil {
			return nil, err
		}
		batches[vault.Key{Folder: j.Folder(incarnation), Writer: recordWriter, Number: uint64(i + 1)}] = texts
	}
	return batches, nil
}

// checkRecord reports whether an older version of the gateway has written a record after it was carried over, and deletes the record
// of a deleted messenger. Other records stay, for a return to that version. It does nothing unless the record was read.
func (j *Journal) checkRecord(ctx context.Context, v *vault.Vault) (changed bool) {
	j.mu.Lock()
	digest := j.recordDigest
	var carried *Fact
	gone := false
	for incarnation, l := range j.ledgers {
		if l.carried != nil {
			carried, gone = l.carried, j.isDeleted(incarnation)
		}
	}
	j.recordDigest = ""
	j.mu.Unlock()
	if digest == "" || carried == nil {
		return false
	}
	if gone {
		_ = v.Delete(ctx, j.RecordKey()) // the next sweep tries again
	}
	return carried.Key != digest
}

// Unwritten reports whether facts of an old record are not in the storage yet. A Read that may write tries again.
func (j *Journal) Unwritten() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range j.batches {
		if b.unwritten {
			return true
		}
	}
	return false
}
