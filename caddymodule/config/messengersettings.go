package config

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// CheckSettings checks everything that can be decided without reading a key. The Caddyfile adapter calls it too, to name the
// line of a mistake.
func (m *Messenger) CheckSettings() error {
	if err := m.checkIdentity(); err != nil {
		return err
	}
	if err := m.checkMethod(); err != nil {
		return err
	}
	if err := m.CheckPrevious(); err != nil {
		return err
	}
	if m.JWKS != nil && m.JWKS.Discovery != "" && len(m.Issuer) > 0 && !slices.Contains(m.Issuer, m.JWKS.Discovery) {
		return errors.New("issuer does not have the issuer of discovery, so that no token could be valid; remove it, because discovery sets it")
	}
	if d := m.ClockSkew; d != nil && (*d < 0 || time.Duration(*d) > MaxClockSkew) {
		return fmt.Errorf("clock_skew %s is not between 0s and %s; set the clocks instead (NTP)", DurationText(time.Duration(*d)), DurationText(MaxClockSkew))
	}
	if m.MaxLifetime < 0 {
		return errors.New("max_lifetime is negative; give a duration such as 1h, or remove it")
	}
	if m.MaxSession != nil && *m.MaxSession < 0 {
		return errors.New("max_session is negative; give a duration such as 12h, or 0 for no limit")
	}
	for _, s := range Settings {
		if list, ok := s.field(m).(*[]string); ok {
			if err := CheckList(*list); err != nil {
				return fmt.Errorf("%s %w", s.Name, err)
			}
		}
	}
	if m.TokenType != "" {
		if err := checkTokenType([]string{m.TokenType}); err != nil {
			return fmt.Errorf("token_type %w", err)
		}
	}
	if err := m.Mode.Check(); err != nil {
		return fmt.Errorf("mode %q %w", m.Mode, err)
	}
	if err := m.FailLimit.check(); err != nil {
		return fmt.Errorf("fail_limit %w", err)
	}
	return nil
}

// CheckList returns an error if a list has an empty or a repeated entry.
func CheckList(values []string) error {
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

// A warning describes settings that are valid but probably not intended.
type warning struct {
	problem string // continues "this messenger …"
	fix     string // in a configuration
	formFix string // in the control panel
}

func (m *Messenger) warnings() (list []warning) {
	if !m.needsExpiry() {
		list = append(list, warning{"accepts tokens that never expire", `add "require_claims exp" or "max_lifetime"`,
			"Require the claim exp, or set a longest lifetime."})
	}
	if m.JWKS != nil && m.JWKS.Discovery == "" && len(m.Issuer) == 0 && len(m.Audience) == 0 {
		list = append(list, warning{"accepts every token that the key server's keys sign, whatever it was made for", `add "audience" or "issuer"`,
			"Set an audience or an issuer."})
	}
	if m.Previous != nil && m.Previous.IsOver(time.Now()) {
		list = append(list, warning{"has a previous method whose time has passed", `remove "previous"`,
			"The next save removes it."})
	}
	return list
}

// Warnings returns warnings about settings that are valid but probably not intended, for those who write options.
func (m *Messenger) Warnings() (texts []string) {
	for _, w := range m.warnings() {
		texts = append(texts, "this messenger "+w.problem+"; "+w.fix)
	}
	return texts
}

// FormWarnings returns the same warnings for those who fill in the form of the control panel.
func (m *Messenger) FormWarnings() (texts []string) {
	for _, w := range m.warnings() {
		texts = append(texts, "This messenger "+w.problem+". "+w.formFix)
	}
	return texts
}

// needsExpiry reports whether every accepted token must have an expiry.
func (m *Messenger) needsExpiry() bool {
	return m.MaxLifetime > 0 || slices.Contains(m.RequireClaims, "exp")
}
