package ledger

import (
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A RingChange is a change of the shared tokens of a messenger.
type RingChange struct {
	Action string // for the audit log
	KeyID  string // of the token that is revoked
	Close  bool   // whether to end connections whose tokens were signed with a revoked key

	// Algorithm is the one of the messenger, for which a token that is generated has to be long enough.
	Algorithm sigkey.Algorithm

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

// lengthen replaces a token that was just generated, and that nobody has seen yet, by one that is long enough for the algorithm.
func (c RingChange) lengthen(made *NewToken, facts []*Fact) {
	if made == nil || !c.Algorithm.IsSymmetric() || c.Algorithm == sigkey.HS256 {
		return
	}
	for _, f := range facts {
		if f.Kind == factToken && f.Token == made.Token {
			f.Token = sharedtoken.GenerateFor(c.Algorithm.MinSecret())
			made.Token = f.Token
			return
		}
	}
}
