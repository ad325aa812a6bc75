package registry

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// forgetUses writes the last uses of a stored messenger that is not in memory any more, and removes them from memory.
func (s *Store) forgetUses(name string) {
	defer s.lock(name)()
	if _, old := s.cached(name); old {
		return // it was read again meanwhile
	}
	ctx, cancel := context.WithTimeout(context.Background(), vault.StoreTimeout)
	defer cancel()
	_ = s.Uses.Write(ctx, name, ledger.KindStored)
	s.Uses.Forget(name, ledger.KindStored)
}

// writeUses writes the last uses that were not written yet.
func (s *Store) writeUses(ctx context.Context) {
	if name, err := s.Uses.WriteAll(ctx); err != nil {
		s.log().Debug("last use of shared tokens not written", zap.String("messenger", name), zap.Error(err))
	}
}

// keepUses writes last uses, and learns those of other nodes.
func (s *Store) keepUses(ctx context.Context) {
	s.writeUses(ctx)
	s.Uses.Learn(ctx, func(name, kind string) bool { return ledger.AnyExpires(s.ringInMemory(name, kind)) })
	s.unpin()
}

// ringInMemory returns the shared tokens of a name that have not expired, as far as they are in memory.
func (s *Store) ringInMemory(name, kind string) []ledger.Token {
	if j := s.inMemory(name, kind); j != nil {
		return j.ActiveTokens(Now())
	}
	return nil
}

// RingOf returns the shared tokens of a messenger in memory, and when they were last used as far as this node knows.
func (s *Store) RingOf(m *Messenger) ([]ledger.Token, map[string]time.Time) {
	kind := ledger.KindRing
	if m.Stored {
		kind = ledger.KindStored
	}
	return s.ringInMemory(m.Name, kind), s.Uses.Known(m.Name, kind)
}
