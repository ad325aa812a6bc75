package caddymodule

import (
	"fmt"
	"net/http"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

const (
	defaultTokenCacheSize = 100_000

	// maxTokenCacheSize is more than any machine has use for: about 2 GB.
	maxTokenCacheSize = 10_000_000
)

// verifiedTokens is the one cache of the process. It outlives configurations, so that a reload needs no second one beside
// it; a new configuration's messengers have verifiers of their own, and meet nothing that earlier ones left. It is off
// until an app starts.
var verifiedTokens = authn.NewCache(0)

func (a *App) tokenCacheSize() int {
	if a.TokenCacheSize == nil {
		return defaultTokenCacheSize
	}
	return *a.TokenCacheSize
}

// provisionTokenCache takes the cache for this configuration. Nothing changes before the configuration starts.
func (a *App) provisionTokenCache() error {
	switch size := a.tokenCacheSize(); {
	case size < 0 || size > maxTokenCacheSize:
		return fmt.Errorf("messenger: token_cache_size is not between 0 (off) and %d", maxTokenCacheSize)
	case size > 0:
		a.verified = verifiedTokens
	}
	return nil
}

// verify finds the contact that token proves, perhaps from memory, and notes it in o: a token that was seen before is not
// verified again, and fail_limit does not concern it. Whether it was revoked meanwhile is asked every time.
func (h *Handler) verify(r *http.Request, m *Messenger, token string, o *outcome) (rej *authn.Rejection) {
	started := time.Now()
	o.origin = m.origin.Load() // before the keys: what is withdrawn from here on is seen when a connection opens
	verifier, known := m.verifier.Load(), false
	if m.FailLimit == nil {
		o.contact, known, rej = h.app.verified.Verify(r.Context(), started, verifier, token, h.headers.question, nil)
	} else {
		failures := m.failuresOf(r)
		o.contact, known, rej = h.app.verified.Verify(r.Context(), started, verifier, token, h.headers.question, failures.admit)
		failures.note(rej)
	}
	h.observe(m, o, token, known, rej, started)
	return rej
}
