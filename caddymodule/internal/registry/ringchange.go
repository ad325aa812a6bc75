package registry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A RingChange is a change of the shared tokens of a messenger.
type RingChange struct {
	Action string // for the audit log
	KeyID  string // of the token that is revoked
	Close  bool   // whether to end connections whose tokens were signed with a revoked key

	facts ringChange
}

// GenerateToken adds a token.
func GenerateToken() RingChange {
	return RingChange{Action: "shared token generated", facts: generate}
}

// RotateTokens adds a token, and lets those expire after overlap that do not expire anyway.
func RotateTokens(overlap time.Duration) RingChange {
	return RingChange{Action: "shared tokens rotated", facts: rotate(overlap)}
}

// ResetTokens revokes all tokens and adds a new one. closing ends the connections of the revoked ones.
func ResetTokens(closing bool) RingChange {
	return RingChange{Action: "shared tokens reset", Close: closing, facts: reset(closing)}
}

// RevokeToken revokes the token with this kid. closing ends its connections.
func RevokeToken(kid string, closing bool) RingChange {
	return RingChange{Action: "shared token revoked", KeyID: kid, Close: closing, facts: revoke(kid, closing)}
}

// ChangeRing changes the shared tokens of a messenger. It returns the token that was made, if any, and how many connections of
// this node were ended.
func (reg *Registry) ChangeRing(ctx context.Context, name, kind string, change RingChange, c Condition) (made *NewToken, ended int, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, kind) // all facts, so that a token that another node has made is not missed
	if err != nil {
		return nil, 0, StorageError(err)
	}
	r := j.record()
	if err := c.Check(r); err != nil {
		return nil, 0, err
	}
	if r == nil && kind == KindStored {
		return nil, 0, ErrNoMessenger
	}
	at, now := j.stamp(Now()), Now()
	var incarnation string
	var facts []*fact
	j.view(func(current string, l *ledger) {
		if incarnation = current; l != nil {
			made, facts, err = change.facts(l, at, now)
		}
	})
	if err != nil {
		status := http.StatusConflict
		if errors.Is(err, ErrNoToken) {
			status = http.StatusNotFound
		}
		return nil, 0, caddy.APIError{HTTPStatus: status, Err: err}
	}
	if ended, err = s.write(ctx, j, incarnation, true, facts...); err != nil {
		return nil, 0, StorageError(err)
	}
	more, err := s.keepToken(ctx, j, incarnation, facts)
	if err != nil {
		return nil, 0, StorageError(err)
	}
	return made, ended + more, nil
}

// keepToken looks again whether a node has reset the tokens at the same instant, without knowing of the one that was just made.
// Nobody has that one yet: it outlives the reset.
func (s *Store) keepToken(ctx context.Context, j *journal, incarnation string, facts []*fact) (ended int, err error) {
	for {
		more, err := s.again(ctx, j)
		if err != nil {
			return 0, err
		}
		ended += more
		var missed *fact
		j.view(func(current string, l *ledger) {
			for _, f := range facts {
				if f.Kind != factToken || l == nil || current != incarnation {
					continue
				}
				for _, id := range l.resetIDs() {
					if !l.outlives(f, id) {
						if missed == nil {
							missed = newFact(factKept, f.At, f.ID)
						}
						missed.Knows = append(missed.Knows, id)
					}
				}
			}
		})
		if missed == nil {
			return ended, nil
		}
		if _, err := s.write(ctx, j, incarnation, true, missed); err != nil {
			return 0, err
		}
	}
}
