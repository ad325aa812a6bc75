package ledger

import (
	"errors"
	"fmt"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// A RingChange is a change of the shared tokens of a messenger.
type RingChange struct {
	Action  trail.Action
	KeyID   string // of the token that is revoked, extended or imported
	Close   bool   // whether to end connections whose tokens were signed with a revoked key
	Makes   bool   // it makes a token
	Extends bool   // it only puts off when a token expires

	alg     sigkey.Algorithm // of the messenger, for which a token has to be long enough
	secret  []byte           // that it imports
	label   string           // of the token that it makes; see Labelled
	overlap time.Duration    // how long tokens stay valid that it lets expire
	atOnce  bool             // a rotation after which old tokens are revoked at once

	// facts returns the facts that the change adds, given what the ring is now: one of the methods below.
	facts func(c RingChange, l *ledger, at, now time.Time) (made *NewToken, facts []*Fact, err error)
}

// GenerateToken adds a token.
func GenerateToken() RingChange {
	return RingChange{Action: trail.TokenGenerated, Makes: true, facts: RingChange.generate}
}

// RotateTokens adds a token, and lets those expire after overlap that do not expire anyway. An overlap of less than a second, such as a
// number of nanoseconds that was meant to be seconds, is none.
func RotateTokens(overlap time.Duration) RingChange {
	atOnce := overlap >= 0 && overlap < time.Second
	return RingChange{Action: trail.TokensRotated, Makes: true, overlap: overlap, atOnce: atOnce, facts: RingChange.rotate}
}

// ResetTokens revokes all tokens and adds a new one. closing ends the connections of the revoked ones.
func ResetTokens(closing bool) RingChange {
	return RingChange{Action: trail.TokensReset, Makes: true, Close: closing, facts: RingChange.reset}
}

// ImportToken adds a token with a secret that the site had before, and that was checked. kid is that of the JWTs that are signed with
// it; if it is empty, JWTs with any kid and without one are verified with it.
func ImportToken(secret []byte, kid string) RingChange {
	return RingChange{Action: trail.TokenImported, Makes: true, KeyID: kid, secret: secret, facts: RingChange.importSecret}
}

// ExtendToken lets a token that is about to expire be valid for that long from now on.
func ExtendToken(kid string, overlap time.Duration) RingChange {
	return RingChange{Action: trail.TokenExtended, Extends: true, KeyID: kid, overlap: overlap, facts: RingChange.extend}
}

// RevokeToken revokes the token with this kid. closing ends its connections.
func RevokeToken(kid string, closing bool) RingChange {
	return RingChange{Action: trail.TokenRevoked, KeyID: kid, Close: closing, facts: RingChange.revoke}
}

// For returns the change for a messenger whose shared tokens have this algorithm, or why a secret that it imports is not for that.
// The error goes on after "the secret", and does not quote it.
func (c RingChange) For(alg sigkey.Algorithm) (RingChange, error) {
	c.alg = alg
	if c.secret == nil {
		return c, nil
	}
	_, err := sigkey.ParseShared(c.secret, "", alg)
	return c, err
}

// Revokes returns how many tokens of r the change revokes without saying so by its name.
func (c RingChange) Revokes(r *Record) int {
	if !c.atOnce || r == nil {
		return 0
	}
	return len(r.ActiveTokens())
}

// newToken returns a token that is generated now, long enough for the algorithm, and its fact.
func (c RingChange) newToken(l *ledger, ring []Token, at, now time.Time) (*NewToken, *Fact) {
	f := NewFact(factToken, at)
	f.KeyID, f.Token, f.Label, f.Knows, f.Number = newKeyID(ring, now), sharedtoken.Generate(), c.label, l.resetIDs(), l.number()
	if c.alg.IsSymmetric() {
		f.Token = sharedtoken.GenerateFor(c.alg.MinSecret())
	}
	return &NewToken{KeyID: f.KeyID, Token: f.Token, Created: at.UTC().Truncate(time.Second), Label: f.Label}, f
}

// generate adds a token, and changes no other.
func (c RingChange) generate(l *ledger, at, now time.Time) (*NewToken, []*Fact, error) {
	ring := activeTokens(l.ring(), now)
	if len(ring) >= maxRing {
		return nil, nil, errRingFull
	}
	made, f := c.newToken(l, ring, at, now)
	return made, []*Fact{f}, nil
}

// rotate adds a token, and lets those expire after the overlap that do not expire anyway. Without one it revokes them all.
func (c RingChange) rotate(l *ledger, at, now time.Time) (*NewToken, []*Fact, error) {
	if c.overlap < 0 || c.overlap > maxOverlap {
		return nil, nil, invalid("the overlap is not between 0 and %d days", maxOverlap/(24*time.Hour))
	}
	ring := activeTokens(l.ring(), now)
	if len(ring) == 0 {
		return nil, nil, errEmptyRing
	}
	ending := NewFact(factRevoked, at) // without an overlap all end at once, also those that were to expire later
	if !c.atOnce {
		end := now.Add(c.overlap).UTC()
		ending.Kind, ending.End = factExpiry, &end
	}
	for _, t := range ring {
		if t.End == nil || c.atOnce {
			ending.endsToken(l, t)
		}
	}
	if !c.atOnce && len(ring) >= maxRing {
		return nil, nil, errRingFull
	}
	made, f := c.newToken(l, ring, at, now)
	if len(ending.Of) == 0 {
		return made, []*Fact{f}, nil
	}
	return made, []*Fact{f, ending}, nil
}

// reset revokes all tokens at once and adds a new one.
func (c RingChange) reset(l *ledger, at, now time.Time) (*NewToken, []*Fact, error) {
	all := NewFact(factReset, at)
	all.Closing, all.Named = c.Close, true
	made, f := c.newToken(l, nil, at, now)
	f.Knows = append(f.Knows, all.ID)
	ended := NewFact(factRevoked, at) // so that it is remembered which they were when their facts are gone
	for _, t := range l.ring() {
		ended.endsToken(l, t)
	}
	if len(ended.Of) == 0 {
		return made, []*Fact{all, f}, nil
	}
	return made, []*Fact{all, f, ended}, nil
}

// revoke revokes the token with this kid at once, and with it every other token with the same secret.
func (c RingChange) revoke(l *ledger, at, now time.Time) (*NewToken, []*Fact, error) {
	f := NewFact(factRevoked, at)
	f.Closing = c.Close
	for _, t := range activeTokens(l.ring(), now) {
		if t.KeyID == c.KeyID {
			f.endsToken(l, t)
		}
	}
	if len(f.Of) == 0 {
		return nil, nil, ErrNoToken
	}
	return nil, []*Fact{f}, nil
}

// extend lets the token with this kid, which was to expire, expire after the overlap. It never shortens anything.
func (c RingChange) extend(l *ledger, at, now time.Time) (*NewToken, []*Fact, error) {
	if c.overlap <= 0 || c.overlap > maxOverlap {
		return nil, nil, invalid("the time is not above 0 and at most %d days", maxOverlap/(24*time.Hour))
	}
	end := now.Add(c.overlap).UTC()
	f := NewFact(factExpiry, at)
	f.End = &end
	for _, t := range activeTokens(l.ring(), now) {
		if t.KeyID != c.KeyID {
			continue
		}
		if t.End == nil {
			return nil, nil, errors.New("this shared token does not expire, so that there is nothing to extend")
		}
		if !end.After(*t.End) {
			return nil, nil, fmt.Errorf("this shared token is valid until %s already, which is later; revoke it to shorten that", t.End.UTC().Format(time.RFC3339))
		}
		f.endsToken(l, t)
	}
	if len(f.Of) == 0 {
		return nil, nil, ErrNoToken
	}
	return nil, []*Fact{f}, nil
}

// endsToken makes f be about a token. The fingerprint of a secret that a site brought is not written: all tokens with it are named, because
// some nodes may know one of them alone, and their facts stay.
func (f *Fact) endsToken(l *ledger, t Token) {
	f.Of = append(f.Of, t.id)
	if !t.Imported {
		f.Fingerprints = append(f.Fingerprints, t.Fingerprint())
		return
	}
	for other := range l.allTokens() {
		if other.ID != t.id && secretID(other.secret()) == secretID(t.Secret) {
			f.Of = append(f.Of, other.ID)
		}
	}
}

// ChangeRing returns the facts of a change of the shared tokens, and the token that is made, if any.
func (j *Journal) ChangeRing(change RingChange, now time.Time) (incarnation string, made *NewToken, facts []*Fact, err error) {
	at := j.stamp(now)
	err = ErrNothing
	j.view(func(current string, l *ledger) {
		incarnation = current
		made, facts, err = change.facts(change, l, at, now)
	})
	return incarnation, made, facts, err
}

// MissedResets returns the fact by which a token outlives resets that were made at the same instant without knowing of it, or nil
// if there are none. facts are those by which the token was made. It has not been shown yet.
func (j *Journal) MissedResets(incarnation string, facts []*Fact) (kept *Fact) {
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.together(incarnation)
	for _, f := range facts {
		if !f.isToken() {
			continue
		}
		for _, in := range own.all() {
			for _, reset := range in.resets {
				if outlives(f, own, reset, in) {
					continue
				}
				if kept == nil {
					kept = NewFact(factKept, f.At, f.ID)
				}
				kept.Knows = append(kept.Knows, reset.ID)
			}
		}
	}
	return kept
}

// ringReset returns the fact by which shared tokens are revoked that were there before a time in which none were used, or nil if v does
// not end such a time. What v was made from may be withdrawn as long as it is not confirmed, and its reset with it: v has its own then.
func (l *ledger) ringReset(v *Fact, settings *config.Messenger, now time.Time) *Fact {
	if !settings.UsesRing(now) || !l.any(func(of *ledger) bool { return len(of.tokens) > 0 }) {
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
