package registry

import (
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

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
