package caddymodule

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// keyFiles are the keys of a messenger that come from its configuration, with what is needed to see that a file behind
// them changed.
type keyFiles struct {
	current authn.Keys

	mu     sync.Mutex  // between the watchers of the files
	active []loadedKey // that current consists of, in the order of the configuration
	wanted []loadedKey // the same with what was found since, and cannot be used together yet
}

// A loadedKey is a key of the configuration.
type loadedKey struct {
	key    *authn.Key
	digest [sha256.Size]byte // of the text
	pipe   bool              // the text came from a pipe
}

// A reference is a placeholder {env.NAME} or {file.PATH} that is a whole value of the configuration.
type reference struct {
	kind string // "env" or "file"
	name string
}

// parseReference returns the reference that text consists of, and false if text is anything else.
func parseReference(text string) (reference, bool) {
	inner, opened := strings.CutPrefix(text, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	kind, name, found := strings.Cut(inner, ".")
	if !opened || !closed || !found || name == "" || strings.ContainsAny(inner, "{}") || kind != "env" && kind != "file" {
		return reference{}, false
	}
	return reference{kind: kind, name: name}, true
}

// env returns the value of the environment variable.
func (r reference) env() ([]byte, error) {
	value := os.Getenv(r.name)
	if value == "" {
		return nil, errors.New("the environment variable is not set or empty")
	}
	return []byte(value), nil
}

// readArgument reads a file that an argument of a command names.
func readArgument(name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandFileWait)
	defer cancel()
	found, err := processFiles.get(ctx, name, true)
	return found.text, err
}

// loadKeys reads the keys for the first time and makes the messenger's verifier.
func (m *messenger) loadKeys() error {
	values := m.keyValues()
	loaded := make([]loadedKey, len(values))
	for i, value := range values {
		found, err := m.readKey(value)
		if err != nil {
			return err
		}
		if loaded[i], err = m.parseKey(i, found); err != nil {
			return err
		}
	}
	keys, err := m.keySet(loaded)
	if err != nil {
		return err
	}
	m.keys.current, m.keys.active, m.keys.wanted = keys, loaded, slices.Clone(loaded)
	m.trust(keys)
	return nil
}

// keyValues are the values of the configuration that hold or name keys.
func (m *Messenger) keyValues() []string {
	switch {
	case m.isGenerated():
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

// readKey returns the text of a key. A public key may stand in the configuration itself; a shared token may not, because
// the configuration can be read by everyone who can read the admin endpoint or a saved config.
func (m *messenger) readKey(value string) (fileText, error) {
	ref, ok := parseReference(value)
	switch {
	case ok:
		found, err := m.files.read(ref)
		if err != nil {
			return found, fmt.Errorf("%s %s: %w", m.method(), value, err)
		}
		return found, nil
	case m.SharedToken != nil:
		return fileText{}, errLiteralSecret
	}
	return fileText{text: []byte(value)}, nil
}

// errLiteralSecret does not quote the value, which may be the secret.
var errLiteralSecret = errors.New("shared_token must be exactly one placeholder {env.NAME} or {file./path}; " +
	"a secret does not belong into the configuration, where everyone who can read that can sign tokens " +
	"(was {$NAME} written? It puts the value into the configuration before it is read: write {env.NAME})")

// parseKey makes the i-th key of its text.
func (m *messenger) parseKey(i int, found fileText) (loadedKey, error) {
	loaded := loadedKey{digest: sha256.Sum256(found.text), pipe: found.pipe}
	var err error
	if m.SharedToken != nil {
		loaded.key, err = m.SharedToken.parse(found.text)
	} else {
		loaded.key, err = authn.ParsePublicKey(found.text, m.PublicKey[i].KeyID)
	}
	if err != nil {
		return loadedKey{}, fmt.Errorf("%s %s %w", m.method(), m.keyPlace(i), err)
	}
	return loaded, nil
}

func (m *messenger) keySet(loaded []loadedKey) (authn.Keys, error) {
	keys := make([]*authn.Key, len(loaded))
	for i := range loaded {
		keys[i] = loaded[i].key
	}
	set, err := authn.NewKeySet(keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.method(), err)
	}
	return set, nil
}

func (t *SharedToken) parse(text []byte) (*authn.Key, error) {
	secret, err := t.Encoding.Decode(string(text))
	if err != nil {
		return nil, err
	}
	return authn.ParseSharedToken(secret, "")
}

// keyPlace names the i-th key in an error: the placeholder, or its number where the key itself stands.
func (m *Messenger) keyPlace(i int) string {
	value := m.keyValues()[i]
	if _, ok := parseReference(value); ok {
		return value
	}
	return fmt.Sprintf("number %d", i+1)
}
