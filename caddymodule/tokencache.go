package caddymodule

import (
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

const (
	defaultTokenCacheSize = 100_000

	// maxTokenCacheSize is more than any machine has use for: about 2 GB of usual tokens, and 6 GB at most.
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

// useTokenCache takes the cache for this configuration. Nothing changes before the configuration starts.
func (a *registry) useTokenCache(size int) error {
	switch {
	case size < 0 || size > maxTokenCacheSize:
		return fmt.Errorf("token_cache_size is not between 0 (off) and %d", maxTokenCacheSize)
	case size > 0:
		a.verified = verifiedTokens
	}
	return nil
}

// verify finds the contact that token proves, perhaps from memory, and notes it in o: a token that was seen before is not
// verified again, and fail_limit does not concern it. Whether it was revoked meanwhile is asked every time.
func (h *Handler) verify(r *http.Request, m *messenger, token string, o *outcome) (rej *authn.Rejection) {
	started := time.Now()
	o.origin = m.origin.Load() // before the keys: what is withdrawn from here on is seen when a connection opens
	verifier, known := m.verifier.Load(), false
	if m.FailLimit == nil {
		o.contact, known, rej = h.app.verified.Verify(r.Context(), started, verifier, token, h.headers.question, nil)
	} else {
		o.contact, known, rej = h.verifyLimited(r, m, verifier, token, started)
	}
	h.observe(m, o, token, known, rej, started)
	return rej
}

// verifyLimited is verify for a messenger with fail_limit.
func (h *Handler) verifyLimited(r *http.Request, m *messenger, v *authn.Verifier, token string, started time.Time) (contact *authn.Contact, known bool, rej *authn.Rejection) {
	failures := m.failuresOf(r)
	reserved := false
	defer func() {
		if reserved {
			failures.settle(rej) // also if the verification panicked
		}
	}()
	return h.app.verified.Verify(r.Context(), started, v, token, h.headers.question, func() *authn.Rejection {
		refused := failures.reserve(r.Context())
		reserved = refused == nil
		if !reserved || failures.key.address.IsValid() {
			return refused
		}
		if c := h.refusals.Check(zap.WarnLevel, noAddress); c != nil {
			c.Write(zap.String("messenger", m.name))
		}
		return nil
	})
}

// noAddress is said where fail_limit has nothing to tell clients apart by.
const noAddress = "clients without an address count as one for fail_limit, so that one of them can use it up for all: behind a proxy on a Unix socket set trusted_proxies_unix in the global option servers"
