package registry

import (
	"context"
	"path"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/nameindex"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What package reseal needs of a node, besides the vault: facts that replace others are active here at once, and told to other nodes.

// AddFacts adds facts to a folder. When it returns nil, they are acknowledged, and active on this node.
func (s *Store) AddFacts(ctx context.Context, folder string, facts ...*ledger.Fact) error {
	texts, err := ledger.Encode(facts)
	if err == nil {
		_, err = s.writer.Append(ctx, folder, true, texts)
	}
	return err
}

// ReadAgain reads again what this node has in memory of a name.
func (s *Store) ReadAgain(ctx context.Context, name string) error { return s.reread(ctx, name) }

// ReadEverythingAgain makes this node read again everything that it has in memory: it is unknown what has changed.
func (s *Store) ReadEverythingAgain() { s.incomplete.Store(true) }

// Republish writes the list of this node's writer again, sealed with the first key.
func (s *Store) Republish(ctx context.Context) error { return s.writer.Republish(ctx) }

// IsOwnList reports whether key has the list of this node's writer.
func (s *Store) IsOwnList(key string) bool { return vault.IsList(key) && path.Base(key) == s.writer.ID }

// NamesNow is [Registry.StoredNames]. With fresh they are read now.
func (s *Store) NamesNow(ctx context.Context, fresh bool) (nameindex.Index, error) {
	if fresh {
		s.index.Forget()
	}
	return s.index.View(ctx)
}
