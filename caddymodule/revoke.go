package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A revocation revokes tokens of one messenger. Exactly one of TokenID, TokenHash, Identity and All is set.
type revocation struct {
	TokenID   tokenID       `json:"jti,omitempty"`        // as an operator wrote it
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
func (v *revocation) targets() (n int) {
	for _, set := range []bool{v.TokenID != "", v.TokenHash != "", v.Identity != "", v.All} {
		if set {
			n++
		}
	}
	return n
}

func (v *revocation) check() error {
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

// recordKind returns the messenger's settings, and the kind of its record.
func (a *registry) recordKind(ctx context.Context, name string) (*Messenger, string, error) {
	if m := a.Messengers[name]; m != nil {
		return m.Messenger, kindRing, nil
	}
	r, err := a.storedRecord(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return r.Settings, kindStored, nil
}

// revoke takes tokens back, and returns how many connections that has ended here. v.Until is when the last of the tokens
// ends, if the caller knows; otherwise the messenger's max_lifetime says.
func (a *registry) revoke(ctx context.Context, name string, v revocation, by actor) (ended int, err error) {
	if err := v.check(); err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	m, kind, err := a.recordKind(ctx, name)
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	v = v.at(m, now)
	_, ended, err = a.changeAndEnd(ctx, name, kind, func(old *record) (*record, error) {
		switch {
		case old == nil && kind == kindStored:
			return nil, errNoMessenger
		case old == nil:
			old = new(record)
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
	a.audit("tokens revoked", name, by, zap.String("target", v.target()), zap.Int("connections", ended))
	return ended, nil
}

// at returns v as it is kept if it is made now for m.
func (v revocation) at(m *Messenger, now time.Time) revocation {
	v.Created, v.Skew = now.Truncate(time.Second), caddy.Duration(durationOr(m.ClockSkew, defaultClockSkew))
	v.shorten()
	if !v.isToken() && v.Before == nil {
		v.Before = &now
	}
	if v.Until == nil {
		v.Until = v.endsBy(time.Duration(m.MaxLifetime), now)
		return v
	}
	v.Until = writable(v.Until.Add(maxClockSkew)) // a larger clock_skew makes no token last longer
	v.Exact = v.Until != nil
	return v
}

// target says what kind of revocation it is, without the value.
func (v *revocation) target() string {
	switch {
	case v.isToken():
		return "jti"
	case v.Identity != "":
		return "identity"
	}
	return "all"
}

var (
	errNotRevoked = adminError(http.StatusNotFound, "there is no such revocation")
	errCovers     = adminError(http.StatusConflict, "this revocation replaced others, such as the logouts of one contact, and cannot be undone: nobody knows any more which tokens these were")
)

// restore takes a revocation back: tokens that are still good otherwise are accepted again.
func (a *service) restore(ctx context.Context, name string, v revocation, by actor) error {
	if err := v.check(); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	_, kind, err := a.recordKind(ctx, name)
	if err != nil {
		return err
	}
	_, err = a.change(ctx, name, kind, func(old *record) (*record, error) {
		if old == nil {
			return nil, errNotRevoked
		}
		kept := slices.DeleteFunc(slices.Clone(old.Revocations), v.sameTarget)
		if len(kept) == len(old.Revocations) {
			if v.Covers = true; slices.ContainsFunc(kept, v.sameTarget) {
				return nil, errCovers
			}
			return nil, errNotRevoked
		}
		old.Revocations = kept
		return old, nil
	})
	if err != nil {
		return err
	}
	a.audit("revocation taken back", name, by, zap.String("target", v.target()))
	return nil
}

// revocations returns those that hold, the newest first.
func (a *service) revocations(ctx context.Context, name string) ([]revocation, error) {
	m, kind, err := a.recordKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := a.live.read(ctx, name, kind)
	if err != nil {
		return nil, storageError(err)
	}
	list := []revocation{}
	if r != nil {
		now := time.Now()
		for _, v := range slices.Backward(r.Revocations) {
			kept := v.keptUntil(time.Duration(m.MaxLifetime))
			if kept != nil && !now.Before(*kept) {
				continue // it concerns no token that could be valid
			}
			if kept != nil || v.Until != nil && !now.Before(*v.Until) {
				v.Until = kept
			}
			list = append(list, v)
		}
	}
	return list, nil
}
