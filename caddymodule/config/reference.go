package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrLiteralStoreKey is the error for a store key that is not a placeholder. It does not quote the value, which may be the key.
var ErrLiteralStoreKey = errors.New("store: a key must be exactly one placeholder {file./path} or {env.NAME} that holds 32 bytes in base64; " +
	"a secret must not be in the configuration ({$NAME} puts it there; write {env.NAME} instead)")

// maxKeyFile is the largest file that {file.…} may name in bytes; the limit of Caddy's own placeholder.
const maxKeyFile = 1 << 20

// A Reference is a placeholder {env.NAME} or {file.PATH} that is a whole value of the configuration.
type Reference struct {
	Kind string // "env" or "file"
	Name string
}

// ParseReference returns the reference that text consists of, and false if text is anything else.
func ParseReference(text string) (Reference, bool) {
	inner, opened := strings.CutPrefix(text, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	kind, name, found := strings.Cut(inner, ".")
	if !opened || !closed || !found || name == "" || strings.ContainsAny(inner, "{}") || kind != "env" && kind != "file" {
		return Reference{}, false
	}
	return Reference{Kind: kind, Name: name}, true
}

// ErrLiteralSecret does not quote the value, which may be the secret.
var ErrLiteralSecret = fmt.Errorf("shared_token %w", errLiteral)

var errLiteral = errors.New("must be exactly one placeholder {env.NAME} or {file./path}; " +
	"a secret must not be in the configuration, because everyone who can read it could sign tokens " +
	"({$NAME} puts the value into the configuration; write {env.NAME} instead)")

// Env returns the value of the environment variable.
func (r Reference) Env() ([]byte, error) {
	value := os.Getenv(r.Name)
	if value == "" {
		return nil, errors.New("the environment variable is not set or empty")
	}
	return []byte(value), nil
}

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
