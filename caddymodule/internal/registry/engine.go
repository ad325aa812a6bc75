package registry

import (
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// engines has the engines of all configurations by their settings. Messengers with the same URL share an engine. A reload
// keeps the keys and fetches nothing, because Caddy loads the new configuration before it stops the old one.
var engines = caddy.NewUsagePool()

// An EngineKey identifies an engine in the pool: there is one for each store and settings.
type EngineKey struct {
	Settings authn.JWKSSettings
	store    *Store
}

// An engine is a JWKS in the pool.
type engine struct {
	*authn.JWKS
	users *fetchUsers
	key   EngineKey
}

// Destruct implements caddy.Destructor. The pool calls it when the last messenger has released the engine.
func (e engine) Destruct() error {
	e.Close()
	e.key.store.KeySets.Release(e.key.Settings.URL, e.JWKS)
	return nil
}

// acquireEngine returns the engine for key from the pool. A new one begins with the key set that the store has a copy of.
// The caller releases the engine once, with releaseEngine.
func acquireEngine(key EngineKey, access *config.KeyServerAccess, m *Messenger) (*authn.JWKS, *fetchUsers, error) {
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		log, keep := key.store.logFetches(), key.store.KeySets.Keep(key.Settings)
		users := &fetchUsers{names: make(map[metrics.MeterKey]int)}
		e := authn.NewJWKS(key.Settings, func(report authn.FetchReport) {
			names := users.count(report)
			log(report)
			keep(report)
			if report.Replaced && key.store.serves() {
				key.store.auditKeySet(report, names)
			}
			if report.Changed {
				key.store.KeySetChanged(key)
			}
		})
		if key.Settings.SmallKeys { // of a site owner, who must not explore the gateway's network
			e.RestrictHosts(func(hostname, host string) bool { return !key.store.IsInternal(hostname, host) })
		}
		if access != nil {
			e.Use(access.Fetch)
		}
		key.store.KeySets.Use(key.Settings.URL, e, func() { key.store.KeySetChanged(key) })
		key.store.KeySets.Restore(key.Settings, e)
		return engine{e, users, key}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	e := value.(engine)
	e.users.add(m, 1)
	return e.JWKS, e.users, nil
}

// releaseEngine gives back what acquireEngine returned.
func releaseEngine(src *source, m *Messenger) {
	src.fetches.add(m, -1)
	_, _ = engines.Delete(src.Engine) // Destruct returns no error
}

// maxAudited is how many messengers a line of the audit log names.
const maxAudited = 10

// auditKeySet logs that the active keys have changed.
func (s *Store) auditKeySet(report authn.FetchReport, names []string) {
	slices.Sort(names)
	if len(names) > maxAudited {
		names = append(names[:maxAudited], "…")
	}
	s.log().Named("audit").Named("keys").Info("keys changed", zap.Strings("messengers", names), zap.String("by", "the key server"),
		zap.String("url", report.URL), zap.Int("keys", report.Keys))
}

// logFetches returns a function that logs the fetches of one engine. A failure is logged when it is new, and then once in ten
// minutes. If the very first fetch fails, that is no warning yet: a key server in this same Caddy may start a moment later.
func (s *Store) logFetches() func(authn.FetchReport) {
	var mu sync.Mutex
	var lastError string
	var logged time.Time
	first := true
	return func(report authn.FetchReport) {
		mu.Lock()
		defer mu.Unlock()
		logger := s.log().Named("jwks").With(zap.String("url", report.URL))
		initial := first
		first = false
		if report.Err != nil {
			switch text := report.Err.Error(); {
			case initial:
				logger.Info("key set not fetched yet; trying again in a second", zap.Error(report.Err))
			case text != lastError || time.Since(logged) >= 10*time.Minute:
				lastError, logged = text, time.Now()
				message := "key set not fetched; the last valid one stays active as long as stale_if_error says"
				if report.Keys == 0 {
					message = "key set not fetched; no token can be verified until it is"
				}
				logger.Warn(message, zap.Error(report.Err), zap.Int("omitted", len(report.Omitted)))
			}
			return
		}
		if lastError != "" || report.Changed {
			logger.Info("key set fetched", zap.Int("keys", report.Keys), zap.Int("omitted", len(report.Omitted)))
		}
		lastError = ""
		if !report.Changed {
			return
		}
		for _, entry := range report.Omitted {
			logger.Warn("an entry of the key set is not used: it "+entry.Reason, zap.Int("index", entry.Index), zap.String("kid", entry.KeyID))
		}
	}
}
