package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// A Verification is how a token was verified.
type Verification struct {
	Contact *authn.Contact  // nil if the token was refused
	Origin  *session.Origin // of the messenger, read before the keys
	Began   time.Time
	Cache   authn.CacheOutcome
}

// Verify finds the contact that token identifies at m. A token in the cache is not verified again; whether it was revoked or has
// expired meanwhile is checked every time. It belongs to the registry and not to m, because all messengers share the cache.
//
// The other parameters are those of [authn.Cache.Verify].
func (reg *Registry) Verify(ctx context.Context, m *Messenger, token string, selection *authn.ClaimSelection, admit func() *authn.Rejection) (v Verification, rej *authn.Rejection) {
	v.Began = time.Now()
	v.Origin = m.Origin.Load() // before the keys, so that a key removed from here on is noticed when a connection opens
	var known bool
	v.Contact, known, rej = reg.verified.Verify(ctx, v.Began, m.Verifier.Load(), token, selection, admit)
	switch {
	case known:
		v.Cache = authn.CacheHit
	case reg.verified == nil:
		v.Cache = authn.CacheOff
	default:
		v.Cache = authn.CacheMiss
	}
	switch {
	case rej == nil:
		v.Contact.SignedBy.Use(v.Began)
	case rej.Code == authn.TooManyFailures:
		return v, rej // the token was not read
	}
	m.timings.Observe(v.Cache, v.Began)
	return v, rej
}

const (
	// DefaultTokenCacheSize is how many verified tokens are cached, unless token_cache_size is set.
	DefaultTokenCacheSize = 100_000

	// MaxTokenCacheSize is the largest token_cache_size: about 2 GB of usual tokens, and 6 GB at most.
	MaxTokenCacheSize = 10_000_000
)

// VerifiedTokens is the one cache of the process. It outlives configurations, so that a reload does not need memory for a
// second one. A new configuration's messengers have verifiers of their own, and do not find the entries of earlier ones. It
// is off until an app starts.
var VerifiedTokens = authn.NewCache(0)

// UseTokenCache makes this configuration use the cache. Its size does not change before the configuration starts.
func (reg *Registry) UseTokenCache(size int) error {
	switch {
	case size < 0 || size > MaxTokenCacheSize:
		return fmt.Errorf("token_cache_size is not between 0 (off) and %d", MaxTokenCacheSize)
	case size > 0:
		reg.verified = VerifiedTokens
	}
	return nil
}
