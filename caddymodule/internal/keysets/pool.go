package keysets

import (
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// engines has the engines of all configurations by their settings. Messengers with the same URL share an engine. A reload
// keeps the keys and fetches nothing, because Caddy loads the new configuration before it stops the old one.
var engines = caddy.NewUsagePool()

// A Key identifies an engine in the pool: there is one for each store and settings.
type Key struct {
	Settings authn.JWKSSettings
	Store    *Store
}

// An Engine fetches a key set, for all messengers that use it.
type Engine struct {
	*authn.JWKS
	Key   Key
	users *users
}

// Destruct implements caddy.Destructor. The pool calls it when the last messenger has released the engine.
func (e Engine) Destruct() error {
	e.Close()
	e.Key.Store.forgetEngine(e.Key.Settings.URL, e.JWKS)
	return nil
}

// A User is a messenger that uses an engine.
type User = metrics.MeterKey

// Acquire returns the engine for settings from the pool. A new one begins with the copy of the key set in the store. access
// may be nil. The caller releases the engine once, with Release.
func (s *Store) Acquire(settings authn.JWKSSettings, access keyserver.AccessFunc, user User) (Engine, error) {
	key := Key{settings, s}
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		log, keep := s.logFetches(), s.keep(settings)
		users := &users{names: make(map[User]int)}
		public := func(hostname, host string) bool { // a site owner must not explore the gateway's network
			return settings.SmallKeys && !s.IsInternal(hostname, host)
		}
		e := authn.NewJWKS(settings, access, public, func(report authn.FetchReport) {
			names := users.count(report)
			log(report)
			keep(report)
			if report.Replaced && s.Serves() {
				s.audit(report, names)
			}
			if report.Changed {
				s.Changed(key)
			}
		})
		s.noteEngine(settings.URL, e, func() { s.Changed(key) })
		s.restore(settings, e)
		return Engine{e, key, users}, nil
	})
	if err != nil {
		return Engine{}, err
	}
	e := value.(Engine)
	e.users.add(user, 1)
	return e, nil
}

// Release releases an engine that Acquire has returned.
func (e Engine) Release(user User) {
	e.users.add(user, -1)
	_, _ = engines.Delete(e.Key) // Destruct returns no error
}

// users has the messengers that use one key set, so that its fetches are counted for each of them.
type users struct {
	mu    sync.Mutex
	names map[User]int // how often each is in use: twice for a moment during a reload
}

func (u *users) add(user User, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.names[user] += n; u.names[user] <= 0 {
		delete(u.names, user)
	}
}

// count counts a fetch for each messenger that uses the key set, and returns their names.
func (u *users) count(report authn.FetchReport) (names []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	labels := make(map[string]bool)
	for user := range u.names {
		names = append(names, user.Name)
		labels[user.Label()] = true
	}
	for label := range labels {
		metrics.Process.Fetches.WithLabelValues(label, report.Outcome()).Inc()
	}
	return names
}
