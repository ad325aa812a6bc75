package keysets

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
)

// maxAudited is how many messengers a line of the audit log names.
const maxAudited = 10

// audit logs that the active keys have changed.
func (s *Store) audit(report authn.FetchReport, names []string) {
	slices.Sort(names)
	if len(names) > maxAudited {
		names = append(names[:maxAudited], "…")
	}
	s.Log().Named("audit").Named("keys").Info("keys changed", zap.Strings("messengers", names), zap.String("by", "the key server"),
		zap.String("url", keyserver.Shown(report.URL)), zap.Int("keys", report.Keys))
}

// logFetches returns a function that logs the fetches of one engine. A failure is logged when it is new, and then once in ten
// minutes. If the very first fetch fails, it is not a warning yet: a key server in this same Caddy may start a moment later.
func (s *Store) logFetches() func(authn.FetchReport) {
	var mu sync.Mutex
	var lastError string
	var logged time.Time
	first := true
	return func(report authn.FetchReport) {
		mu.Lock()
		defer mu.Unlock()
		logger := s.Log().Named("jwks").With(zap.String("url", keyserver.Shown(report.URL)))
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
