package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// LogoutOf returns the revocation by which c logs out.
func LogoutOf(c *authn.Contact, m *config.Messenger, everywhere bool, now time.Time) Revocation {
	if c.TokenID == "" || everywhere {
		// The site's clock may be ahead: the token that is used to log out must be revoked in any case.
		if next := c.Issued.Add(time.Second - config.DurationOr(m.ClockSkew, config.DefaultClockSkew)); next.After(now) {
			now = next.UTC()
		}
		return Revocation{Identity: c.Identity, Contact: c.Identity, Before: &now}
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
	Contact   string        `json:"contact,omitempty"`    // the contact who revoked it, by a logout
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
	case v.Contact != "" && !v.isToken() && v.Contact != v.Identity:
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

// Revoke revokes tokens, and returns how many connections of this node that has ended. v.Until is when the last of the tokens
// expires, if the caller knows that; otherwise it is computed from the messenger's max_lifetime.
func (reg *Registry) Revoke(ctx context.Context, name string, v Revocation, by Actor) (ended int, err error) {
	if err := v.Check(); err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	urgent := by != ByContact
	j, m, err := reg.journalOf(ctx, name)
	if err != nil {
		return 0, err
	}
	now := Now().UTC()
	v = v.at(m, now)
	at := j.stamp(now)
	var facts []*fact
	var incarnation string
	err = ErrNoMessenger
	j.view(func(current string, l *ledger) {
		if incarnation = current; l != nil {
			facts, err = l.revocationFacts(v, at, now, time.Duration(m.MaxLifetime))
		}
	})
	if err != nil {
		if !errors.As(err, new(caddy.APIError)) {
			err = caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
		}
		return 0, err
	}
	if ended, err = reg.Store.write(ctx, j, incarnation, urgent, facts...); err != nil {
		return 0, StorageError(err)
	}
	reg.Audit("tokens revoked", name, by, zap.String("target", v.Target()), zap.Int("connections", ended))
	return ended, nil
}

// ClockWarning returns a warning if v is a revocation by the time of this node, whose clock is further behind that of another node
// than clock_skew allows for: tokens that were issued a moment ago may count as later. It returns "" otherwise.
func (reg *Registry) ClockWarning(name string, v Revocation) string {
	if v.isToken() || v.Before != nil {
		return ""
	}
	skew := config.DefaultClockSkew
	if m := reg.Messengers[name]; m != nil {
		skew = config.DurationOr(m.ClockSkew, skew)
	} else if e, ok := reg.Store.cached(name); ok {
		skew = config.DurationOr(e.messenger.ClockSkew, skew)
	}
	behind := reg.Store.follower.Behind()
	if behind <= skew {
		return ""
	}
	return fmt.Sprintf("the clock of this node is at least %s behind that of another one: tokens that were issued within that time may not be revoked; set the clocks (NTP), and revoke these tokens by their jti, or reset the key",
		behind.Round(time.Second))
}

// ByContact is the actor of a logout.
const ByContact Actor = "the contact"

// journalOf returns the journal of a messenger and its settings. It looks whether the messenger was deleted or created again on
// another node: a revocation of the former one would be acknowledged, and revoke nothing.
func (reg *Registry) journalOf(ctx context.Context, name string) (*journal, *config.Messenger, error) {
	s := reg.Store
	kind, m := KindStored, reg.Messengers[name]
	if m != nil {
		kind = kindRing
	} else if config.CheckName(name) != nil {
		return nil, nil, ErrNoMessenger
	}
	for _, j := range s.held(name) {
		if j.kind != kind {
			continue
		}
		if kind == kindRing {
			return j, m.Messenger, nil
		}
		if s.isReplaced(ctx, j) {
			break
		}
		if e, ok := s.cached(name); ok && e.journal == j {
			return j, e.messenger.Messenger, nil
		}
	}
	j, err := s.fresh(ctx, name, kind)
	if err != nil {
		return nil, nil, StorageError(err)
	}
	if kind == kindRing {
		return j, m.Messenger, nil
	}
	r := j.record()
	if r == nil {
		return nil, nil, ErrNoMessenger
	}
	return j, r.Settings, nil
}

// isReplaced reports whether the storage has an incarnation, or the deletion of one, that the journal does not know. It does not
// list the facts, of which there may be many.
func (s *Store) isReplaced(ctx context.Context, j *journal) bool {
	names, err := s.List(ctx, j.root(), false)
	if err != nil {
		return true // the caller reads, and gets the error
	}
	j.mu.Lock()
	var unknown bool
	for _, name := range names {
		incarnation := path.Base(name)
		switch {
		case incarnation == nameFolder:
			unknown = unknown || len(j.deleted) == 0
		case incarnation == configIncarnation, j.ledgers[incarnation] != nil, strings.ContainsAny(incarnation, "-_."):
		case incarnation == KindStored, incarnation == kindRing:
		default:
			_, gone := j.deleted[incarnation]
			unknown = unknown || !gone
		}
	}
	knows := len(j.deleted) > 0
	j.mu.Unlock()
	if unknown || !knows {
		return unknown
	}
	deletions, err := s.List(ctx, path.Join(j.root(), nameFolder, "facts"), false)
	if err != nil {
		return true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(deletions, func(name string) bool {
		key, valid := vault.ParseKey(name)
		return valid && j.batches[key] == nil
	})
}

// Restore undoes a revocation: tokens that are otherwise valid are accepted again.
func (reg *Registry) Restore(ctx context.Context, name string, v Revocation) error {
	if err := v.Check(); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	_, kind, err := reg.RecordKind(ctx, name)
	if err != nil {
		return err
	}
	j, err := reg.Store.fresh(ctx, name, kind)
	if err != nil {
		return StorageError(err)
	}
	var undo *fact
	var incarnation string
	err = ErrNotRevoked
	j.view(func(current string, l *ledger) {
		if incarnation = current; l == nil {
			return
		}
		target := v.target()
		if ids := l.revocationsOf(target); len(ids) > 0 {
			undo, err = newFact(factUndo, time.Time{}, ids...), nil
			return
		}
		if target.covers = true; len(l.revocationsOf(target)) > 0 {
			err = ErrCovers
		}
	})
	if err != nil {
		return err
	}
	undo.At = j.stamp(Now())
	_, err = reg.Store.write(ctx, j, incarnation, true, undo)
	return StorageError(err)
}

// Revocations returns the active revocations of a messenger, the newest first.
func (reg *Registry) Revocations(ctx context.Context, name string) ([]Revocation, error) {
	m, kind, err := reg.RecordKind(ctx, name)
	if err != nil {
		return nil, err
	}
	j, err := reg.Store.fresh(ctx, name, kind)
	if err != nil {
		return nil, StorageError(err)
	}
	now := Now()
	list := []Revocation{}
	j.view(func(_ string, l *ledger) {
		if l == nil {
			return
		}
		for _, v := range slices.Backward(l.activeRevocations(now)) {
			kept := v.KeptUntil(time.Duration(m.MaxLifetime))
			if kept != nil && !now.Before(*kept) {
				continue // it covers only tokens that have expired
			}
			if kept != nil || v.Until != nil && !now.Before(*v.Until) {
				v.Until = kept
			}
			list = append(list, v)
		}
	})
	return list, nil
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
