package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// maxRevocations is how many revocations of one messenger are kept. They are kept until no token could still be good, so
// that short-lived tokens need few.
const maxRevocations = 10_000

// maxLogouts is how many of these are single tokens that one contact has revoked.
const maxLogouts = 20

// A revocation takes back tokens of one messenger. Exactly one of TokenID, Identity and All is set.
type revocation struct {
	TokenID  string     `json:"jti,omitempty"`
	Contact  string     `json:"contact,omitempty"` // whose token that is, where the contact has revoked it
	Identity string     `json:"identity,omitempty"`
	All      bool       `json:"all,omitempty"`
	Before   *time.Time `json:"issued_before,omitempty"` // for Identity and All; default: the time of the call
	Until    *time.Time `json:"until,omitempty"`         // when it can be forgotten; nil if never
	Created  time.Time  `json:"created,omitzero"`
}

func (v *revocation) check() error {
	targets := 0
	for _, set := range []bool{v.TokenID != "", v.Identity != "", v.All} {
		if set {
			targets++
		}
	}
	switch {
	case targets != 1:
		return errors.New(`exactly one of "jti", "identity" and "all" says what is revoked`)
	case v.Contact != "" && v.TokenID == "":
		return errors.New(`"contact" goes with "jti"`)
	case v.TokenID != "" && v.Before != nil:
		return errors.New(`a jti names one token; "issued_before" goes with "identity" or "all"`)
	case len(v.TokenID) > 1024 || len(v.Identity) > 255:
		return errors.New("no token has a jti or an identity of this length")
	}
	return nil
}

// sameTarget reports whether v and other take back tokens of the same kind, so that one can replace the other.
func (v *revocation) sameTarget(other revocation) bool {
	return v.TokenID == other.TokenID && v.Identity == other.Identity && v.All == other.All
}

func (v *revocation) rule() authn.Revocation {
	rule := authn.Revocation{TokenID: v.TokenID, Identity: v.Identity}
	if v.Before != nil {
		rule.Before = *v.Before
	}
	return rule
}

// rules returns the revocations that hold.
func (r *record) rules(now time.Time) []authn.Revocation {
	var rules []authn.Revocation
	for i := range r.Revocations {
		if until := r.Revocations[i].Until; until == nil || now.Before(*until) {
			rules = append(rules, r.Revocations[i].rule())
		}
	}
	return rules
}

// addRevocation adds v. One for the same target is replaced, unless it reaches further.
func (r *record) addRevocation(v revocation, now time.Time) error {
	r.Revocations = slices.DeleteFunc(r.Revocations, func(old revocation) bool { return old.Until != nil && !now.Before(*old.Until) })
	for i, old := range r.Revocations {
		if !v.sameTarget(old) {
			continue
		}
		if old.Before != nil && v.Before.Before(*old.Before) {
			v.Before = old.Before
		}
		if old.Until == nil || v.Until != nil && v.Until.Before(*old.Until) {
			v.Until = old.Until
		}
		r.Revocations[i] = v
		return nil
	}
	if v.Contact != "" && r.logouts(v.Contact) >= maxLogouts {
		return r.addRevocation(r.everywhere(v, now), now)
	}
	if len(r.Revocations) >= maxRevocations {
		return fmt.Errorf("the messenger has %d revocations, and no more are kept; revoke by identity or all instead of by jti, or let tokens end sooner (max_lifetime)", maxRevocations)
	}
	r.Revocations = append(r.Revocations, v)
	return nil
}

// logouts returns how many tokens a contact has revoked.
func (r *record) logouts(contact string) (count int) {
	for i := range r.Revocations {
		if r.Revocations[i].Contact == contact {
			count++
		}
	}
	return count
}

// everywhere replaces the revocations of single tokens that a contact has made, and v, by one of all its tokens so far.
// Otherwise one contact who logs in and out again and again would leave no room for others.
func (r *record) everywhere(v revocation, now time.Time) revocation {
	all := revocation{Identity: v.Contact, Before: &now, Until: v.Until, Created: v.Created}
	r.Revocations = slices.DeleteFunc(r.Revocations, func(old revocation) bool {
		if old.Contact != v.Contact {
			return false
		}
		if all.Until != nil && (old.Until == nil || old.Until.After(*all.Until)) {
			all.Until = old.Until
		}
		return true
	})
	return all
}

// endsBy returns when the last token that v takes back has ended, or nil if nobody can say: the messenger has no
// max_lifetime.
func (v *revocation) endsBy(m *Messenger, now time.Time) *time.Time {
	if m.MaxLifetime <= 0 {
		return nil
	}
	issued := now
	if v.Before != nil && v.Before.After(now) {
		issued = *v.Before
	}
	skew := durationOr(m.ClockSkew, defaultClockSkew)
	// A token may have been issued by a clock that is ahead, and is good for as long after its end.
	return writable(issued.Add(time.Duration(m.MaxLifetime)).Add(2 * skew))
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
func (a *App) recordKind(ctx context.Context, name string) (*Messenger, string, error) {
	if m := a.Messengers[name]; m != nil {
		return m, kindRing, nil
	}
	r, err := a.storedRecord(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return r.Settings, kindStored, nil
}

// revoke takes tokens back, and returns how many connections that has ended here. v.Until is when the last of the tokens
// ends, if the caller knows; otherwise the messenger's max_lifetime says.
func (a *App) revoke(ctx context.Context, name string, v revocation, by actor) (ended int, err error) {
	if err := v.check(); err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	m, kind, err := a.recordKind(ctx, name)
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	v.Created = now.Truncate(time.Second)
	if v.TokenID == "" && v.Before == nil {
		v.Before = &now
	}
	if v.Until == nil {
		v.Until = v.endsBy(m, now)
	}
	_, ended, err = a.changeAndEnd(ctx, name, kind, func(old *record) (*record, error) {
		switch {
		case old == nil && kind == kindStored:
			return nil, errNoMessenger
		case old == nil:
			old = new(record)
		}
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

// target says what kind of revocation it is, without the value.
func (v *revocation) target() string {
	switch {
	case v.TokenID != "":
		return "jti"
	case v.Identity != "":
		return "identity"
	}
	return "all"
}

var errNotRevoked = adminError(http.StatusNotFound, "there is no such revocation")

// restore takes a revocation back: tokens that are still good otherwise are accepted again.
func (a *App) restore(ctx context.Context, name string, v revocation, by actor) error {
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
func (a *App) revocations(ctx context.Context, name string) ([]revocation, error) {
	_, kind, err := a.recordKind(ctx, name)
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
			if v.Until == nil || now.Before(*v.Until) {
				list = append(list, v)
			}
		}
	}
	return list, nil
}
