package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// MaxPrevious is how far ahead the end of a previous method of a stored messenger can be.
const MaxPrevious = 365 * 24 * time.Hour

// Previous is a validation method that a messenger used before, and still accepts until a stated time. Exactly one of
// public_key, jwks and shared_token is set, as in a messenger.
type Previous struct {
	// When the method ends: an RFC 3339 time such as 2026-12-31T23:59:59Z. Tokens of the method are refused from then on, and
	// connections that were opened with them end. Required.
	Until time.Time `json:"until,omitzero"`

	// The public keys of the method before. As in a messenger.
	PublicKey []PublicKey `json:"public_key,omitempty"`

	// The URL of the public keys of the method before. As in a messenger.
	JWKS *JWKS `json:"jwks,omitempty"`

	// The secret of the method before. As in a messenger; if empty, the shared tokens that the gateway has generated.
	SharedToken *SharedToken `json:"shared_token,omitempty"`
}

// Settings returns the settings of a messenger with only the previous method.
func (p *Previous) Settings() *Messenger {
	return &Messenger{PublicKey: p.PublicKey, JWKS: p.JWKS, SharedToken: p.SharedToken}
}

// IsOver reports whether the method has ended. It has no effect then. p may be nil.
func (p *Previous) IsOver(now time.Time) bool { return p == nil || !now.Before(p.Until) }

// AsPrevious returns the validation method of m as a previous method, which is used together with a new one until that time.
func (m *Messenger) AsPrevious(until time.Time) *Previous {
	return &Previous{Until: until.UTC().Truncate(time.Second), PublicKey: m.PublicKey, JWKS: m.JWKS, SharedToken: m.SharedToken}
}

// SameMethod reports whether m and other have the same validation method, with the same keys.
func (m *Messenger) SameMethod(other *Messenger) bool {
	return m.Method() == other.Method() && slices.Equal(m.trusts(), other.trusts())
}

// UsesRing reports whether tokens are verified with the shared tokens that the gateway keeps, at that time.
func (m *Messenger) UsesRing(now time.Time) bool {
	return m.IsGenerated() || !m.Previous.IsOver(now) && m.Previous.Settings().IsGenerated()
}

// trusts returns the keys, placeholders and URLs of the validation method of m with their algorithms: what is trusted, without how it
// is fetched. The shared tokens that the gateway keeps are one text.
func (m *Messenger) trusts() (list []string) {
	algorithms := " " + m.SigningAlgorithms().Text()
	switch {
	case m.JWKS != nil:
		return []string{m.JWKS.Document() + algorithms}
	case m.SharedToken != nil:
		return []string{m.SharedToken.Token + " " + string(m.SharedToken.Encoding) + algorithms}
	}
	for _, k := range m.PublicKey {
		list = append(list, fmt.Sprintf("%q %q %s", k.Key, k.KeyID, (&Messenger{PublicKey: []PublicKey{k}}).SigningAlgorithms().Text()))
	}
	return list
}

// CheckPrevious returns an error if the previous method of m is not valid, or cannot be used together with the current one.
func (m *Messenger) CheckPrevious() error {
	if err := m.Previous.check(m); err != nil {
		return fmt.Errorf("previous: %w", err)
	}
	return nil
}

func (p *Previous) check(m *Messenger) error {
	if p == nil {
		return nil
	}
	if p.Until.IsZero() || p.Until.Year() > 9999 {
		return errors.New("its time is missing; write until when the method is used: previous 2026-12-31T23:59:59Z { … }")
	}
	former := p.Settings()
	if err := former.checkMethod(); err != nil {
		return err
	}
	if former.IsGenerated() && m.IsGenerated() {
		return errors.New("shared_token is the method already; rotate the shared tokens instead: caddy messenger tokens rotate")
	}
	return checkTogether(m.PublicKey, p.PublicKey)
}

// checkTogether refuses a key that both methods have with different algorithms, as far as the keys are in the settings themselves.
func checkTogether(now, former []PublicKey) error {
	keys := writtenKeys(now)
	for _, before := range writtenKeys(former) {
		if slices.ContainsFunc(keys, before.HasOtherAlgorithm) {
			return authn.ErrTwoAlgorithms
		}
	}
	return nil
}

// writtenKeys returns the keys that are in the settings themselves. Keys that cannot be used are left out; other checks refuse them.
func writtenKeys(list []PublicKey) (keys []*sigkey.Key) {
	for _, k := range list {
		if _, placeholder := ParseReference(k.Key); placeholder {
			continue
		}
		if key, err := k.Parse([]byte(k.Key)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// checkMethod returns an error unless exactly one validation method is set.
func (m *Messenger) checkMethod() error {
	switch methods := m.methods(); {
	case len(methods) > 1:
		return fmt.Errorf("%s and %s are both set; a messenger has exactly one validation method", methods[0], methods[1])
	case len(methods) == 0:
		return errors.New("no validation method is set; add exactly one of public_key, jwks and shared_token")
	}
	if m.IsGenerated() && m.SharedToken.Encoding != "" {
		return errors.New("shared_token has an encoding and no value; a generated token needs none")
	}
	_, err := m.readAlgorithms()
	return err
}

// parsePrevious reads the block previous <time> { <method> }.
func (m *Messenger) parsePrevious(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Err("previous takes one time, until which the method in its block is used: previous 2026-12-31T23:59:59Z { … }")
	}
	until, err := time.Parse(time.RFC3339, args[0])
	if err != nil {
		return d.Errf("previous %q is not an RFC 3339 time; write one such as 2026-12-31T23:59:59Z", args[0])
	}
	former := new(Messenger)
	all, _ := former.options("")
	options := map[string]OptionParser{"public_key": all["public_key"], "jwks": former.parseJWKS, "shared_token": former.parseSharedToken}
	if err := ParseBlock(d, "previous", options, "public_key"); err != nil {
		return err
	}
	m.Previous = &Previous{Until: until, PublicKey: former.PublicKey, JWKS: former.JWKS, SharedToken: former.SharedToken}
	return nil
}
