package registry

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// keyFiles has the keys of a messenger that come from its configuration, and what is needed to notice that a key file has
// changed.
type keyFiles struct {
	current authn.Keys

	mu     sync.Mutex  // between the watchers of the files
	active []loadedKey // the keys in current, in the order of the configuration
	wanted []loadedKey // the same with the newest contents of the files, which cannot be used together yet
}

// A loadedKey is a key of the configuration.
type loadedKey struct {
	key    *sigkey.Key
	digest [sha256.Size]byte // of the text
	pipe   bool              // the text came from a pipe
}

// loadKeys reads the keys for the first time and makes the messenger's verifier.
func (m *Messenger) loadKeys() error {
	values := m.KeyValues()
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

// readKey returns the text of a key. A public key may be in the configuration itself. A shared token may not, because everyone
// who can read the admin endpoint or a saved configuration could read it.
func (m *Messenger) readKey(value string) (config.FileText, error) {
	ref, ok := config.ParseReference(value)
	switch {
	case ok:
		found, err := m.files.Read(ref)
		if err != nil {
			return found, fmt.Errorf("%s %s: %w", m.Method(), value, err)
		}
		return found, nil
	case m.SharedToken != nil:
		return config.FileText{}, config.ErrLiteralSecret
	}
	return config.FileText{Text: []byte(value), Whole: []byte(value)}, nil
}

// parseKey makes the i-th key from its text.
func (m *Messenger) parseKey(i int, found config.FileText) (loadedKey, error) {
	loaded := loadedKey{digest: sha256.Sum256(found.Text), pipe: found.Pipe}
	var err error
	if m.SharedToken != nil {
		loaded.key, err = m.SharedToken.ParseKey(found.Text)
	} else {
		loaded.key, err = m.PublicKey[i].Parse(found.Whole)
	}
	if err != nil {
		return loadedKey{}, fmt.Errorf("%s %s %w", m.Method(), m.KeyPlace(i), err)
	}
	if loaded.key.Note != "" {
		m.logger.Warn(loaded.key.Note, zap.String(m.Method(), m.KeyPlace(i)))
	}
	return loaded, nil
}

// keySet makes a key set from all loaded keys. It fails if they contradict each other, such as by using one kid twice.
func (m *Messenger) keySet(loaded []loadedKey) (authn.Keys, error) {
	keys := make([]*sigkey.Key, len(loaded))
	for i := range loaded {
		keys[i] = loaded[i].key
	}
	set, err := authn.NewKeySet(keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Method(), err)
	}
	return set, nil
}
