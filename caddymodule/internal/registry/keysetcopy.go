package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A keySetCopy is the last valid key set of a URL, for a gateway that starts while the key server is unavailable.
type keySetCopy struct {
	URL     string          `json:"url"`
	Fetched time.Time       `json:"fetched"`
	Set     json.RawMessage `json:"set"`
	Knows   []string        `json:"knows,omitempty"` // the facts that it was distrusted, after which it was fetched
}

const (
	// keySetFolder has a folder for each URL: the copy of its set, and the facts that it was distrusted.
	keySetFolder = "_sets"

	// oldKeySetFolder has the copies of the first versions.
	oldKeySetFolder = "_keysets"

	// keySetInterval is how often the copy of an unchanged set is written, to update the time of its last fetch. A changed set
	// is written at once.
	keySetInterval = time.Hour

	// copyName is the name of the copy in the folder of its URL, or the beginning of it; see copyKey.
	copyName = "copy"

	// keySetIDSize is how many bytes of the hash of a URL name its folder.
	keySetIDSize = 16
)

func keySetID(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:keySetIDSize])
}

// copyKey returns the key of the copy of a set. Sets that were fetched from one URL in different ways have different copies: what a
// server shows to one of its users is not what it shows to another.
func copyKey(url, scope string) string {
	name := copyName
	if scope != "" {
		name += "-" + scope
	}
	return path.Join(vault.StoreRoot, keySetFolder, keySetID(url), name)
}

// keySetFacts is what a node knows of the facts about one URL, and who uses its set.
type keySetFacts struct {
	distrusts map[string]bool // IDs of facts
	engines   map[EngineKey]*authn.JWKS
}

// keySetFactsOf returns the facts about a URL. The caller holds mu.
func (s *Store) keySetFactsOf(id string) *keySetFacts {
	k := s.keySets[id]
	if k == nil {
		k = &keySetFacts{distrusts: make(map[string]bool), engines: make(map[EngineKey]*authn.JWKS)}
		s.keySets[id] = k
	}
	return k
}

// useKeySet notes that an engine is used, or is not any more.
func (s *Store) useKeySet(key EngineKey, engine *authn.JWKS, used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := keySetID(key.Settings.URL)
	k := s.keySetFactsOf(id)
	if used {
		k.engines[key] = engine
		return
	}
	if delete(k.engines, key); len(k.engines) == 0 {
		delete(s.keySets, id)
	}
}

// knownDistrusts returns the facts about a URL that this node knows.
func (s *Store) knownDistrusts(url string) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keySets[keySetID(url)]; k != nil {
		for id := range k.distrusts {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// restoreKeySet gives a new engine the stored copy of its key set, unless it was distrusted after that set was fetched. The
// engine itself decides whether the copy is too old. An error is only logged: the engine fetches the set anyway.
func (s *Store) restoreKeySet(settings authn.JWKSSettings, engine *authn.JWKS) {
	ctx := context.Background()
	id := keySetID(settings.URL)
	err := s.readKeySetFacts(ctx, id, nil)
	var kept keySetCopy
	if err == nil {
		err = s.loadJSON(ctx, copyKey(settings.URL, settings.Scope), &kept)
		if errors.Is(err, fs.ErrNotExist) && settings.Scope == "" {
			err = s.loadJSON(ctx, path.Join(vault.StoreRoot, oldKeySetFolder, id), &kept)
		}
	}
	if err == nil && kept.URL != settings.URL {
		err = vault.ErrDamaged
	}
	if err == nil {
		for _, id := range s.knownDistrusts(settings.URL) {
			if !slices.Contains(kept.Knows, id) {
				return
			}
		}
		err = engine.Restore(kept.Set, kept.Fetched)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log().Warn("restoring the stored key set failed", zap.String("url", settings.URL), zap.Error(err))
	}
}

// readKeySetFacts reads the facts about a URL. found is called for each that this node did not know; it may be nil.
func (s *Store) readKeySetFacts(ctx context.Context, id string, found func()) error {
	names, err := s.List(ctx, path.Join(vault.StoreRoot, keySetFolder, id, "facts"), false)
	if err != nil {
		return err
	}
	for _, name := range names {
		key, valid := vault.ParseKey(name)
		if !valid {
			continue
		}
		texts, err := ledger.LoadBatch(ctx, s.Vault, key)
		if err != nil {
			return err
		}
		if s.keySetFact(key, texts) && found != nil {
			found()
		}
	}
	return nil
}

// keySetFact notes the facts of a batch about a key set, and reports whether one was not known.
func (s *Store) keySetFact(key vault.Key, texts []json.RawMessage) (news bool) {
	folder, id := path.Split(key.Folder)
	if folder != keySetFolder+"/" {
		return false
	}
	facts, err := ledger.Decode(texts)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keySetFactsOf(id)
	for _, f := range facts {
		if f.Kind == ledger.FactDistrust && !k.distrusts[f.ID] {
			k.distrusts[f.ID] = true
			news = true
		}
	}
	return news
}

// followKeySet fetches a key set again, and drops the keys that this node has, if another node has distrusted it.
func (s *Store) followKeySet(ctx context.Context, c vault.Change) error {
	_, id := path.Split(c.Key.Folder)
	s.mu.Lock()
	used := s.keySets[id] != nil
	s.mu.Unlock()
	switch {
	case !used:
		return nil
	case c.Pending:
		s.readAgain(keySetFolder, time.Now().Add(aboutTo))
		return nil
	}
	distrusted := false
	err := s.readKeySetFacts(ctx, id, func() { distrusted = true })
	if distrusted {
		s.fetchDistrusted(ctx, id)
	}
	if err != nil {
		s.readAgain(keySetFolder, forever)
	}
	return err
}

// fetchDistrusted drops the keys of a set that this node has, and fetches it again.
func (s *Store) fetchDistrusted(ctx context.Context, id string) {
	s.mu.Lock()
	engines := make(map[EngineKey]*authn.JWKS)
	if k := s.keySets[id]; k != nil {
		maps.Copy(engines, k.engines)
	}
	s.mu.Unlock()
	for key, engine := range engines {
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxRead)
			defer cancel()
			_ = engine.Refresh(ctx, true) // an error is logged, and the keys are dropped in any case
			s.KeySetChanged(key)
		}()
	}
}

// rereadKeySets reads again the facts about the key sets that are used.
func (s *Store) rereadKeySets(ctx context.Context) (failed error) {
	s.mu.Lock()
	ids := make([]string, 0, len(s.keySets))
	for id := range s.keySets {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		if err := s.followKeySet(ctx, vault.Change{Key: vault.Key{Folder: path.Join(keySetFolder, id)}}); err != nil {
			failed = err
		}
	}
	return failed
}

// DistrustKeySet records that the sets of a URL that were fetched so far are not trusted any more. Every node drops them.
func (s *Store) DistrustKeySet(ctx context.Context, url string) error {
	facts, err := ledger.Encode([]*ledger.Fact{ledger.NewFact(ledger.FactDistrust, Now().UTC())})
	if err != nil {
		return err
	}
	_, err = s.writer.Append(ctx, path.Join(keySetFolder, keySetID(url)), true, facts)
	return err
}

// storeKeySets returns a function that stores the sets that one engine fetches. It writes in the background, because a request
// may be waiting for the fetch.
func (s *Store) storeKeySets(settings authn.JWKSSettings) func(authn.FetchReport) {
	var mu sync.Mutex
	var last time.Time
	return func(report authn.FetchReport) {
		if report.Err != nil || !s.serves() || s.CheckWritable() != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !report.Changed && report.Fetched.Sub(last) < keySetInterval {
			return
		}
		last = report.Fetched
		kept := keySetCopy{URL: report.URL, Fetched: report.Fetched.UTC(), Set: report.Raw, Knows: s.knownDistrusts(report.URL)}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), vault.StoreTimeout)
			defer cancel()
			err := s.saveJSON(ctx, copyKey(report.URL, settings.Scope), kept)
			if err == nil {
				return
			}
			mu.Lock()
			last = time.Time{} // the next fetch tries again
			mu.Unlock()
			if !errors.Is(err, vault.ErrNoStorage) {
				s.log().Warn("storing the key set for the next start failed", zap.String("url", report.URL), zap.Error(err))
			}
		}()
	}
}

// ForgetKeySet removes the copies of a set that is not used any more, also that of the first versions.
func (s *Store) ForgetKeySet(ctx context.Context, url string) error {
	id := keySetID(url)
	names, err := s.List(ctx, path.Join(vault.StoreRoot, keySetFolder, id), false)
	err = errors.Join(err, s.Delete(ctx, path.Join(vault.StoreRoot, oldKeySetFolder, id)))
	for _, name := range names {
		if strings.HasPrefix(path.Base(name), copyName) && IsStoreKey(name) {
			err = errors.Join(err, s.Delete(ctx, name))
		}
	}
	return err
}

// loadJSON reads a value that is not a fact. Such a value is informative only: one with a member that this version does not know,
// which may be a restriction, is not used.
func (s *Store) loadJSON(ctx context.Context, key string, value any) error {
	text, err := s.Load(ctx, key)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(value) != nil || decoder.More() {
		return vault.ErrDamaged // the decoder's error could quote a secret
	}
	return nil
}

func (s *Store) saveJSON(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.Save(ctx, key, text)
}
