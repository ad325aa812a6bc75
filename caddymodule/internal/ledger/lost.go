package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What the storage has lost, or cannot give back, and this node still knows.

// LacksAny reports whether the last listing of the storage did not have one of these facts, which the journal has.
func (j *Journal) LacksAny(facts []*Fact) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key := range j.missing {
		b := j.batches[key]
		if b != nil && slices.ContainsFunc(b.facts, func(f *Fact) bool {
			return slices.ContainsFunc(facts, func(wanted *Fact) bool { return wanted.ID == f.ID })
		}) {
			return true
		}
	}
	return false
}

// Lost returns the batches that the storage does not have any more, except of messengers that were deleted since.
func (j *Journal) Lost() map[vault.Key][]json.RawMessage {
	return j.known(func(key vault.Key, _ *batch) bool {
		incarnation, _ := j.incarnationOf(key)
		return j.missing[key] && (incarnation == NameFolder || !j.isDeleted(incarnation))
	})
}

// InRepairOrder returns the keys of batches in the order in which they are written back: what ends something is there before what it ends.
func (j *Journal) InRepairOrder(batches map[vault.Key][]json.RawMessage) []vault.Key {
	j.mu.Lock()
	defer j.mu.Unlock()
	const deletes, ends, makesAndEnds, makes = 0, 1, 2, 3
	rank := func(key vault.Key) int {
		incarnation, _ := j.incarnationOf(key)
		b := j.batches[key]
		switch {
		case incarnation == NameFolder:
			return deletes
		case b == nil || !b.makes():
			return ends
		case slices.ContainsFunc(b.facts, func(f *Fact) bool { return f.Kind == factRevoked || f.Kind == factReset || f.Kind == factExpiry }):
			return makesAndEnds
		}
		return makes
	}
	return slices.SortedFunc(maps.Keys(batches), func(a, b vault.Key) int {
		order := cmp.Compare(rank(a), rank(b))
		if order == 0 && rank(a) == makesAndEnds {
			order = j.batches[b].facts[0].At.Compare(j.batches[a].facts[0].At) // a token that one makes is ended by a later one
		}
		return cmp.Or(order, a.Compare(b))
	})
}

// EndsOf returns the facts of a batch that make nothing that others may end: no settings and no token. whole reports that they are all of it.
func (j *Journal) EndsOf(key vault.Key) (ends []json.RawMessage, whole bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.batches[key]
	if b == nil {
		return nil, true // it is about a name
	}
	for i, f := range b.facts {
		if !f.makes() {
			ends = append(ends, b.texts[i])
		}
	}
	return ends, len(ends) == len(b.facts)
}

// Damaged returns the batches that the storage has, and cannot give back. It reads all of them; an error is about the storage.
func (j *Journal) Damaged(ctx context.Context, v *vault.Vault) (map[vault.Key][]json.RawMessage, error) {
	stored := j.known(func(key vault.Key, b *batch) bool { return !j.missing[key] && !b.unwritten })
	var mu sync.Mutex
	damaged := make(map[vault.Key][]json.RawMessage)
	err := vault.UntilError(ctx, slices.Collect(maps.Keys(stored)), func(_ int, key vault.Key) error {
		_, err := v.LoadBatch(ctx, key)
		switch {
		case vault.IsSpoiled(err):
			mu.Lock()
			defer mu.Unlock()
			damaged[key] = stored[key]
			return nil
		case vault.IsOfOneValue(err): // another node has sealed it again, with a key that this one does not have
			return nil
		}
		return err
	})
	return damaged, err
}

// known returns the texts of the batches that are meant.
func (j *Journal) known(meant func(vault.Key, *batch) bool) map[vault.Key][]json.RawMessage {
	j.mu.Lock()
	defer j.mu.Unlock()
	texts := make(map[vault.Key][]json.RawMessage)
	for key, b := range j.batches {
		if meant(key, b) {
			texts[key] = b.texts
		}
	}
	return texts
}

func (b *batch) makes() bool { return slices.ContainsFunc(b.facts, (*Fact).makes) }

func (f *Fact) makes() bool { return f.Kind == factSettings || f.isToken() }
