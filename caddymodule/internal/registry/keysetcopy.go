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

// A keySetCopy is the last good key set of a URL, for a gateway that starts while the key server is away.
type keySetCopy struct {
	URL     string          `json:"url"`
	Fetched time.Time       `json:"fetched"`
	Set     json.RawMessage `json:"set"`
}

// keySetInterval is how often the time of the last fetch is written for a set that stays the same. A set that changed is
// written at once.
const keySetInterval = time.Hour

// keySetIDSize is how much of the hash of a URL names its copy, in bytes.
const keySetIDSize = 16

func keySetKey(url string) string {
	sum := sha256.Sum256([]byte(url))
	return path.Join(vault.StoreRoot, keySetFolder, hex.EncodeToString(sum[:keySetIDSize]))
}

// restoreKeySet gives a new engine the set that was kept of its URL. The engine itself judges whether it is too old. What
// cannot be read is done without: the engine fetches the set anyway.
func (l *Store) restoreKeySet(settings authn.JWKSSettings, engine *authn.JWKS) {
	var kept keySetCopy
	err := l.Load(context.Background(), keySetKey(settings.URL), &kept)
	if err == nil && kept.URL != settings.URL {
		err = vault.ErrDamaged
	}
	if err == nil {
		err = engine.Restore(kept.Set, kept.Fetched)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.log().Warn("kept key set not taken", zap.String("url", settings.URL), zap.Error(err))
	}
}

// keepKeySets returns what writes the sets that one engine fetches. It writes in the background: a request may be waiting
// for the fetch.
func (l *Store) keepKeySets() func(authn.FetchReport) {
	var mu sync.Mutex
	var last time.Time
	return func(report authn.FetchReport) {
		if report.Err != nil || !l.serves() || l.CheckWritable() != nil {
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
			if err := l.Save(ctx, keySetKey(report.URL), kept); err != nil && !errors.Is(err, vault.ErrNoStorage) {
				l.log().Warn("key set not kept for the next start", zap.String("url", report.URL), zap.Error(err))
			}
		}()
	}
}

// ForgetKeySet removes the copy of a set that is not trusted any more, and would be the first thing a restart takes.
func (l *Store) ForgetKeySet(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, vault.StoreTimeout)
	defer cancel()
	return l.Delete(ctx, keySetKey(url))
}

const keySetFolder = "_keysets"
