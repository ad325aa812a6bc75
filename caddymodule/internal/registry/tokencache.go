package registry

import (
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

const (
	DefaultTokenCacheSize = 100_000

	// MaxTokenCacheSize is more than any machine has use for: about 2 GB of usual tokens, and 6 GB at most.
	MaxTokenCacheSize = 10_000_000
)

// VerifiedTokens is the one cache of the process. It outlives configurations, so that a reload needs no second one beside
// it; a new configuration's messengers have verifiers of their own, and meet nothing that earlier ones left. It is off
// until an app starts.
var VerifiedTokens = authn.NewCache(0)

// UseTokenCache takes the cache for this configuration. Nothing changes before the configuration starts.
func (a *Registry) UseTokenCache(size int) error {
	switch {
	case size < 0 || size > MaxTokenCacheSize:
		return fmt.Errorf("token_cache_size is not between 0 (off) and %d", MaxTokenCacheSize)
	case size > 0:
		a.Verified = VerifiedTokens
	}
	return nil
}
