package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
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
	State       string     `json:"state"` // "active", or "ending" if it was replaced and expires soon
	Created     time.Time  `json:"created"`
	End         *time.Time `json:"end,omitempty"`
	LastUsed    *time.Time `json:"last_used,omitempty"` // to the hour
}

// ringKind returns the kind of record that has the messenger's ring, or an error for messengers without a ring.
func (s *Service) ringKind(ctx context.Context, name string) (string, error) {
	m, kind, err := s.RecordKind(ctx, name)
	if err != nil {
		return "", err
	}
	if !m.IsGenerated() {
		why := "its method is " + m.Method()
		if m.SharedToken != nil {
			why = "its shared token comes from " + m.SharedToken.Token
		}
		return "", registry.StatusError(http.StatusConflict, "this messenger has no generated shared tokens: "+why)
	}
	return kind, nil
}

// Tokens describes the ring of a messenger.
func (s *Service) Tokens(ctx context.Context, name string) (*TokenList, error) {
	kind, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := s.Store.Read(ctx, name, kind)
	if err != nil {
		return nil, registry.StorageError(err)
	}
	ring := &TokenList{Messenger: name, Tokens: []TokenInfo{}}
	if r == nil {
		return ring, nil
	}
	ring.Revision = r.Revision
	r.Forget(time.Now())
	used := s.Store.LastUses(ctx, name, kind)
	for _, t := range r.Tokens {
		d := TokenInfo{KeyID: t.KeyID, Fingerprint: t.Fingerprint(), State: "active", Created: t.Created, End: t.End}
		if t.End != nil {
			d.State = "ending"
		}
		if hour, ok := used[t.KeyID]; ok {
			d.LastUsed = &hour
		}
		ring.Tokens = append(ring.Tokens, d)
	}
	slices.Reverse(ring.Tokens) // the newest first
	return ring, nil
}

// A RingChange is a change of a key ring.
type RingChange struct {
	action string // for the audit log
	kid    string // of the token that is revoked
	close  bool   // whether to end connections whose tokens were signed with a removed key
	apply  func(r *registry.Record) (*registry.NewToken, error)
}

// GenerateToken adds a token.
func GenerateToken() RingChange {
	return RingChange{action: "shared token generated", apply: func(r *registry.Record) (*registry.NewToken, error) { return r.Generate(time.Now()) }}
}

// RotateTokens adds a token and lets the others expire after overlap.
func RotateTokens(overlap time.Duration) RingChange {
	return RingChange{action: "shared tokens rotated", apply: func(r *registry.Record) (*registry.NewToken, error) { return r.Rotate(time.Now(), overlap) }}
}

// ResetTokens removes all tokens and adds a new one. closing ends the connections of the removed ones.
func ResetTokens(closing bool) RingChange {
	return RingChange{action: "shared tokens reset", close: closing, apply: func(r *registry.Record) (*registry.NewToken, error) { return r.Reset(time.Now()) }}
}

// RevokeToken removes the token with this kid. closing ends its connections.
func RevokeToken(kid string, closing bool) RingChange {
	return RingChange{action: "shared token revoked", kid: kid, close: closing, apply: func(r *registry.Record) (*registry.NewToken, error) { return nil, r.Revoke(kid) }}
}

// ChangeTokens changes the ring of a messenger. It returns the token that was generated, if any; its text cannot be read again.
func (s *Service) ChangeTokens(ctx context.Context, name string, change RingChange, c registry.Condition, by registry.Actor) (*registry.NewToken, error) {
	made, _, err := s.ChangeTokensAndEnd(ctx, name, change, c, by)
	return made, err
}

// ChangeTokensAndEnd is ChangeTokens, and also returns how many connections of this node it has ended.
func (s *Service) ChangeTokensAndEnd(ctx context.Context, name string, change RingChange, c registry.Condition, by registry.Actor) (made *registry.NewToken, ended int, err error) {
	kind, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	_, ended, err = s.ChangeAndEnd(ctx, name, kind, func(old *registry.Record) (*registry.Record, error) {
		if err := c.Check(old); err != nil {
			return nil, err
		}
		if old == nil {
			if kind == registry.KindStored {
				return nil, registry.ErrNoMessenger
			}
			old = new(registry.Record)
		}
		var err error
		if made, err = change.apply(old); err != nil {
			status := http.StatusConflict
			if errors.Is(err, registry.ErrNoToken) {
				status = http.StatusNotFound
			}
			return nil, caddy.APIError{HTTPStatus: status, Err: err}
		}
		old.Revision = "" // it gets a new one
		if change.close {
			old.Closings++
		}
		return old, nil
	})
	if err != nil {
		return nil, 0, err
	}
	kid := change.kid
	if made != nil {
		kid = made.KeyID
		if change.close {
			made.Ended = &ended
		}
	}
	s.Audit(change.action, name, by, zap.String("kid", kid), zap.Bool("close_connections", change.close), zap.Int("connections", ended))
	return made, ended, nil
}
