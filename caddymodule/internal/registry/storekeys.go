package registry

import (
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/lastuse"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// IsStoreKey reports whether key is one of ours, and not a temporary file of the storage.
func IsStoreKey(key string) bool {
	if _, valid := vault.ParseKey(key); valid || vault.IsOwnKey(key) {
		return true
	}
	parts := strings.Split(key, "/")
	return keysets.IsCopy(key) || len(parts) == 3 && slices.Contains([]string{ledger.KindStored, ledger.KindRing}, strings.TrimPrefix(parts[2], lastuse.Prefix))
}
