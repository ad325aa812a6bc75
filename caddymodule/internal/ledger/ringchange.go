package ledger

import (
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A RingChange is a change of the shared tokens of a messenger.
type RingChange struct {
	Action string // for the audit log
	KeyID  string // of the token that is revoked
	Close  bool   // whether to end connections whose tokens were signed with a revoked key

	// Algorithm is the one of the messenger, for which a token has to be long enough.
	Algorithm sigkey.Algorithm

	facts   ringChange
	secret  []byte // that it imports
	label   string // of the token that it makes; see Labelled
	makes   bool   // it makes a token
	extends bool   // it puts off when one expires
	atOnce  bool   // a rotation without an overlap
}

// For returns the change for a messenger whose shared tokens have this algorithm, or why a secret that it imports is not for that.
// The error goes on after "the secret", and does not quote it.
func (c RingChange) For(alg sigkey.Algorithm) (RingChange, error) {
	c.Algorithm = alg
	if c.secret == nil {
		return c, nil
	}
	_, err := sigkey.ParseShared(c.secret, "", alg)
	return c, err
}

// MakesToken reports whether the change makes a token.
func (c RingChange) MakesToken() bool { return c.makes }

// Extends reports whether the change only puts off when a token expires.
func (c RingChange) Extends() bool { return c.extends }

// Revokes returns how many tokens of r the change revokes without saying so by its name.
func (c RingChange) Revokes(r *Record) int {
	if !c.atOnce || r == nil {
		return 0
	}
	return len(r.ActiveTokens())
}

// GenerateToken adds a token.
func GenerateToken() RingChange {
	return RingChange{Action: "shared token generated", facts: generate, makes: true}
}

// RotateTokens adds a token, and lets those expire after overlap that do not expire anyway.
func RotateTokens(overlap time.Duration) RingChange {
	return RingChange{Action: "shared tokens rotated", facts: rotate(overlap), makes: true, atOnce: overlap == 0}
}

// ResetTokens revokes all tokens and adds a new one. closing ends the connections of the revoked ones.
func ResetTokens(closing bool) RingChange {
	return RingChange{Action: "shared tokens reset", Close: closing, facts: reset(closing), makes: true}
}

// ImportToken adds a token with a secret that the site had before.
func ImportToken(secret []byte, kid string) RingChange {
	return RingChange{Action: "shared token imported", facts: importSecret(secret, kid), secret: secret, makes: true}
}

// ExtendToken lets a token that is about to expire be valid for that long from now on.
func ExtendToken(kid string, overlap time.Duration) RingChange {
	return RingChange{Action: "shared token extended", KeyID: kid, facts: extend(kid, overlap), extends: true}
}

// RevokeToken revokes the token with this kid. closing ends its connections.
func RevokeToken(kid string, closing bool) RingChange {
	return RingChange{Action: "shared token revoked", KeyID: kid, Close: closing, facts: revoke(kid, closing)}
}

// lengthen replaces a token that was just generated, and that was not shown yet, by one that is long enough for the algorithm.
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

// ChangeRing returns the facts of a change of the shared tokens, and the token that is made, if any.
func (j *Journal) ChangeRing(change RingChange, now time.Time) (incarnation string, made *NewToken, facts []*Fact, err error) {
	at := j.stamp(now)
	err = ErrNothing
	j.view(func(current string, l *ledger) {
		incarnation = current
		made, facts, err = change.facts(l, at, now)
		change.lengthen(made, facts)
		change.mark(made, facts)
	})
	return incarnation, made, facts, err
}

// MissedResets returns the fact by which a token outlives resets that were made at the same instant without knowing of it, or nil
// if there are none. facts are those by which the token was made. It has not been shown yet.
func (j *Journal) MissedResets(incarnation string, facts []*Fact) (kept *Fact) {
	j.view(func(current string, l *ledger) {
		for _, f := range facts {
			if f.Kind != factToken && f.Kind != factImported || current != incarnation {
				continue
			}
			for _, id := range l.resetIDs() {
				if l.outlives(f, id) {
					continue
				}
				if kept == nil {
					kept = NewFact(factKept, f.At, f.ID)
				}
				kept.Knows = append(kept.Knows, id)
			}
		}
	})
	return kept
}

// ringReset returns the fact by which shared tokens are revoked that were there before a time in which none were used, or nil if v does
// not end such a time. What v was made from may be withdrawn as long as it is not confirmed, and its reset with it: v has its own then.
func (l *ledger) ringReset(v *Fact, settings *config.Messenger, now time.Time) *Fact {
	if !settings.UsesRing(now) || len(l.tokens) == 0 {
		return nil
	}
	for p := l.parent(v); p != nil; p = l.parent(p) {
		if before, _ := l.settings(p); !before.UsesRing(now) {
			reset := NewFact(factReset, v.At, v.ID)
			reset.Number = p.Number
			return reset
		}
		if l.confirmed[p.ID] {
			break
		}
	}
	return nil
}
