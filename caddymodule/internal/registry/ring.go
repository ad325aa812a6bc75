package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

const (
	// maxRing is how many shared tokens of one messenger can be active at a time.
	maxRing = 10

	// DefaultOverlap is how long the old tokens stay active after a rotation.
	DefaultOverlap = 24 * time.Hour
	maxOverlap     = 365 * 24 * time.Hour
)

// A ringToken is one shared token of a key ring. It is stored as a whole, because HMAC needs the text itself.
type ringToken struct {
	KeyID   string     `json:"kid"`
	Token   string     `json:"token"`
	Created time.Time  `json:"created"`
	End     *time.Time `json:"end,omitempty"` // when it expires; nil if never
}

// A NewToken is a token that was just generated. Only the call that generates it ever returns the text.
type NewToken struct {
	KeyID   string    `json:"kid"`
	Token   string    `json:"token"`
	Created time.Time `json:"created"`

	// Ended is how many connections of this node were ended, if the caller wanted them ended.
	Ended *int `json:"connections_ended,omitempty"`
}

var (
	errRingFull  = fmt.Errorf("the messenger has %d shared tokens, and no more can be good at a time; revoke one", maxRing)
	ErrNoToken   = errors.New("the messenger has no shared token with this kid")
	errEmptyRing = errors.New("the messenger has no shared token yet; generate one")
)

// Generate adds a token to the ring, and changes no other.
func (r *Record) Generate(now time.Time) (*NewToken, error) {
	r.Forget(now)
	if len(r.Tokens) >= maxRing {
		return nil, errRingFull
	}
	made := NewToken{KeyID: r.newKeyID(now), Token: sharedtoken.Generate(), Created: now.UTC().Truncate(time.Second)}
	r.Tokens = append(r.Tokens, ringToken{KeyID: made.KeyID, Token: made.Token, Created: made.Created})
	return &made, nil
}

// Rotate adds a token and lets the others expire after overlap, or earlier if that was set before.
func (r *Record) Rotate(now time.Time, overlap time.Duration) (*NewToken, error) {
	if overlap < 0 || overlap > maxOverlap {
		return nil, fmt.Errorf("the overlap is not between 0 and %d days", maxOverlap/(24*time.Hour))
	}
	if r.Forget(now); len(r.Tokens) == 0 {
		return nil, errEmptyRing
	}
	end := now.Add(overlap).UTC()
	for i := range r.Tokens {
		if old := r.Tokens[i].End; old == nil || end.Before(*old) {
			r.Tokens[i].End = &end
		}
	}
	r.Forget(now)
	return r.Generate(now)
}

// Reset removes all tokens at once and adds a new one.
func (r *Record) Reset(now time.Time) (*NewToken, error) {
	r.Tokens = nil
	return r.Generate(now)
}

// Revoke removes the token with this kid at once.
func (r *Record) Revoke(kid string) error {
	i := slices.IndexFunc(r.Tokens, func(t ringToken) bool { return t.KeyID == kid })
	if i < 0 {
		return ErrNoToken
	}
	r.Tokens = slices.Delete(r.Tokens, i, i+1)
	return nil
}

// Forget removes expired tokens.
func (r *Record) Forget(now time.Time) {
	r.Tokens = slices.DeleteFunc(r.Tokens, func(t ringToken) bool { return t.End != nil && !now.Before(*t.End) })
}

// newKeyID returns a kid that is not in the ring: the day, so that people recognise it, and a random suffix.
func (r *Record) newKeyID(now time.Time) string {
	for {
		kid := now.UTC().Format("2006-01-02") + "-" + strings.ToLower(rand.Text()[:6])
		if !slices.ContainsFunc(r.Tokens, func(t ringToken) bool { return t.KeyID == kid }) {
			return kid
		}
	}
}

// Fingerprint identifies a token without revealing it: it is a hash of 256 random bits.
func (t *ringToken) Fingerprint() string {
	sum := sha256.Sum256([]byte("messenger shared token\x00" + t.Token))
	return hex.EncodeToString(sum[:8])
}

// keys returns the keys of the ring. r may be nil.
func (r *Record) keys(uses *tokenUses) (authn.Keys, error) {
	var keys []*authn.Key
	if r != nil {
		for _, t := range r.Tokens {
			key, err := authn.ParseSharedToken([]byte(t.Token), t.KeyID)
			if err != nil {
				return nil, fmt.Errorf("the shared token %s %w", t.KeyID, err)
			}
			if t.End != nil {
				key = key.ExpiringAt(*t.End)
			}
			keys = append(keys, key.CountingUse(uses.of(t.KeyID)))
		}
	}
	return authn.NewRing(keys...)
}
