// Package keysets stores key sets from URLs: a copy of the last valid set, for a gateway that starts while its key server is unavailable,
// and the facts that a set was distrusted, which reach every node. Its engines, of type authn.JWKS, fetch the sets; messengers with one
// URL share an engine.
//
// It does not know messengers or the content of key sets: authn reads sets, and decides whether a copy is too old.
//
// Begin reading with [Store], and then with [Store.Acquire].
package keysets

import (
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
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A Store has the copies and the facts of one vault.
type Store struct {
	Vault  *vault.Vault
	Writer *vault.Writer

	Serves     func() bool                      // whether a configuration runs: one that is only validated writes no copy
	Log        func() *zap.Logger               // of the newest configuration
	Changed    func(Key)                        // is called after every change of a key set
	IsInternal func(hostname, host string) bool // whether the sets of site owners may be fetched from there

	mu   sync.Mutex
	sets map[string]*facts // by ID
}

// facts has the known facts about one URL, and the engines that fetch its set.
type facts struct {
	distrusts map[string]bool // IDs of facts
	batches   map[vault.Key][]json.RawMessage
	missing   map[vault.Key]bool // batches that the storage does not have any more
	engines   map[*authn.JWKS]func()
}

// factsOf returns the facts about a URL. The caller holds mu.
func (s *Store) factsOf(id string) *facts {
	if s.sets == nil {
		s.sets = make(map[string]*facts)
	}
	k := s.sets[id]
	if k == nil {
		k = &facts{distrusts: make(map[string]bool), batches: make(map[vault.Key][]json.RawMessage), engines: make(map[*authn.JWKS]func())}
		s.sets[id] = k
	}
	return k
}

// noteEngine records that an engine fetches the set of a URL. changed is called after it has dropped a set that another node distrusted.
func (s *Store) noteEngine(url string, engine *authn.JWKS, changed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.factsOf(ID(url)).engines[engine] = changed
}

// forgetEngine removes an engine that is not used any more. Facts that its set was distrusted stay, because the storage may lose them.
func (s *Store) forgetEngine(url string, engine *authn.JWKS) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.factsOf(ID(url))
	if delete(k.engines, engine); len(k.engines) == 0 && len(k.batches) == 0 {
		delete(s.sets, ID(url))
	}
}

// distrusts returns the facts about a URL that this node knows.
func (s *Store) distrusts(url string) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.sets[ID(url)]; k != nil {
		ids = slices.Sorted(maps.Keys(k.distrusts))
	}
	return ids
}

// Uses reports whether this node uses the set of an ID, or remembers that it was distrusted.
func (s *Store) Uses(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[id] != nil
}

// used returns the IDs for which Uses returns true.
func (s *Store) used() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.sets))
}

// urlOf returns the URL of a set that this node uses, or its ID.
func (s *Store) urlOf(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.sets[id]; k != nil {
		for engine := range k.engines {
			return keyserver.Shown(engine.Status().URL)
		}
	}
	return id
}

// Follow reads the facts about a set that this node uses. If another node has distrusted it, the keys that this node has are dropped,
// and it is fetched again.
func (s *Store) Follow(ctx context.Context, id string) error {
	distrusted, err := s.read(ctx, id)
	if distrusted {
		s.Refetch(ctx, id)
	}
	return err
}

// FollowAll is Follow for every set that this node uses. An error of the storage has precedence over an error of one value.
func (s *Store) FollowAll(ctx context.Context) (failed error) {
	for _, id := range s.used() {
		if err := s.Follow(ctx, id); err != nil && (failed == nil || vault.IsOfOneValue(failed)) {
			failed = err
		}
	}
	return failed
}

// refetchTimeout bounds one fetch of Refetch.
const refetchTimeout = 30 * time.Second

// Refetch drops the keys of a set that this node has, and fetches it again in the background.
func (s *Store) Refetch(ctx context.Context, id string) {
	s.mu.Lock()
	engines := make(map[*authn.JWKS]func())
	if k := s.sets[id]; k != nil {
		maps.Copy(engines, k.engines)
	}
	s.mu.Unlock()
	for engine, changed := range engines {
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refetchTimeout)
			defer cancel()
			_ = engine.Refresh(ctx, true) // an error is logged, and the keys are dropped in any case
			changed()
		}()
	}
}

const (
	// Folder has a folder for each URL: the copy of its set, and the facts that it was distrusted.
	Folder = "_sets"

	// OldFolder has the copies of the first versions.
	OldFolder = "_keysets"

	// copyName is the name of the copy in the folder of its URL, or the beginning of it; see copyKey.
	copyName = "copy"

	// idSize is how many bytes of the hash of a URL name its folder.
	idSize = 16
)

// ID returns the name of the folder of a URL.
func ID(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:idSize])
}

// copyKey returns the key of the copy of a set. Sets that were fetched from one URL with different access have different copies, because a
// server may show each of its users another set.
func copyKey(url, scope string) string {
	name := copyName
	if scope != "" {
		name += "-" + scope
	}
	return path.Join(vault.StoreRoot, Folder, ID(url), name)
}

// IsCopy reports whether key has the copy of a set.
func IsCopy(key string) bool {
	switch parts := strings.Split(key, "/"); {
	case len(parts) == 4 && parts[1] == Folder:
		scope, scoped := strings.CutPrefix(parts[3], copyName+"-")
		return parts[3] == copyName || scoped && len(scope) == 2*idSize
	case len(parts) == 3 && parts[1] == OldFolder:
		return len(parts[2]) == 2*idSize
	}
	return false
}

// A setCopy is the last valid key set of a URL.
type setCopy struct {
	URL     string          `json:"url"`
	Fetched time.Time       `json:"fetched"`
	Set     json.RawMessage `json:"set"`
	Knows   []string        `json:"knows,omitempty"` // the facts that it was distrusted, after which it was fetched
}

// restore gives a new engine the stored copy of its key set, unless it was distrusted after that set was fetched. The engine itself
// decides whether the copy is too old. An error is only logged: the engine fetches the set anyway.
func (s *Store) restore(settings authn.JWKSSettings, engine *authn.JWKS) {
	ctx := context.Background()
	_, err := s.read(ctx, ID(settings.URL))
	var kept setCopy
	if err == nil {
		err = s.Vault.LoadJSON(ctx, copyKey(settings.URL, settings.Scope), &kept)
		if errors.Is(err, fs.ErrNotExist) && settings.Scope == "" {
			err = s.Vault.LoadJSON(ctx, path.Join(vault.StoreRoot, OldFolder, ID(settings.URL)), &kept)
		}
	}
	if err == nil && kept.URL != settings.URL {
		err = vault.ErrDamaged
	}
	if err == nil {
		for _, fact := range s.distrusts(settings.URL) {
			if !slices.Contains(kept.Knows, fact) {
				return
			}
		}
		err = engine.Restore(kept.Set, kept.Fetched)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Log().Warn("restoring the stored key set failed", zap.String("url", keyserver.Shown(settings.URL)), zap.Error(err))
	}
}

// copyInterval is how often the copy of an unchanged set is written, to update the time of its last fetch. A changed set is written at
// once.
const copyInterval = time.Hour

// keep returns a function that stores the sets that one engine fetches. It writes in the background, because a request may be waiting
// for the fetch.
func (s *Store) keep(settings authn.JWKSSettings) func(authn.FetchReport) {
	var mu sync.Mutex
	var last time.Time
	return func(report authn.FetchReport) {
		if report.Err != nil || !s.Serves() || s.Vault.CheckWritable() != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !report.Changed && report.Fetched.Sub(last) < copyInterval {
			return
		}
		last = report.Fetched
		kept := setCopy{URL: report.URL, Fetched: report.Fetched.UTC(), Set: report.Raw, Knows: s.distrusts(report.URL)}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), vault.StoreTimeout)
			defer cancel()
			err := s.Vault.SaveJSON(ctx, copyKey(report.URL, settings.Scope), kept)
			if err == nil {
				return
			}
			mu.Lock()
			last = time.Time{} // the next fetch tries again
			mu.Unlock()
			if !errors.Is(err, vault.ErrNoStorage) {
				s.Log().Warn("storing the key set for the next start failed", zap.String("url", keyserver.Shown(report.URL)), zap.Error(err))
			}
		}()
	}
}

// Forget removes the copies of a set that is not used any more, also that of the first versions.
func (s *Store) Forget(ctx context.Context, url string) error {
	names, err := s.Vault.List(ctx, path.Join(vault.StoreRoot, Folder, ID(url)), false)
	err = errors.Join(err, s.Vault.Delete(ctx, path.Join(vault.StoreRoot, OldFolder, ID(url))))
	for _, name := range names {
		if IsCopy(name) {
			err = errors.Join(err, s.Vault.Delete(ctx, name))
		}
	}
	return err
}
