package registry

import (
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// IsStoreKey reports whether key is one of ours, and not a temporary file of the storage.
func IsStoreKey(key string) bool {
	if _, valid := vault.ParseKey(key); valid || vault.IsOwnKey(key) {
		return true
	}
	parts := strings.Split(key, "/")
	switch {
	case len(parts) == 4:
		scope, scoped := strings.CutPrefix(parts[3], copyName+"-")
		return parts[1] == keySetFolder && (parts[3] == copyName || scoped && len(scope) == 2*keySetIDSize)
	case len(parts) != 3:
		return false
	case parts[1] == oldKeySetFolder:
		return len(parts[2]) == 2*keySetIDSize
	}
	return slices.Contains([]string{ledger.KindStored, ledger.KindRing, "used-" + ledger.KindStored, "used-" + ledger.KindRing}, parts[2])
}
