package registry

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
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
		return parts[1] == keySetFolder && parts[3] == "copy"
	case len(parts) != 3:
		return false
	case parts[1] == oldKeySetFolder:
		return len(parts[2]) == 2*keySetIDSize
	}
	return slices.Contains([]string{ledger.KindStored, ledger.KindRing, "used-" + ledger.KindStored, "used-" + ledger.KindRing}, parts[2])
}

// StoredNames returns the names that the storage has anything of, sorted, beginning after the given one. Some may be those of
// deleted messengers.
func (s *Store) StoredNames(ctx context.Context, after string) ([]string, error) {
	keys, err := s.List(ctx, vault.StoreRoot, false)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range keys {
		if name := path.Base(key); name > after && config.CheckName(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}
