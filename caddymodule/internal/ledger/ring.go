package ledger

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// maxRing is how many shared tokens of one messenger can be active at a time.
	maxRing = 10

	// DefaultOverlap is how long the old tokens stay active after a rotation.
	DefaultOverlap = 24 * time.Hour
	maxOverlap     = 365 * 24 * time.Hour
)

// A Token is one shared token of a key ring. It is stored as a whole, because HMAC needs the secret itself.
type Token struct {
	KeyID    string
	Secret   []byte // of a generated one, its text
	Created  time.Time
	End      *time.Time // when it expires; nil if never
	Imported bool       // the site had it before; otherwise the gateway has generated it
	Label    string     // "" for none
	By       string     // who made it; "" if that was not recorded

	id     string // of its fact
	at     time.Time
	anyKID bool
}

// A NewToken is a token that was just generated or imported. Only the call that generates it ever returns the text.
type NewToken struct {
	KeyID   string    `json:"kid"`
	Token   string    `json:"token,omitempty"` // of an imported one its owner has it already
	Created time.Time `json:"created"`
	Label   string    `json:"label,omitempty"`

	// Ended is how many connections of this node were ended, if the caller wanted them ended.
	Ended *int `json:"connections_ended,omitempty"`
}

var (
	errRingFull  = fmt.Errorf("the messenger has %d shared tokens, and no more can be valid at a time; revoke one", maxRing)
	ErrNoToken   = errors.New("the messenger has no shared token with this kid")
	errEmptyRing = errors.New("the messenger has no shared token yet; generate one")
)

// activeTokens returns the tokens that have not expired.
func activeTokens(ring []Token, now time.Time) []Token {
	return slices.DeleteFunc(slices.Clone(ring), func(t Token) bool { return !t.isActive(now) })
}

func (t *Token) isActive(now time.Time) bool { return t.End == nil || now.Before(*t.End) }

// newestOf returns at most n tokens of a ring, in their order: the newest, and of those that have expired only as many as there is room for.
func newestOf(ring []Token, n int, now time.Time) []Token {
	over := len(ring) - n
	for _, active := range []bool{false, true} { // the oldest of those that have expired go first
		ring = slices.DeleteFunc(slices.Clone(ring), func(t Token) bool {
			drop := over > 0 && t.isActive(now) == active
			if drop {
				over--
			}
			return drop
		})
	}
	return ring
}

// AnyExpires reports whether one of the tokens expires: then it is of interest whether its successor is used.
func AnyExpires(ring []Token) bool {
	return slices.ContainsFunc(ring, func(t Token) bool { return t.End != nil })
}

// newKeyID returns a kid that is not in the ring: the day, so that people recognise it, and a random suffix.
func newKeyID(ring []Token, now time.Time) string {
	for {
		kid := now.UTC().Format("2006-01-02") + "-" + strings.ToLower(rand.Text()[:6])
		if !slices.ContainsFunc(ring, func(t Token) bool { return t.KeyID == kid }) {
			return kid
		}
	}
}

// Fingerprint identifies a token without revealing it: it is a hash of 256 random bits. An imported one has none: its secret may be
// one that can be guessed, and a hash would tell who has guessed it.
func (t *Token) Fingerprint() string {
	if t.Imported {
		return ""
	}
	sum := sha256.Sum256(append([]byte("messenger shared token\x00"), t.Secret...))
	return hex.EncodeToString(sum[:8])
}

// Fits reports whether the token is long enough for the algorithm. One that was generated for a shorter hash may not be, after the
// messenger's algorithm was changed; it verifies nothing then.
func (t *Token) Fits(alg sigkey.Algorithm) bool {
	if !t.Imported {
		return len(t.Secret) >= alg.MinSecret()
	}
	_, err := sigkey.ParseShared(t.Secret, "", alg) // it may also end in more NUL bytes than a longer block tells apart
	return err == nil
}

// Keys returns the keys of the tokens that are long enough for the algorithm; used returns where the last use of one is noted. Nodes that make tokens at the same instant can exceed maxRing; the newest tokens are
// used then, as many as a verifier takes.
func (r *Record) Keys(alg sigkey.Algorithm, used func(kid string) *atomic.Int64) (authn.Keys, error) {
	ring := newestOf(r.Tokens, authn.MaxRing, vault.Now())
	var keys []*sigkey.Key
	for _, t := range ring {
		if !t.Fits(alg) {
			continue
		}
		kid := t.KeyID
		if t.anyKID {
			kid = ""
		}
		key, err := sigkey.ParseShared(t.Secret, kid, alg)
		if err != nil {
			return nil, fmt.Errorf("the shared token %s %w", t.KeyID, err)
		}
		if t.End != nil {
			key = key.ExpiringAt(*t.End)
		}
		keys = append(keys, key.CountingUse(used(t.KeyID)))
	}
	return authn.NewRing(alg, keys...)
}

// ActiveTokens returns the tokens that have not expired, the oldest first. It costs less than a record.
func (j *Journal) ActiveTokens(now time.Time) (ring []Token) {
	j.view(func(_ string, l *ledger) {
		ring = activeTokens(l.ring(), now)
	})
	return ring
}

// ActiveTokens returns the tokens that have not expired, the oldest first.
func (r *Record) ActiveTokens() []Token { return activeTokens(r.Tokens, vault.Now()) }
