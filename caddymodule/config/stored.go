package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// CheckStored refuses settings that a stored messenger may not have, and those that would not load.
func (m *Messenger) CheckStored(isInternal func(hostname, host string) bool) error {
	if err := m.checkCost(); err != nil {
		return err
	}
	if err := m.CheckSettings(); err != nil {
		return err
	}
	for _, s := range Settings {
		if s.check == nil {
			continue
		}
		if err := s.check(s.Texts(m)); err != nil {
			return fmt.Errorf("%s %w", s.Name, err)
		}
	}
	if m.Previous != nil {
		if time.Until(m.Previous.Until) > MaxPrevious {
			return errors.New("previous is used for more than a year; give an earlier time")
		}
		if err := m.Previous.Settings().checkStoredMethod(isInternal); err != nil {
			return fmt.Errorf("previous %w", err)
		}
	}
	return m.checkStoredMethod(isInternal)
}

// CheckSaved is CheckStored for settings that are saved now: it also refuses what is valid, and is certainly a mistake. Stored messengers
// with such settings from before are served, and can be imported.
func (m *Messenger) CheckSaved(isInternal func(hostname, host string) bool) error {
	if err := m.CheckStored(isInternal); err != nil {
		return err
	}
	for _, s := range Settings {
		if list, ok := s.field(m).(*[]string); ok && slices.ContainsFunc(*list, isReference) {
			return fmt.Errorf("%s has a placeholder ({env.…} or {file.…}), which configurations have and stored messengers do not; write the value itself", s.Name)
		}
	}
	return m.checkUnits()
}

// isReference reports whether text has a placeholder that is resolved when a configuration is loaded.
func isReference(text string) bool {
	return strings.Contains(text, "{env.") || strings.Contains(text, "{file.")
}

// checkStoredMethod refuses a validation method that a stored messenger may not have.
func (m *Messenger) checkStoredMethod(isInternal func(hostname, host string) bool) error {
	switch {
	case m.JWKS != nil:
		if _, err := m.JWKS.StoredSettings(isInternal); err != nil {
			return fmt.Errorf("jwks %w", err)
		}
	case m.SharedToken != nil:
		if m.SharedToken.Token != "" || m.SharedToken.Encoding != "" {
			return errors.New("shared_token of a stored messenger is generated, and alg is its only member: write {}")
		}
	default:
		return m.checkStoredKeys()
	}
	return nil
}

// checkStoredKeys refuses placeholders: only the keys themselves may be stored, because a site owner must not be able to read
// the gateway's files and environment.
func (m *Messenger) checkStoredKeys() error {
	keys := make([]*sigkey.Key, len(m.PublicKey))
	for i, k := range m.PublicKey {
		if _, ok := ParseReference(k.Key); ok {
			return fmt.Errorf("public_key number %d is a placeholder; a stored messenger holds the key itself", i+1)
		}
		var err error
		if keys[i], err = k.Parse([]byte(k.Key)); err != nil {
			return fmt.Errorf("public_key number %d %w", i+1, err)
		}
		if err = keys[i].CheckSmall(); err != nil {
			return fmt.Errorf("public_key number %d %w", i+1, err)
		}
	}
	if _, err := authn.NewKeySet(keys...); err != nil {
		return fmt.Errorf("public_key: %w", err)
	}
	return nil
}
