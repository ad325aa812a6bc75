package caddymodule

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// JWKS names the URL at which the site publishes its public keys.
type JWKS struct {
	// The URL of the JWK Set: https, or http on a loopback address. Placeholders are resolved when the configuration is
	// loaded. Required.
	URL string `json:"url,omitempty"`

	// How long a key set is used before it is fetched again, where the key server's Cache-Control or Expires does not
	// say; 1m to 1h. What the server says is kept within the same bounds. Default: 10m.
	RefreshInterval *caddy.Duration `json:"refresh_interval,omitempty"`

	// How long the last key set serves while the key server cannot be reached, counted from the last successful fetch.
	// Afterwards requests are answered with keys_unavailable. 0 trusts a set no longer than its lifetime. Default: 24h.
	StaleIfError *caddy.Duration `json:"stale_if_error,omitempty"`

	// How long one fetch may take, at most 30s. Default: 5s.
	Timeout *caddy.Duration `json:"timeout,omitempty"`
}

// maxFetchTimeout bounds the option timeout of a JWKS.
const maxFetchTimeout = 30 * time.Second

// settings checks j and returns what the engine needs.
func (j *JWKS) settings() (authn.JWKSSettings, error) {
	s := authn.JWKSSettings{
		URL:             j.URL,
		RefreshInterval: durationOr(j.RefreshInterval, authn.DefaultRefreshInterval),
		StaleIfError:    durationOr(j.StaleIfError, authn.DefaultStaleIfError),
		Timeout:         durationOr(j.Timeout, authn.DefaultFetchTimeout),
	}
	if s.RefreshInterval < authn.MinRefreshInterval || s.RefreshInterval > authn.MaxRefreshInterval {
		return s, fmt.Errorf("refresh_interval %s is not between %s and %s", s.RefreshInterval, authn.MinRefreshInterval, authn.MaxRefreshInterval)
	}
	if s.StaleIfError < 0 {
		return s, errors.New("stale_if_error is negative; give a duration such as 24h, or 0 to trust a set no longer than its lifetime")
	}
	if s.Timeout <= 0 || s.Timeout > maxFetchTimeout {
		return s, fmt.Errorf("timeout %s is not above 0s and at most %s", s.Timeout, maxFetchTimeout)
	}
	if strings.Contains(s.URL, "{") {
		var err error
		if s.URL, err = loadedFiles(nil).resolve(j.URL); err != nil {
			return s, fmt.Errorf("%s: %w", j.URL, err)
		}
	}
	if err := authn.CheckJWKSURL(s.URL); err != nil {
		return s, fmt.Errorf("%s%w", quoted(j.URL), err)
	}
	return s, nil
}

// quoted quotes a URL in front of what is wrong with it, without the password that it may have.
func quoted(text string) string {
	if u, err := url.Parse(text); err == nil {
		return strconv.Quote(u.Redacted()) + " "
	}
	return ""
}

func durationOr(d *caddy.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return time.Duration(*d)
}

// engines holds the engines of all configurations by their settings: messengers with one URL share one, and a reload,
// which makes the new configuration before it ends the old one, keeps its keys and fetches nothing.
var engines = caddy.NewUsagePool()

// An engineKey is the place of an engine in the pool: those with one store and equal settings are one.
type engineKey struct {
	settings authn.JWKSSettings
	store    *live
}

// An engine is a JWKS in the pool.
type engine struct {
	*authn.JWKS
	users *fetchUsers
}

// Destruct implements caddy.Destructor. The pool calls it when the last messenger has released the engine.
func (e engine) Destruct() error {
	e.Close()
	return nil
}

// acquireEngine takes the engine for key out of the pool. A new one has the key set that the store kept. The caller
// releases it once.
func acquireEngine(key engineKey, m *messenger) (*authn.JWKS, error) {
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		log, keep := key.store.logFetches(), key.store.keepKeySets()
		users := &fetchUsers{names: make(map[meterKey]int)}
		e := authn.NewJWKS(key.settings, func(report authn.FetchReport) {
			names := users.count(report)
			log(report)
			keep(report)
			if report.Replaced && key.store.serves() {
				key.store.auditKeySet(report, names)
			}
			if report.Changed {
				key.store.keySetChanged(key)
			}
		})
		key.store.restoreKeySet(key.settings, e)
		return engine{e, users}, nil
	})
	if err != nil {
		return nil, err
	}
	e := value.(engine)
	e.users.add(m, 1)
	m.fetches = e.users
	return e.JWKS, nil
}

func releaseEngine(key engineKey, m *messenger) {
	m.fetches.add(m, -1)
	_, _ = engines.Delete(key) // Destruct returns no error
}

// auditKeySet writes down that other keys are in force than before.
func (l *live) auditKeySet(report authn.FetchReport, names []string) {
	slices.Sort(names)
	if len(names) > maxNamed {
		names = append(names[:maxNamed], "…")
	}
	l.log().Named("audit").Named("keys").Info("keys changed", zap.Strings("messengers", names), zap.String("by", "the key server"),
		zap.String("url", report.URL), zap.Int("keys", report.Keys))
}

// logFetches returns what logs the fetches of one engine. A failure is logged when it is new, and then once in ten minutes.
// The very first one warns of nothing yet: a key server in this same Caddy may start a moment later.
func (l *live) logFetches() func(authn.FetchReport) {
	var mu sync.Mutex
	var lastError string
	var logged time.Time
	first := true
	return func(report authn.FetchReport) {
		mu.Lock()
		defer mu.Unlock()
		logger := l.log().Named("jwks").With(zap.String("url", report.URL))
		initial := first
		first = false
		if report.Err != nil {
			switch text := report.Err.Error(); {
			case initial:
				logger.Info("key set not fetched yet; trying again in a second", zap.Error(report.Err))
			case text != lastError || time.Since(logged) >= 10*time.Minute:
				lastError, logged = text, time.Now()
				message := "key set not fetched; the last good one stays in force as long as stale_if_error says"
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
