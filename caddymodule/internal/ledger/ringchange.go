package ledger

import (
	"time"
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
