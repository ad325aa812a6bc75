package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// A TokenList is the key ring of a messenger, without the tokens themselves.
type TokenList struct {
	Messenger string      `json:"messenger"`
	Revision  string      `json:"revision,omitempty"`
	Tokens    []TokenInfo `json:"tokens"`
}

type TokenInfo struct {
	KeyID       string     `json:"kid"`
	Fingerprint string     `json:"fingerprint"`
	State       string     `json:"state"` // "active", or "ending" if another took its place
	Created     time.Time  `json:"created"`
	End         *time.Time `json:"end,omitempty"`
	LastUsed    *time.Time `json:"last_used,omitempty"` // to the hour
}

// ringKind says where the messenger's ring is kept, and refuses messengers that have none.
func (a *Service) ringKind(ctx context.Context, name string) (string, error) {
	m, kind, err := a.RecordKind(ctx, name)
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
func (a *Service) Tokens(ctx context.Context, name string) (*TokenList, error) {
	kind, err := a.ringKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := a.Store.Read(ctx, name, kind)
	if err != nil {
		return nil, registry.StorageError(err)
	}
	ring := &TokenList{Messenger: name, Tokens: []TokenInfo{}}
	if r == nil {
		return ring, nil
	}
	ring.Revision = r.Revision
	r.Forget(time.Now())
	used := a.Store.LastUses(ctx, name, kind)
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

// A RingChange is what can be done to a key ring.
type RingChange struct {
	action string // for the audit log
	kid    string // of the token that is revoked
	close  bool   // whether connections end whose tokens were signed by what is not good any more
	apply  func(r *registry.Record) (*registry.NewToken, error)
}

func GenerateToken() RingChange {
	return RingChange{action: "shared token generated", apply: func(r *registry.Record) (*registry.NewToken, error) { return r.Generate(time.Now()) }}
}

func RotateTokens(overlap time.Duration) RingChange {
	return RingChange{action: "shared tokens rotated", apply: func(r *registry.Record) (*registry.NewToken, error) { return r.Rotate(time.Now(), overlap) }}
}

func ResetTokens(closing bool) RingChange {
	return RingChange{action: "shared tokens reset", close: closing, apply: func(r *registry.Record) (*registry.NewToken, error) { return r.Reset(time.Now()) }}
}

func RevokeToken(kid string, closing bool) RingChange {
	return RingChange{action: "shared token revoked", kid: kid, close: closing, apply: func(r *registry.Record) (*registry.NewToken, error) { return nil, r.Revoke(kid) }}
}

// ChangeTokens changes the ring of a messenger. It returns the token that was made, if any, and its text is to be had
// nowhere afterwards.
func (a *Service) ChangeTokens(ctx context.Context, name string, change RingChange, c registry.Condition, by registry.Actor) (*registry.NewToken, error) {
	made, _, err := a.ChangeTokensAndEnd(ctx, name, change, c, by)
	return made, err
}
