package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// SealKeySize is the size of a key of the option store in bytes: AES-256.
const SealKeySize = 32

// sealedPrefix begins every sealed value and names its format. It is followed by the key's identifier, a random nonce, and the
// ciphertext of AES-256-GCM. A batch that is not sealed is JSON and begins with "{".
const sealedPrefix = "messenger-sealed-1\n"

// sealKeyIDSize is how many bytes of the hash of a key identify it. The identifier only selects a key; it is not trusted.
const sealKeyIDSize = 4

var (
	errUnsealed  = errors.New("the value is not sealed, and with a store key every value must be; if you have just set the first key, run caddy messenger reseal --adopt-unsealed once; otherwise restore the value, or delete it")
	errSealed    = errors.New("the value is sealed, and no store key is configured; add store { key {file.…} } to the global option messenger { … }")
	errNoSealKey = errors.New("the value is sealed with a key that is not configured; add that key to store { … }, behind the first")

	// ErrDamaged is the error for a value that is not what the gateway has written at this key.
	ErrDamaged = errors.New("the value is damaged, or belongs to another key of the storage")
)

// IsUnreadable reports whether err means that a value exists but cannot be trusted. Other errors are about the storage itself.
func IsUnreadable(err error) bool {
	return slices.ContainsFunc(Unreadable(), func(known error) bool { return errors.Is(err, known) })
}

// IsOfOneValue reports whether err says nothing about other values: this one cannot be trusted, or a file system refuses it.
func IsOfOneValue(err error) bool { return IsUnreadable(err) || isRefused(err) }

// IsSpoiled reports whether err means that a value is there and no node can read it. One that is sealed with another key is different.
func IsSpoiled(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrTooLarge) || isRefused(err)
}

// isRefused reports whether a file system refuses one file: by its permissions, or because something else is in its place.
func isRefused(err error) bool {
	refusals := []error{fs.ErrPermission, fs.ErrExist, syscall.EISDIR, syscall.ENOTDIR, syscall.ELOOP, syscall.EIO}
	return slices.ContainsFunc(refusals, func(known error) bool { return errors.Is(err, known) })
}

// A sealer encrypts values for the storage, and authenticates them together with their storage key: a value that was moved to
// another key, truncated, changed or written without a seal key does not open. Without seal keys it passes values through.
type sealer struct {
	keys []sealKey // the first one seals, each of them opens
}

// A sealKey is a key of the option store.
type sealKey struct {
	id   []byte
	aead cipher.AEAD
}

// NewSealer makes a sealer that seals with the first of the keys, and opens with any of them.
func NewSealer(keys [][]byte) (*sealer, error) {
	s := new(sealer)
	for i, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil || len(key) != SealKeySize {
			return nil, fmt.Errorf("key number %d has %d bytes instead of %d; make one with: openssl rand -base64 32", i+1, len(key), SealKeySize)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(append([]byte("messenger store key\x00"), key...))
		for _, other := range s.keys {
			if bytes.Equal(other.id, id[:sealKeyIDSize]) {
				return nil, fmt.Errorf("key number %d is there twice; remove one", i+1)
			}
		}
		s.keys = append(s.keys, sealKey{id: id[:sealKeyIDSize], aead: aead})
	}
	return s, nil
}

// ParseSealKey reads the text of a key of the option store. Errors never quote it.
func ParseSealKey(text []byte) ([]byte, error) {
	clean := strings.TrimRight(strings.TrimSpace(string(text)), "=")
	clean = strings.NewReplacer("-", "+", "_", "/").Replace(clean)
	key, err := base64.RawStdEncoding.DecodeString(clean)
	if err != nil {
		return nil, errors.New("is not base64; make a key with: openssl rand -base64 32")
	}
	if len(key) != SealKeySize {
		return nil, fmt.Errorf("has %d bytes instead of %d; make a key with: openssl rand -base64 32", len(key), SealKeySize)
	}
	return key, nil
}

// Enabled reports whether there is a key.
func (s *sealer) Enabled() bool { return len(s.keys) > 0 }

// additionalData returns what is authenticated with a value: the storage key, and the format that the prefix names.
func additionalData(storageKey string) []byte { return []byte(sealedPrefix + storageKey) }

// Seal returns what is stored at storageKey for value.
func (s *sealer) Seal(storageKey string, value []byte) []byte {
	if !s.Enabled() {
		return value
	}
	key := s.keys[0]
	sealed := append([]byte(sealedPrefix), key.id...)
	return key.aead.Seal(sealed, nil, value, additionalData(storageKey))
}

// Open returns the value that was sealed for storageKey.
func (s *sealer) Open(storageKey string, stored []byte) ([]byte, error) {
	sealed, isSealed := bytes.CutPrefix(stored, []byte(sealedPrefix))
	switch {
	case !isSealed && s.Enabled():
		if _, isBatch := ParseKey(storageKey); isBatch && !bytes.HasPrefix(stored, []byte("{")) {
			return nil, ErrDamaged // it was cut off
		}
		return nil, errUnsealed
	case !isSealed:
		return stored, nil
	case !s.Enabled():
		return nil, errSealed
	case len(sealed) < sealKeyIDSize:
		return nil, ErrDamaged
	}
	for _, key := range s.keys {
		if !bytes.Equal(key.id, sealed[:sealKeyIDSize]) {
			continue
		}
		value, err := key.aead.Open(nil, nil, sealed[sealKeyIDSize:], additionalData(storageKey))
		if err != nil {
			return nil, ErrDamaged
		}
		return value, nil
	}
	return nil, errNoSealKey
}

// current reports whether stored is sealed with the first key, or not sealed if there is no key.
func (s *sealer) current(stored []byte) bool {
	sealed, isSealed := bytes.CutPrefix(stored, []byte(sealedPrefix))
	if !s.Enabled() {
		return !isSealed
	}
	return isSealed && bytes.HasPrefix(sealed, s.keys[0].id)
}

// Unreadable returns the errors for which IsUnreadable reports true.
func Unreadable() []error {
	return []error{ErrDamaged, errUnsealed, errSealed, errNoSealKey, ErrTooLarge, ErrNewer}
}
