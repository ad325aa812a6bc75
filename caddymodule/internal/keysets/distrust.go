package keysets

import (
	"context"
	"encoding/json"
	"path"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Note records the facts of a batch, if it is about a key set, and reports whether one is new.
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
	if k.batches[key] == nil {
		k.batches[key] = texts
	}
	for _, f := range read {
		if f.Kind == ledger.FactDistrust && !k.distrusts[f.ID] {
			k.distrusts[f.ID] = true
			news = true
		}
	}
	return news
}

// read reads the facts about a URL, and reports whether one is new. An unreadable value does not stop it from reading the others.
func (s *Store) read(ctx context.Context, id string) (news bool, failed error) {
	missing := s.known(id) // before the listing, which does not have later batches
	names, err := s.Vault.List(ctx, path.Join(vault.StoreRoot, Folder, id, "facts"), false)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		key, valid := vault.ParseKey(name)
		if !valid {
			continue
		}
		texts, err := s.Vault.LoadBatch(ctx, key)
		switch {
		case vault.IsOfOneValue(err):
			failed = err
		case err != nil:
			return news, err
		case texts == nil: // it was never acknowledged, or the storage has just lost it
			continue
		default:
			news = s.Note(key, texts) || news
		}
		if !vault.IsSpoiled(err) { // Repair writes a known one again
			delete(missing, key)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.sets[id]; k != nil {
		k.missing = missing
	}
	return news, failed
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

// Lost returns the number of used sets for which the storage has lost the fact that they were distrusted.
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

// Repaired is the result of Repair.
type Repaired struct {
	Sets   int              // whose distrust was written back
	Failed map[string]error // by URL
}

// Repair writes the facts that sets were distrusted again, where they are missing or unreadable in the storage. It continues with the other
// sets if a value of one cannot be written.
func (s *Store) Repair(ctx context.Context) (done Repaired, err error) {
	done.Failed = make(map[string]error)
	for _, id := range s.used() {
		written, err := s.repair(ctx, id)
		if written {
			done.Sets++
		}
		if err != nil && !vault.IsOfOneValue(err) {
			return done, err
		}
		if err != nil {
			done.Failed[s.urlOf(id)] = err
		}
	}
	return done, nil
}

func (s *Store) repair(ctx context.Context, id string) (written bool, err error) {
	if err := s.Follow(ctx, id); err != nil && !vault.IsOfOneValue(err) {
		return false, err
	}
	lost := make(map[vault.Key][]json.RawMessage)
	s.mu.Lock()
	if k := s.sets[id]; k != nil {
		for key := range k.missing {
			lost[key] = k.batches[key]
		}
	}
	s.mu.Unlock()
	for key, texts := range lost {
		if err := s.Vault.SaveBatch(ctx, key, texts); err != nil {
			return false, err
		}
	}
	if len(lost) > 0 {
		if err := s.Writer.Announce(ctx, path.Join(Folder, id)); err != nil { // other nodes read it again
			return true, err
		}
	}
	_, err = s.read(ctx, id)
	return len(lost) > 0, err
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
