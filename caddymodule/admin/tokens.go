package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A TokenList is the key ring of a messenger, without the tokens themselves.
type TokenList struct {
	Messenger string      `json:"messenger"`
	Revision  string      `json:"revision,omitempty"`
	Tokens    []TokenInfo `json:"tokens"`
}

// A TokenInfo describes one shared token.
type TokenInfo struct {
	KeyID       string     `json:"kid"`
	Fingerprint string     `json:"fingerprint"`
	State       string     `json:"state"` // "active", "ending" if it was replaced and expires soon, or "too short" for the messenger's algorithm, and not used
	Created     time.Time  `json:"created"`
	End         *time.Time `json:"end,omitempty"`
	LastUsed    *time.Time `json:"last_used,omitempty"` // to the hour
}

// ringKind returns the kind of record that has the messenger's ring, and the algorithm of its tokens, or an error for messengers
// without a ring.
func (s *Service) ringKind(ctx context.Context, name string) (kind string, alg sigkey.Algorithm, err error) {
	m, kind, err := s.RecordKind(ctx, name)
	if err != nil {
		return "", 0, err
	}
	if !m.IsGenerated() {
		why := "its method is " + m.Method()
		if m.SharedToken != nil {
			why = "its shared token comes from " + m.SharedToken.Token
		}
		return "", 0, registry.StatusError(http.StatusConflict, "this messenger has no generated shared tokens: "+why)
	}
	alg, err = m.SharedToken.Algorithm()
	return kind, alg, err
}

// Tokens describes the ring of a messenger.
func (s *Service) Tokens(ctx context.Context, name string) (*TokenList, error) {
	kind, alg, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := s.Record(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	ring := &TokenList{Messenger: name, Tokens: []TokenInfo{}}
	if r == nil {
		return ring, nil
	}
	ring.Revision = r.Revision
	used := s.Store.LastUses(ctx, name, kind)
	for _, t := range r.ActiveTokens() {
		d := TokenInfo{KeyID: t.KeyID, Fingerprint: t.Fingerprint(), State: "active", Created: t.Created, End: t.End}
		if t.End != nil {
			d.State = "ending"
		}
		if hour, ok := used[t.KeyID]; ok {
			d.LastUsed = &hour
		}
		if !t.Fits(alg) {
			d.State = "too short"
		}
		ring.Tokens = append(ring.Tokens, d)
	}
	slices.Reverse(ring.Tokens) // the newest first
	return ring, nil
}

// ChangeTokens changes the ring of a messenger. It returns the token that was generated, if any; its text cannot be read again.
func (s *Service) ChangeTokens(ctx context.Context, name string, change ledger.RingChange, c registry.Condition, by registry.Actor) (*ledger.NewToken, error) {
	made, _, err := s.ChangeTokensAndEnd(ctx, name, change, c, by)
	return made, err
}

// ChangeTokensAndEnd is ChangeTokens, and also returns how many connections of this node it has ended.
func (s *Service) ChangeTokensAndEnd(ctx context.Context, name string, change ledger.RingChange, c registry.Condition, by registry.Actor) (made *ledger.NewToken, ended int, err error) {
	kind, alg, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	change.Algorithm = alg
	if made, ended, err = s.ChangeRing(ctx, name, kind, change, c); err != nil {
		return nil, 0, err
	}
	kid := change.KeyID
	if made != nil {
		kid = made.KeyID
		if change.Close {
			made.Ended = &ended
		}
	}
	s.Audit(change.Action, name, by, zap.String("kid", kid), zap.Bool("close_connections", change.Close), zap.Int("connections", ended))
	return made, ended, nil
}
