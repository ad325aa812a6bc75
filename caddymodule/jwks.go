package caddymodule

import (
	"errors"
	"fmt"
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
		if s.URL, err = caddy.NewReplacer().ReplaceOrErr(j.URL, true, true); err != nil {
			return s, fmt.Errorf("%s: %w", j.URL, err)
		}
	}
	if err := authn.CheckJWKSURL(s.URL); err != nil {
		return s, fmt.Errorf("%q %w", j.URL, err)
	}
	return s, nil
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

// An engine is a JWKS in the pool.
type engine struct{ *authn.JWKS }

// Destruct implements caddy.Destructor. The pool calls it when the last messenger has released the engine.
func (e engine) Destruct() error {
	e.Close()
	return nil
}

// acquireEngine takes the engine for settings out of the pool. The caller releases it once.
func acquireEngine(settings authn.JWKSSettings) (*authn.JWKS, error) {
	value, _, err := engines.LoadOrNew(settings, func() (caddy.Destructor, error) {
		return engine{authn.NewJWKS(settings, reportFetches(settings))}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(engine).JWKS, nil
}

func releaseEngine(settings authn.JWKSSettings) {
	_, _ = engines.Delete(settings) // Destruct returns no error
}

// reportFetches returns what logs the fetches of one engine. The engine outlives configurations, so it asks for the
// process's logger each time. A failure is logged when it is new, and then once in ten minutes.
func reportFetches(settings authn.JWKSSettings) func(authn.FetchReport) {
	var mu sync.Mutex
	var lastError string
	var logged time.Time
	return func(report authn.FetchReport) {
		mu.Lock()
		defer mu.Unlock()
		logger := caddy.Log().Named("messenger.jwks").With(zap.String("url", report.URL))
		if report.Err != nil {
			if text := report.Err.Error(); text != lastError || time.Since(logged) >= 10*time.Minute {
				lastError, logged = text, time.Now()
				logger.Warn("key set not fetched; the last good one stays in force as long as stale_if_error says", zap.Error(report.Err), zap.Int("omitted", len(report.Omitted)))
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
		keySetChanged(settings)
		for _, entry := range report.Omitted {
			logger.Warn("an entry of the key set is not used: it "+entry.Reason, zap.Int("index", entry.Index), zap.String("kid", entry.KeyID))
		}
	}
}
