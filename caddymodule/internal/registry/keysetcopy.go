package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A keySetCopy is the last valid key set of a URL, for a gateway that starts while the key server is unavailable.
type keySetCopy struct {
	URL     string          `json:"url"`
	Fetched time.Time       `json:"fetched"`
	Set     json.RawMessage `json:"set"`
}

// keySetInterval is how often the copy of an unchanged set is written, to update the time of its last fetch. A changed set is
// written at once.
const keySetInterval = time.Hour

// keySetIDSize is how many bytes of the hash of a URL name its copy.
const keySetIDSize = 16

func keySetKey(url string) string {
	sum := sha256.Sum256([]byte(url))
	return path.Join(vault.StoreRoot, keySetFolder, hex.EncodeToString(sum[:keySetIDSize]))
}

// restoreKeySet gives a new engine the stored copy of its key set. The engine itself decides whether the copy is too old. An
// error is only logged: the engine fetches the set anyway.
func (s *Store) restoreKeySet(settings authn.JWKSSettings, engine *authn.JWKS) {
	var kept keySetCopy
	err := s.Load(context.Background(), keySetKey(settings.URL), &kept)
	if err == nil && kept.URL != settings.URL {
		err = vault.ErrDamaged
	}
	if err == nil {
		err = engine.Restore(kept.Set, kept.Fetched)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log().Warn("restoring the stored key set failed", zap.String("url", settings.URL), zap.Error(err))
	}
}

// storeKeySets returns a function that stores the sets that one engine fetches. It writes in the background, because a request
// may be waiting for the fetch.
func (s *Store) storeKeySets() func(authn.FetchReport) {
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
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), vault.StoreTimeout)
			defer cancel()
			kept := keySetCopy{URL: report.URL, Fetched: report.Fetched.UTC(), Set: report.Raw}
			if err := s.Save(ctx, keySetKey(report.URL), kept); err != nil && !errors.Is(err, vault.ErrNoStorage) {
				s.log().Warn("key set not kept for the next start", zap.String("url", report.URL), zap.Error(err))
			}
		}()
	}
}

// ForgetKeySet removes the copy of a set that is not trusted any more. Otherwise the next start would restore it.
func (s *Store) ForgetKeySet(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, vault.StoreTimeout)
	defer cancel()
	return s.Delete(ctx, keySetKey(url))
}

const keySetFolder = "_keysets"
