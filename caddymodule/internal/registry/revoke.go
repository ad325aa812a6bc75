package registry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// LogoutOf returns the revocation by which c logs out.
func LogoutOf(c *authn.Contact, m *config.Messenger, everywhere bool, now time.Time) Revocation {
	if c.TokenID == "" || everywhere {
		// The site's clock may be ahead: the token that is used to log out must be revoked in any case.
		if next := c.Issued.Add(time.Second - config.DurationOr(m.ClockSkew, config.DefaultClockSkew)); next.After(now) {
			now = next.UTC()
		}
		return Revocation{Identity: c.Identity, Before: &now}
	}
	v := Revocation{TokenHash: c.TokenID, Contact: c.Identity}
	if !c.Expires.IsZero() { // and not c.Until: a key that expires earlier may be configured again
		v.Until = storable(c.Expires)
	}
	if !c.Issued.IsZero() {
		issued := c.Issued.UTC()
		v.Issued = &issued
	}
	return v
}

// A Revocation revokes tokens of one messenger. Exactly one of TokenID, TokenHash, Identity and All is set.
type Revocation struct {
	TokenID   TokenID       `json:"jti,omitempty"`        // as an operator wrote it
	TokenHash authn.TokenID `json:"jti_sha256,omitempty"` // if only the hash is known, as after a logout, or the jti is long
	Contact   string        `json:"contact,omitempty"`    // the contact of the token, if it was revoked by a logout
	Identity  string        `json:"identity,omitempty"`
	All       bool          `json:"all,omitempty"`
	Before    *time.Time    `json:"issued_before,omitempty"` // for Identity and All; default: the time of the call
	Until     *time.Time    `json:"until,omitempty"`         // when the revocation can be removed; nil if never
	Created   time.Time     `json:"created,omitzero"`

	// What the gateway records by itself; see revocationlist.go.
	Skew   caddy.Duration `json:"clock_skew,omitempty"` // how far the clock of an issuer may have been ahead
	Issued *time.Time     `json:"issued,omitempty"`     // the iat of the token, if it was revoked by a logout
	Exact  bool           `json:"exact,omitempty"`      // Until comes from the tokens themselves, and not from a setting
	Covers bool           `json:"covers,omitempty"`     // it replaced others, and cannot be undone
}

// targets returns how many members say what is revoked; only 1 is valid.
func (v *Revocation) targets() (n int) {
	for _, set := range []bool{v.TokenID != "", v.TokenHash != "", v.Identity != "", v.All} {
		if set {
			n++
		}
	}
	return n
}

// Check returns why v is not a valid revocation.
func (v *Revocation) Check() error {
	switch {
	case v.targets() != 1:
		return errors.New(`exactly one of "jti", "jti_sha256", "identity" and "all" says what is revoked`)
	case v.Contact != "" && !v.isToken():
		return errors.New(`"contact" goes with "jti"`)
	case v.isToken() && v.Before != nil:
		return errors.New(`a jti names one token; "issued_before" goes with "identity" or "all"`)
	case len(v.TokenID) > authn.MaxToken || len(v.Identity) > 255:
		return errors.New("no token has a jti or an identity of this length")
	}
	return nil
}

// writable returns t, or nil if JSON has no such time. That is after the year 9999, and what is kept until then is kept for
// ever.
func storable(t time.Time) *time.Time {
	if t = t.UTC(); t.Year() > 9999 {
		return nil
	}
	return &t
}

// RecordKind returns the messenger's settings, and the kind of its record.
func (reg *Registry) RecordKind(ctx context.Context, name string) (*config.Messenger, string, error) {
	if m := reg.Messengers[name]; m != nil {
		return m.Messenger, kindRing, nil
	}
	r, err := reg.StoredRecord(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return r.Settings, KindStored, nil
}

// Revoke revokes tokens, and returns how many connections of this node that has ended. v.Until is when the last of the tokens
// expires, if the caller knows that; otherwise it is computed from the messenger's max_lifetime.
func (reg *Registry) Revoke(ctx context.Context, name string, v Revocation, by Actor) (ended int, err error) {
	if err := v.Check(); err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	m, kind, err := reg.RecordKind(ctx, name)
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	v = v.at(m, now)
	_, ended, err = reg.ChangeAndEnd(ctx, name, kind, func(old *Record) (*Record, error) {
		switch {
		case old == nil && kind == KindStored:
			return nil, ErrNoMessenger
		case old == nil:
			old = new(Record)
		}
		old.bound = time.Duration(m.MaxLifetime)
		if err := old.addRevocation(v, now); err != nil {
			return nil, caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
		}
		return old, nil
	})
	if err != nil {
		return 0, err
	}
	reg.Audit("tokens revoked", name, by, zap.String("target", v.Target()), zap.Int("connections", ended))
	return ended, nil
}

// at returns v as it is stored when it is made now for m.
func (v Revocation) at(m *config.Messenger, now time.Time) Revocation {
	v.Created, v.Skew = now.Truncate(time.Second), caddy.Duration(config.DurationOr(m.ClockSkew, config.DefaultClockSkew))
	v.shorten()
	if !v.isToken() && v.Before == nil {
		v.Before = &now
	}
	if v.Until == nil {
		v.Until = v.expiresBy(time.Duration(m.MaxLifetime), now)
		return v
	}
	v.Until = storable(v.Until.Add(config.MaxClockSkew)) // covers any clock_skew that is configured later
	v.Exact = v.Until != nil
	return v
}

// Target returns what kind of revocation v is, without the value.
func (v *Revocation) Target() string {
	switch {
	case v.isToken():
		return "jti"
	case v.Identity != "":
		return "identity"
	}
	return "all"
}

// ErrCovers is the error for undoing a revocation that replaced others.
var ErrCovers = StatusError(http.StatusConflict, "this revocation replaced others, such as the logouts of one contact, and cannot be undone: nobody knows any more which tokens these were")
