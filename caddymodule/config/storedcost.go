package config

import (
	"fmt"
)

// Limits for stored messengers. Every token that a client sends costs time in proportion to the settings, and all messengers
// share that time, so a site owner must not be able to store expensive settings. Configured messengers have no such limits.
const (
	maxStoredEntries = 32
	maxStoredText    = 255  // bytes of an entry, and of every other name
	maxStoredURL     = 2048 // bytes

	// MaxKeyID is how many bytes the kid of a stored key can have.
	MaxKeyID = maxStoredText
)

// checkCost refuses settings of a stored messenger that cost more than usual settings. It must be called before all checks whose
// own cost grows with the settings. Keys are checked when they are read.
func (m *Messenger) checkCost() error {
	for _, s := range Settings {
		list, ok := s.field(m).(*[]string)
		if !ok {
			continue
		}
		if n := len(*list); n > maxStoredEntries {
			return fmt.Errorf("%s has %d entries; a stored messenger takes at most %d: remove those that are not used, or have the operator configure this messenger", s.Name, n, maxStoredEntries)
		}
		for i, value := range *list {
			if len(value) > maxStoredText {
				return fmt.Errorf("%s has %d bytes in entry %d; a stored messenger takes at most %d: shorten it", s.Name, len(value), i+1, maxStoredText)
			}
		}
	}
	for _, s := range Settings {
		if s.Name == "jwks discovery" {
			continue // it is a URL
		}
		if text, ok := s.field(m).(*string); ok && len(*text) > maxStoredText {
			return fmt.Errorf("%s has %d bytes; a stored messenger takes at most %d: shorten it", s.Name, len(*text), maxStoredText)
		}
	}
	if n := len(m.PublicKey); n > MaxPublicKeys {
		return fmt.Errorf("public_key is given %d times; a messenger takes at most %d keys: remove those that no longer sign", n, MaxPublicKeys)
	}
	for i, k := range m.PublicKey {
		if len(k.KeyID) > maxStoredText {
			return fmt.Errorf("public_key number %d has a kid of %d bytes; a stored messenger takes at most %d: choose a shorter one", i+1, len(k.KeyID), maxStoredText)
		}
	}
	if m.JWKS != nil && max(len(m.JWKS.URL), len(m.JWKS.Discovery)) > maxStoredURL {
		return fmt.Errorf("jwks has a URL of %d bytes; a stored messenger takes at most %d: publish the keys at a shorter one", max(len(m.JWKS.URL), len(m.JWKS.Discovery)), maxStoredURL)
	}
	if m.Previous != nil {
		if err := m.Previous.Settings().checkCost(); err != nil {
			return fmt.Errorf("previous %w", err)
		}
	}
	return nil
}

// CostWarnings returns warnings about a messenger that was stored before these limits existed. It continues to work, because
// refusing it would lock the site out; the next save must respect the limits.
func (m *Messenger) CostWarnings() (warnings []string) {
	const serves = "; this messenger continues to work, but cannot be saved with this setting"
	if err := m.checkCost(); err != nil {
		return []string{err.Error() + serves}
	}
	for i, k := range m.PublicKey {
		if key, err := k.Parse([]byte(k.Key)); err == nil {
			if err := key.CheckSmall(); err != nil {
				warnings = append(warnings, fmt.Sprintf("public_key number %d %s%s", i+1, err, serves))
			}
		}
	}
	return warnings
}
