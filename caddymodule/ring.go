package caddymodule

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

const (
	// maxRing is how many shared tokens of one messenger can be good at a time.
	maxRing = 10

	// defaultOverlap is how long the old tokens stay good when a new one takes their place.
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 365 * 24 * time.Hour
)

// A ringToken is one shared token of a key ring. It is stored as a whole, because HMAC needs the text itself.
type ringToken struct {
	KeyID   string     `json:"kid"`
	Token   string     `json:"token"`
	Created time.Time  `json:"created"`
	End     *time.Time `json:"end,omitempty"` // when it stops; nil if it does not
}

// A newToken is what the call that generates a token returns, and nothing afterwards.
type newToken struct {
	KeyID   string    `json:"kid"`
	Token   string    `json:"token"`
	Created time.Time `json:"created"`

	// Ended is how many connections of this node were ended, where that was asked for.
	Ended *int `json:"connections_ended,omitempty"`
}

var (
	errRingFull   = fmt.Errorf("the messenger has %d shared tokens, and no more can be good at a time; revoke one", maxRing)
	errNoToken    = errors.New("the messenger has no shared token with this kid")
	errNothingOld = errors.New("the messenger has no shared token yet; generate one")
)

// generate adds a token to the ring. Those that are there stay as they are.
func (r *record) generate(now time.Time) (*newToken, error) {
	r.forget(now)
	if len(r.Tokens) >= maxRing {
		return nil, errRingFull
	}
	made := newToken{KeyID: r.newKeyID(now), Token: authn.GenerateSharedToken(), Created: now.UTC().Truncate(time.Second)}
	r.Tokens = append(r.Tokens, ringToken{KeyID: made.KeyID, Token: made.Token, Created: made.Created})
	return &made, nil
}

// rotate adds a token and lets the others end after overlap, unless they end earlier anyway.
func (r *record) rotate(now time.Time, overlap time.Duration) (*newToken, error) {
	if overlap < 0 || overlap > maxOverlap {
		return nil, fmt.Errorf("the overlap is not between 0 and %d days", maxOverlap/(24*time.Hour))
	}
	if r.forget(now); len(r.Tokens) == 0 {
		return nil, errNothingOld
	}
	end := now.Add(overlap).UTC()
	for i := range r.Tokens {
		if old := r.Tokens[i].End; old == nil || end.Before(*old) {
			r.Tokens[i].End = &end
		}
	}
	r.forget(now)
	return r.generate(now)
}

// reset ends all tokens at once and makes one new one.
func (r *record) reset(now time.Time) (*newToken, error) {
	r.Tokens = nil
	return r.generate(now)
}

// revoke ends the token with this kid at once.
func (r *record) revoke(kid string) error {
	i := slices.IndexFunc(r.Tokens, func(t ringToken) bool { return t.KeyID == kid })
	if i < 0 {
		return errNoToken
	}
	r.Tokens = slices.Delete(r.Tokens, i, i+1)
	return nil
}

// forget removes tokens that have ended.
func (r *record) forget(now time.Time) {
	r.Tokens = slices.DeleteFunc(r.Tokens, func(t ringToken) bool { return t.End != nil && !now.Before(*t.End) })
}

// newKeyID returns a kid that no token of the ring has: the day, by which people tell tokens apart, and a random end.
func (r *record) newKeyID(now time.Time) string {
	for {
		kid := now.UTC().Format("2006-01-02") + "-" + strings.ToLower(rand.Text()[:6])
		if !slices.ContainsFunc(r.Tokens, func(t ringToken) bool { return t.KeyID == kid }) {
			return kid
		}
	}
}

// fingerprint tells a token from others. It is a hash of 256 random bits, and says nothing about them.
func (t *ringToken) fingerprint() string {
	sum := sha256.Sum256([]byte("messenger shared token\x00" + t.Token))
	return hex.EncodeToString(sum[:8])
}

// keys returns what verifies with the ring.
func (r *record) keys(uses *tokenUses) (authn.Keys, error) {
	var keys []*authn.Key
	if r != nil {
		for _, t := range r.Tokens {
			key, err := authn.ParseSharedToken([]byte(t.Token), t.KeyID)
			if err != nil {
				return nil, fmt.Errorf("the shared token %s %w", t.KeyID, err)
			}
			if t.End != nil {
				key = key.EndingAt(*t.End)
			}
			keys = append(keys, key.CountingUse(uses.of(t.KeyID)))
		}
	}
	return authn.NewRing(keys...)
}

// A describedRing is the key ring of a messenger, without the tokens themselves.
type describedRing struct {
	Messenger string           `json:"messenger"`
	Revision  string           `json:"revision,omitempty"`
	Tokens    []describedToken `json:"tokens"`
}

type describedToken struct {
	KeyID       string     `json:"kid"`
	Fingerprint string     `json:"fingerprint"`
	State       string     `json:"state"` // "active", or "ending" if another took its place
	Created     time.Time  `json:"created"`
	End         *time.Time `json:"end,omitempty"`
	LastUsed    *time.Time `json:"last_used,omitempty"` // to the hour
}

// ringKind says where the messenger's ring is kept, and refuses messengers that have none.
func (a *service) ringKind(ctx context.Context, name string) (string, error) {
	m, kind, err := a.recordKind(ctx, name)
	if err != nil {
		return "", err
	}
	if !m.isGenerated() {
		why := "its method is " + m.method()
		if m.SharedToken != nil {
			why = "its shared token comes from " + m.SharedToken.Token
		}
		return "", adminError(http.StatusConflict, "this messenger has no generated shared tokens: "+why)
	}
	return kind, nil
}

// tokens describes the ring of a messenger.
func (a *service) tokens(ctx context.Context, name string) (*describedRing, error) {
	kind, err := a.ringKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := a.live.read(ctx, name, kind)
	if err != nil {
		return nil, storageError(err)
	}
	ring := &describedRing{Messenger: name, Tokens: []describedToken{}}
	if r == nil {
		return ring, nil
	}
	ring.Revision = r.Revision
	r.forget(time.Now())
	used := a.live.lastUses(ctx, name, kind)
	for _, t := range r.Tokens {
		d := describedToken{KeyID: t.KeyID, Fingerprint: t.fingerprint(), State: "active", Created: t.Created, End: t.End}
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

// A ringChange is what can be done to a key ring.
type ringChange struct {
	action string // for the audit log
	kid    string // of the token that is revoked
	close  bool   // whether connections end whose tokens were signed by what is not good any more
	apply  func(r *record) (*newToken, error)
}

func generateToken() ringChange {
	return ringChange{action: "shared token generated", apply: func(r *record) (*newToken, error) { return r.generate(time.Now()) }}
}

func rotateTokens(overlap time.Duration) ringChange {
	return ringChange{action: "shared tokens rotated", apply: func(r *record) (*newToken, error) { return r.rotate(time.Now(), overlap) }}
}

func resetTokens(closing bool) ringChange {
	return ringChange{action: "shared tokens reset", close: closing, apply: func(r *record) (*newToken, error) { return r.reset(time.Now()) }}
}

func revokeToken(kid string, closing bool) ringChange {
	return ringChange{action: "shared token revoked", kid: kid, close: closing, apply: func(r *record) (*newToken, error) { return nil, r.revoke(kid) }}
}

// changeTokens changes the ring of a messenger. It returns the token that was made, if any, and its text is to be had
// nowhere afterwards.
func (a *service) changeTokens(ctx context.Context, name string, change ringChange, c condition, by actor) (*newToken, error) {
	made, _, err := a.changeTokensAndEnd(ctx, name, change, c, by)
	return made, err
}

// changeTokensAndEnd is changeTokens, and returns how many connections of this node it has ended.
func (a *service) changeTokensAndEnd(ctx context.Context, name string, change ringChange, c condition, by actor) (made *newToken, ended int, err error) {
	kind, err := a.ringKind(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	_, ended, err = a.changeAndEnd(ctx, name, kind, func(old *record) (*record, error) {
		if err := c.check(old); err != nil {
			return nil, err
		}
		if old == nil {
			if kind == kindStored {
				return nil, errNoMessenger
			}
			old = new(record)
		}
		var err error
		if made, err = change.apply(old); err != nil {
			status := http.StatusConflict
			if errors.Is(err, errNoToken) {
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
	a.audit(change.action, name, by, zap.String("kid", kid), zap.Bool("close_connections", change.close), zap.Int("connections", ended))
	return made, ended, nil
}
