package config

import (
	"fmt"
)

// KeyValues returns the values of the configuration that contain keys or placeholders for them.
func (m *Messenger) KeyValues() []string {
	switch {
	case m.IsGenerated():
		return nil
	case m.SharedToken != nil:
		return []string{m.SharedToken.Token}
	}
	values := make([]string, len(m.PublicKey))
	for i, k := range m.PublicKey {
		values[i] = k.Key
	}
	return values
}

// KeyPlace names the i-th key in an error: the placeholder, or its number if the configuration contains the key itself.
func (m *Messenger) KeyPlace(i int) string {
	value := m.KeyValues()[i]
	if _, ok := ParseReference(value); ok {
		return value
	}
	return fmt.Sprintf("number %d", i+1)
}
