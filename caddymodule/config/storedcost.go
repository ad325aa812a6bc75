package config

import (
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Limits for stored messengers. Every token that a client sends costs time in proportion to the settings, and all messengers
// share that time, so a site owner must not be able to store expensive settings. Configured messengers have no such limits.
const (
	maxStoredEntries = 32
	maxStoredText    = 255  // bytes of an entry, and of every other name
	maxStoredURL     = 2048 // bytes
)

// checkCost refuses settings of a stored messenger that cost more than usual ones. It must be called before all checks whose
// own cost grows with the settings. Keys are checked when they are read.
func (m *Messenger) checkCost() error {
	for _, list := range []struct {
		option string
		values []string
	}{{"issuer", m.Issuer}, {"audience", m.Audience}, {"require_claims", m.RequireClaims}, {"allowed_origin", m.AllowedOrigin}} {
		if n := len(list.values); n > maxStoredEntries {
			return fmt.Errorf("%s has %d entries; a stored messenger takes at most %d: remove those that are not used, or have the operator configure this messenger", list.option, n, maxStoredEntries)
		}
		for i, value := range list.values {
			if len(value) > maxStoredText {
				return fmt.Errorf("%s has %d bytes in entry %d; a stored messenger takes at most %d: shorten it", list.option, len(value), i+1, maxStoredText)
			}
		}
	}
	if n := len(m.IdentityKey); n > maxStoredText {
		return fmt.Errorf("identity_key has %d bytes; a stored messenger takes at most %d: choose a shorter name for the claim", n, maxStoredText)
	}
	if n := len(m.PublicKey); n > MaxPublicKeys {
		return fmt.Errorf("public_key is given %d times; a messenger takes at most %d keys: remove those that sign no more", n, MaxPublicKeys)
	}
	for i, k := range m.PublicKey {
		if len(k.KeyID) > maxStoredText {
			return fmt.Errorf("public_key number %d has a kid of %d bytes; a stored messenger takes at most %d: choose a shorter one", i+1, len(k.KeyID), maxStoredText)
		}
	}
	if m.JWKS != nil && len(m.JWKS.URL) > maxStoredURL {
		return fmt.Errorf("jwks has a URL of %d bytes; a stored messenger takes at most %d: publish the keys at a shorter one", len(m.JWKS.URL), maxStoredURL)
	}
	return nil
}

// CostWarnings returns warnings about a messenger that was stored before these limits existed. It continues to work, because
// refusing it would lock the site out; the next save must respect the limits.
func (m *Messenger) CostWarnings() (warnings []string) {
	const serves = "; it goes on serving, and cannot be saved like this"
	if err := m.checkCost(); err != nil {
		return []string{err.Error() + serves}
	}
	for i, k := range m.PublicKey {
		if key, err := authn.ParsePublicKey([]byte(k.Key), k.KeyID); err == nil {
			if err := key.CheckSmall(); err != nil {
				warnings = append(warnings, fmt.Sprintf("public_key number %d %s%s", i+1, err, serves))
			}
		}
	}
	return warnings
}
