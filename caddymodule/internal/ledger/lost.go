package ledger

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

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

// EndsOf returns the facts of one of the lost batches that make nothing that others may end, no settings and no token, unless the storage has
// them in another one. whole reports that the batch makes nothing, and can be written as it is.
func (j *Journal) EndsOf(key vault.Key, lost map[vault.Key][]json.RawMessage) (ends []json.RawMessage, whole bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.batches[key]
	if b == nil || !b.makes() {
		return nil, true
	}
	stored := make(map[string]bool)
	for key, b := range j.batches {
		for _, f := range b.facts {
			stored[f.ID] = stored[f.ID] || !j.missing[key] && lost[key] == nil
		}
	}
	for i, f := range b.facts {
		if !f.makes() && !stored[f.ID] {
			ends = append(ends, b.texts[i])
		}
	}
	return ends, false
}

// Stored returns the batches that this node has read, and that the storage still lists.
func (j *Journal) Stored() map[vault.Key][]json.RawMessage {
	return j.known(func(key vault.Key, b *batch) bool { return !j.missing[key] && !b.unwritten })
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
