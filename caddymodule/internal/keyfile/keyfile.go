// Package keyfile has the keys of one validation method that are in a configuration, or in the files and the environment that it
// names, and notices when such a file changes.
//
// It does not know what the keys are used for: the caller of [Load] says what is called when they change. Begin reading with [Load]
// and [Keys.Watch].
package keyfile

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

// Keys are the keys of a method, and what is needed to notice that a key file has changed.
type Keys struct {
	settings *config.Messenger // of a messenger with the method
	use      func(authn.Keys)  // makes new keys active
	logger   *zap.Logger
	files    config.LoadedFiles // while the configuration is loaded

	mu     sync.Mutex  // between the watchers of the files
	active []loadedKey // the keys in use, in the order of the configuration
	wanted []loadedKey // the same with the newest contents of the files, which cannot be used together yet
}

// A loadedKey is a key of the configuration.
type loadedKey struct {
	key    *sigkey.Key
	digest [sha256.Size]byte // of the text
	pipe   bool              // the text came from a pipe
}

// Load reads the keys of the method of settings for the first time. files has what was read for the same configuration. use is called
// with the keys, and again whenever they have changed.
func Load(settings *config.Messenger, files config.LoadedFiles, logger *zap.Logger, use func(authn.Keys)) (*Keys, error) {
	k := &Keys{settings: settings, use: use, logger: logger, files: files}
	defer func() { k.files = nil }() // they contain secrets
	values := settings.KeyValues()
	loaded := make([]loadedKey, len(values))
	for i, value := range values {
		found, err := k.read(value)
		if err != nil {
			return nil, err
		}
		if loaded[i], err = k.parse(i, found); err != nil {
			return nil, err
		}
	}
	keys, err := k.keySet(loaded)
	if err != nil {
		return nil, err
	}
	k.active, k.wanted = loaded, slices.Clone(loaded)
	use(keys)
	return k, nil
}

// read returns the text of a key. A public key may be in the configuration itself. A shared token may not, because everyone
// who can read the admin endpoint or a saved configuration could read it.
func (k *Keys) read(value string) (config.FileText, error) {
	ref, ok := config.ParseReference(value)
	switch {
	case ok:
		found, err := k.files.Read(ref)
		if err != nil {
			return found, fmt.Errorf("%s %s: %w", k.settings.Method(), value, err)
		}
		return found, nil
	case k.settings.SharedToken != nil:
		return config.FileText{}, config.ErrLiteralSecret
	}
	return config.FileText{Text: []byte(value), Whole: []byte(value)}, nil
}

// parse makes the i-th key from its text.
func (k *Keys) parse(i int, found config.FileText) (loadedKey, error) {
	loaded := loadedKey{digest: sha256.Sum256(found.Text), pipe: found.Pipe}
	var err error
	if k.settings.SharedToken != nil {
		loaded.key, err = k.settings.SharedToken.ParseKey(found.Text)
	} else {
		loaded.key, err = k.settings.PublicKey[i].Parse(found.Whole)
	}
	if err != nil {
		return loadedKey{}, fmt.Errorf("%s %s %w", k.settings.Method(), k.settings.KeyPlace(i), err)
	}
	if loaded.key.Note != "" {
		k.logger.Warn(loaded.key.Note, zap.String(k.settings.Method(), k.settings.KeyPlace(i)))
	}
	return loaded, nil
}

// keySet makes a key set from all loaded keys. It fails if they contradict each other, such as by using one kid twice.
func (k *Keys) keySet(loaded []loadedKey) (authn.Keys, error) {
	keys := make([]*sigkey.Key, len(loaded))
	for i := range loaded {
		keys[i] = loaded[i].key
	}
	set, err := authn.NewKeySet(keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.settings.Method(), err)
	}
	return set, nil
}
