package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

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
	Revocations []Revocation `json:"revocations"`
}

// recordKey returns the key of the record that an older version kept in place of a journal.
func (j *journal) recordKey() string { return path.Join(vault.StoreRoot, j.name, j.kind) }

// carryOver reads the record of an older version, if there is one that was not carried over.
func (s *Store) carryOver(ctx context.Context, j *journal, names []string) error {
	if _, found := slices.BinarySearch(names, j.recordKey()); !found {
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
	text, err := s.LoadRecord(ctx, j.recordKey())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case vault.IsUnreadable(err) && !carried:
		s.Failed()
		j.setRecordError(err)
		return nil
	case err != nil && !carried:
		return err
	case err != nil:
		return nil
	}
	batches, digest, err := j.factsOfRecord(text)
	if err != nil && !carried {
		s.Failed()
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
	// Everything is active before anything is written: a storage that can only be read must not make a part of the record count.
	keys := slices.SortedFunc(maps.Keys(batches), func(a, b vault.Key) int { return cmp.Compare(a.Number, b.Number) })
	for _, key := range keys {
		if err := j.add(key, batches[key], Now()); err != nil {
			return err
		}
		j.setUnwritten(key, true)
	}
	if !s.serves() {
		s.readAgain(j.name, forever) // it is written with the first poll, if this configuration ever runs
		return nil
	}
	for _, key := range slices.Backward(keys) { // the first batch, which says that all are there, is written last
		if s.SaveBatch(ctx, key, batches[key]) != nil {
			break // it is tried again with the next read
		}
		j.setUnwritten(key, false)
	}
	return nil
}

// setUnwritten notes whether a batch is not in the storage yet.
func (j *journal) setUnwritten(key vault.Key, unwritten bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b := j.batches[key]; b != nil {
		b.unwritten, b.reading = unwritten, j.readings // a listing from before does not have it
	}
}

// forgetRecord makes the next read look at the record again.
func (j *journal) forgetRecord() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recordChecked = false
}

func (j *journal) setRecordError(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recordErr = err
}

// factsOfRecord returns the batches that an old record becomes, and its digest. The first one has the digest.
func (j *journal) factsOfRecord(text []byte) (map[vault.Key][]json.RawMessage, string, error) {
	var r oldRecord
	if json.Unmarshal(text, &r) != nil || j.kind == KindStored && len(r.Settings) == 0 { // the error could quote a secret
		return nil, "", fmt.Errorf("%s: %w", j.recordKey(), vault.ErrDamaged)
	}
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])
	incarnation := configIncarnation
	if j.kind == KindStored {
		sum := sha256.Sum256([]byte(j.name + "\x00" + r.Created.UTC().Format(time.RFC3339Nano)))
		incarnation = strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:16])
	}
	n := 0
	make := func(kind string, at time.Time) *fact {
		n++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", digest, n))
		if at.IsZero() {
			at = time.Unix(0, 0)
		}
		return &fact{ID: strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:16]), Kind: kind, At: at.UTC()}
	}
	mark := make(factCarried, r.Changed)
	mark.Key = digest
	groups := [][]*fact{{mark}, nil}
	size := 0 // of the last group
	add := func(f *fact) {
		last := len(groups) - 1
		more := len(f.Settings) + len(f.Token)
		if f.Revocation != nil {
			more += f.Revocation.size()
		}
		if size += more; len(groups[last]) >= 256 || size > vault.MaxValue/4 && len(groups[last]) > 0 {
			groups, last, size = append(groups, nil), last+1, more
		}
		groups[last] = append(groups[last], f)
	}
	if len(r.Settings) > 0 && j.kind == KindStored {
		v := make(factSettings, r.Changed)
		created := r.Created.UTC()
		v.Number, v.Created, v.Settings = 1, &created, r.Settings
		add(v)
		confirmed := make(factConfirmed, r.Changed)
		confirmed.Of = []string{v.ID}
		add(confirmed)
	}
	for i, t := range r.Tokens {
		token := make(factToken, t.Created.Add(time.Duration(i))) // in their order, also if they were made in the same second
		token.KeyID, token.Token = t.KeyID, t.Token
		add(token)
		if t.End != nil {
			expiry := make(factExpiry, t.Created)
			expiry.Of, expiry.End = []string{token.ID}, t.End
			add(expiry)
		}
	}
	for i := range r.Revocations {
		f := make(factRevoke, r.Revocations[i].Created)
		f.Revocation = &r.Revocations[i]
		add(f)
	}
	batches := map[vault.Key][]json.RawMessage{}
	for i, group := range groups {
		if len(group) == 0 {
			continue
		}
		for _, f := range group {
			if err := f.check(); err != nil {
				return nil, "", fmt.Errorf("%s: %w", j.recordKey(), err)
			}
		}
		texts, err := encode(group)
		if err != nil {
			return nil, "", err
		}
		batches[vault.Key{Folder: folder(j.name, incarnation), Writer: recordWriter, Number: uint64(i + 1)}] = texts
	}
	return batches, digest, nil
}

// checkRecord logs an error if an older version of the gateway has written a record after it was carried over, and deletes the
// record of a deleted messenger. Other records stay, for a return to that version. It does nothing unless the record was read.
func (s *Store) checkRecord(ctx context.Context, j *journal) {
	j.mu.Lock()
	digest := j.recordDigest
	var carried *fact
	gone := false
	for incarnation, l := range j.ledgers {
		if l.carried != nil {
			carried, gone = l.carried, !j.deleted[incarnation].IsZero()
		}
	}
	j.recordDigest = ""
	j.mu.Unlock()
	switch {
	case digest == "" || carried == nil:
	case carried.Key != digest:
		s.log().Error("an older version of the gateway has changed this messenger after its record was carried over; the change is ignored: stop that node, and repeat the change",
			zap.String("messenger", j.name))
	case gone:
		_ = s.Delete(ctx, j.recordKey()) // the next sweep tries again
	}
}
