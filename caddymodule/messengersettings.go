package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// checkSettings looks at all that can be judged without reading a key. The Caddyfile adapter calls it too, to name the
// place of a mistake.
func (m *Messenger) checkSettings() error {
	if m.IdentityKey == "" {
		return errors.New("identity_key is missing; add the name of the claim that holds the contact identity, such as \"identity_key sub\"")
	}
	if err := authn.CheckIdentityKey(m.IdentityKey); err != nil {
		return fmt.Errorf("identity_key %q %w", m.IdentityKey, err)
	}
	switch methods := m.methods(); {
	case len(methods) > 1:
		return fmt.Errorf("%s are both set; a messenger has exactly one validation method", strings.Join(methods[:2], " and "))
	case len(methods) == 0:
		return errors.New("no validation method is set; add exactly one of public_key, jwks and shared_token")
	}
	if m.isGenerated() && m.SharedToken.Encoding != "" {
		return errors.New("shared_token has an encoding and no value; a generated token needs none")
	}
	if d := m.ClockSkew; d != nil && (*d < 0 || time.Duration(*d) > maxClockSkew) {
		return fmt.Errorf("clock_skew %s is not between 0s and %s; set the clocks instead (NTP)", time.Duration(*d), maxClockSkew)
	}
	if m.MaxLifetime < 0 {
		return errors.New("max_lifetime is negative; give a duration such as 1h, or remove it")
	}
	if m.MaxSession != nil && *m.MaxSession < 0 {
		return errors.New("max_session is negative; give a duration such as 12h, or 0 for no limit")
	}
	for option, values := range map[string][]string{"issuer": m.Issuer, "audience": m.Audience, "require_claims": m.RequireClaims, "allowed_origin": m.AllowedOrigin} {
		if err := checkList(values); err != nil {
			return fmt.Errorf("%s %w", option, err)
		}
	}
	if err := m.Mode.check(); err != nil {
		return fmt.Errorf("mode %q %w", m.Mode, err)
	}
	if err := m.FailLimit.check(); err != nil {
		return fmt.Errorf("fail_limit %w", err)
	}
	return nil
}

func checkList(values []string) error {
	for i, value := range values {
		if value == "" {
			return errors.New("has an empty value; remove it")
		}
		if slices.Contains(values[:i], value) {
			return fmt.Errorf("names %q twice; remove one", value)
		}
	}
	return nil
}

// warnings are about settings that work and are probably not meant.
func (m *Messenger) warnings() []string {
	var warnings []string
	if !m.needsExpiry() {
		warnings = append(warnings, "this messenger accepts tokens that never expire; add \"require_claims exp\" or \"max_lifetime\"")
	}
	if m.JWKS != nil && len(m.Issuer) == 0 && len(m.Audience) == 0 {
		warnings = append(warnings, "this messenger accepts every token that the key server's keys sign, for whatever it was made; add \"audience\" or \"issuer\"")
	}
	return warnings
}

// needsExpiry reports whether every accepted token ends some day.
func (m *Messenger) needsExpiry() bool {
	return m.MaxLifetime > 0 || slices.Contains(m.RequireClaims, "exp")
}

// acceptsTokensOf reports whether a key in common, and no audience that tells them apart, makes tokens of m and other
// interchangeable.
func (m *messenger) acceptsTokensOf(other *messenger) bool {
	if !authn.Shared(m.keys.current, other.keys.current) {
		return false
	}
	if len(m.Audience) == 0 || len(other.Audience) == 0 {
		return true
	}
	return slices.ContainsFunc(m.Audience, func(aud string) bool { return slices.Contains(other.Audience, aud) })
}

// checkMessengerName returns an error if name cannot be a messenger's: it becomes a header, a log field, a metric label
// and a storage key, and reads the same in all of them.
func checkMessengerName(name string) error {
	if name == "" || len(name) > 63 {
		return errors.New("must have 1 to 63 characters")
	}
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '-') {
			return errors.New("must begin with a lower-case letter or digit and have only these, \"_\" and \"-\"")
		}
	}
	return nil
}
