package config

import (
	"fmt"
	"slices"
	"strings"
)

// Resolved returns m with the placeholders in its texts resolved, for a messenger of the configuration. Other code resolves those of
// keys and secrets, because their files are read again when they change.
//
// It must not be called for a stored messenger: a site owner could read the gateway's environment and files with it.
func (m *Messenger) Resolved(files LoadedFiles) (*Messenger, error) {
	resolved := m.CopySettings()
	for _, s := range Settings {
		resolve := typeOf(s.field(resolved)).resolve
		if resolve == nil {
			continue
		}
		if err := resolve(files); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return resolved, nil
}

// ResolveList is Resolve for each value of a list.
func (l LoadedFiles) ResolveList(values []string) ([]string, error) {
	resolved := slices.Clone(values)
	for i, value := range values {
		var err error
		if resolved[i], err = l.Resolve(value); err != nil {
			return nil, fmt.Errorf("value %d: %w", i+1, err)
		}
	}
	return resolved, nil
}

// hasPlaceholder reports whether text may have a placeholder. Such a text is checked after the placeholder is resolved, and not
// before.
func hasPlaceholder(text string) bool { return strings.Contains(text, "{") }

// withoutPlaceholders returns a copy of m for checks before placeholders are resolved. Texts with placeholders are removed from it, or
// replaced by valid ones.
func (m *Messenger) withoutPlaceholders() *Messenger {
	written := m.CopySettings()
	if hasPlaceholder(m.IdentityKey) {
		written.IdentityKey = "resolved"
	}
	if hasPlaceholder(m.TokenType) {
		written.TokenType = ""
	}
	if hasPlaceholder(m.IdentityPath) {
		written.IdentityPath = "/resolved"
	}
	if m.JWKS != nil {
		written.JWKS.Algorithms = slices.DeleteFunc(slices.Clone(m.JWKS.Algorithms), hasPlaceholder)
		if hasPlaceholder(m.JWKS.Discovery) || slices.ContainsFunc(m.Issuer, hasPlaceholder) {
			written.Issuer = nil
		}
	}
	if m.SharedToken != nil && hasPlaceholder(m.SharedToken.Alg) {
		written.SharedToken.Alg = ""
	}
	written.PublicKey = slices.Clone(m.PublicKey)
	for i := range written.PublicKey {
		if hasPlaceholder(written.PublicKey[i].Alg) {
			written.PublicKey[i].Alg = ""
		}
	}
	if m.Previous != nil {
		former := m.Previous.Settings().withoutPlaceholders()
		written.Previous.PublicKey, written.Previous.JWKS, written.Previous.SharedToken = former.PublicKey, former.JWKS, former.SharedToken
	}
	return written
}
