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

// LogoutOf is the revocation by which c logs out.
func LogoutOf(c *authn.Contact, m *config.Messenger, everywhere bool, now time.Time) Revocation {
	if c.TokenID == "" || everywhere {
		// The site's clock may be ahead: the token that logs out is among them in any case.
		if next := c.Issued.Add(time.Second - config.DurationOr(m.ClockSkew, config.DefaultClockSkew)); next.After(now) {
			now = next.UTC()
		}
		return Revocation{Identity: c.Identity, Before: &now}
	}
	v := Revocation{TokenHash: c.TokenID, Contact: c.Identity}
	if !c.Expires.IsZero() { // its key may end earlier, and come back in other settings
		v.Until = writable(c.Expires)
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
	TokenHash authn.TokenID `json:"jti_sha256,omitempty"` // where only that is known, as after a logout, or the jti is long
	Contact   string        `json:"contact,omitempty"`    // whose token that is, where the contact has revoked it
	Identity  string        `json:"identity,omitempty"`
	All       bool          `json:"all,omitempty"`
	Before    *time.Time    `json:"issued_before,omitempty"` // for Identity and All; default: the time of the call
	Until     *time.Time    `json:"until,omitempty"`         // when it can be forgotten; nil if never
	Created   time.Time     `json:"created,omitzero"`

	// What the gateway notes by itself; see revocationlist.go.
	Skew   caddy.Duration `json:"clock_skew,omitempty"` // how far clocks may be ahead whose tokens are meant
	Issued *time.Time     `json:"issued,omitempty"`     // the iat of the token, where the contact has revoked it
	Exact  bool           `json:"exact,omitempty"`      // Until rests on the tokens themselves, and on no setting
	Covers bool           `json:"covers,omitempty"`     // it replaced others, and cannot be taken back
}

// targets is how many of its members say what is revoked.
func (v *Revocation) targets() (n int) {
	for _, set := range []bool{v.TokenID != "", v.TokenHash != "", v.Identity != "", v.All} {
		if set {
			n++
		}
	}
	return n
}

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
func writable(t time.Time) *time.Time {
	if t = t.UTC(); t.Year() > 9999 {
		return nil
	}
	return &t
}

// RecordKind returns the messenger's settings, and the kind of its record.
func (a *Registry) RecordKind(ctx context.Context, name string) (*config.Messenger, string, error) {
	if m := a.Messengers[name]; m != nil {
		return m.Messenger, kindRing, nil
	}
	r, err := a.StoredRecord(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return r.Settings, KindStored, nil
}

// Revoke takes tokens back, and returns how many connections that has ended here. v.Until is when the last of the tokens
// ends, if the caller knows; otherwise the messenger's max_lifetime says.
func (a *Registry) Revoke(ctx context.Context, name string, v Revocation, by Actor) (ended int, err error) {
	if err := v.Check(); err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	m, kind, err := a.RecordKind(ctx, name)
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	v = v.at(m, now)
	_, ended, err = a.ChangeAndEnd(ctx, name, kind, func(old *Record) (*Record, error) {
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
	a.Audit("tokens revoked", name, by, zap.String("target", v.Target()), zap.Int("connections", ended))
	return ended, nil
}

// at returns v as it is kept if it is made now for m.
func (v Revocation) at(m *config.Messenger, now time.Time) Revocation {
	v.Created, v.Skew = now.Truncate(time.Second), caddy.Duration(config.DurationOr(m.ClockSkew, config.DefaultClockSkew))
	v.shorten()
	if !v.isToken() && v.Before == nil {
		v.Before = &now
	}
	if v.Until == nil {
		v.Until = v.endsBy(time.Duration(m.MaxLifetime), now)
		return v
	}
	v.Until = writable(v.Until.Add(config.MaxClockSkew)) // a larger clock_skew makes no token last longer
	v.Exact = v.Until != nil
	return v
}

// Target says what kind of revocation it is, without the value.
func (v *Revocation) Target() string {
	switch {
	case v.isToken():
		return "jti"
	case v.Identity != "":
		return "identity"
	}
	return "all"
}

var ErrCovers = StatusError(http.StatusConflict, "this revocation replaced others, such as the logouts of one contact, and cannot be undone: nobody knows any more which tokens these were")
