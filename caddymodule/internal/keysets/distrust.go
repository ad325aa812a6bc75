package keysets

import (
	"context"
	"encoding/json"
	"path"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Note notes the facts of a batch, if it is about a key set, and reports whether one was not known.
func (s *Store) Note(key vault.Key, texts []json.RawMessage) (news bool) {
	folder, id := path.Split(key.Folder)
	if folder != Folder+"/" {
		return false
	}
	read, err := ledger.Decode(texts)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.factsOf(id)
	k.batches[key] = texts
	for _, f := range read {
		if f.Kind == ledger.FactDistrust && !k.distrusts[f.ID] {
			k.distrusts[f.ID] = true
			news = true
		}
	}
	return news
}

// read reads the facts about a URL, and reports whether one was not known.
func (s *Store) read(ctx context.Context, id string) (news bool, err error) {
	missing := s.known(id) // before the listing: what is written later is not in it
	names, err := s.Vault.List(ctx, path.Join(vault.StoreRoot, Folder, id, "facts"), false)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		key, valid := vault.ParseKey(name)
		if !valid {
			continue
		}
		delete(missing, key)
		texts, err := ledger.LoadBatch(ctx, s.Vault, key)
		if err != nil {
			return news, err
		}
		news = s.Note(key, texts) || news
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.sets[id]; k != nil {
		k.missing = missing
	}
	return news, nil
}

// known returns the keys of the batches about a set that this node has read or written.
func (s *Store) known(id string) map[vault.Key]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[vault.Key]bool)
	if k := s.sets[id]; k != nil {
		for key := range k.batches {
			known[key] = true
		}
	}
	return known
}

// Lost returns of how many sets that this node uses the storage has lost that they were distrusted.
func (s *Store) Lost() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sets {
		if len(k.missing) > 0 {
			n++
		}
	}
	return n
}

// Repair writes back that sets were distrusted, where the storage has lost that, and returns of how many it was.
func (s *Store) Repair(ctx context.Context) (written int, err error) {
	if err := s.FollowAll(ctx); err != nil && !vault.IsOfOneValue(err) {
		return 0, err
	}
	s.mu.Lock()
	lost := make(map[string]map[vault.Key][]json.RawMessage)
	for id, k := range s.sets {
		for key := range k.missing {
			if lost[id] == nil {
				lost[id] = make(map[vault.Key][]json.RawMessage)
			}
			lost[id][key] = k.batches[key]
		}
	}
	s.mu.Unlock()
	for id, batches := range lost {
		for key, texts := range batches {
			if err := s.Vault.SaveBatch(ctx, key, texts); err != nil {
				return written, err
			}
		}
		written++
		if err := s.Writer.Announce(ctx, path.Join(Folder, id)); err != nil { // other nodes read it again
			return written, err
		}
		if _, err := s.read(ctx, id); err != nil {
			return written, err
		}
	}
	return written, nil
}

// Distrust records that the sets of an ID that were fetched so far are not trusted any more. Every node drops them; this one only
// with Refetch.
func (s *Store) Distrust(ctx context.Context, id string) error {
	texts, err := ledger.Encode([]*ledger.Fact{ledger.NewFact(ledger.FactDistrust, vault.Now().UTC())})
	if err != nil {
		return err
	}
	_, err = s.Writer.Append(ctx, path.Join(Folder, id), true, texts)
	return err
}
