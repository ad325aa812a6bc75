package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// SealKeySize is the size of a key of the option store in bytes: AES-256.
const SealKeySize = 32

// sealedPrefix begins every sealed value and names its format. Behind it stand the key's identifier, a random nonce, and
// the ciphertext of AES-256-GCM. A value that is not sealed is JSON and begins with "{".
const sealedPrefix = "messenger-sealed-1\n"

// sealKeyIDSize is how much of the hash of a key tells it from others, in bytes. It is no part of what is trusted.
const sealKeyIDSize = 4

var (
	errUnsealed  = errors.New("the value is not sealed, and with a store key every value must be; if you have just set the first key, run caddy messenger reseal --adopt-unsealed once; otherwise restore the value, or delete it")
	errSealed    = errors.New("the value is sealed, and no store key is configured; add store { key {file.…} } to the global option messenger { … }")
	errNoSealKey = errors.New("the value is sealed with a key that is not configured; add that key to store { … }, behind the first")
	ErrDamaged   = errors.New("the value is damaged, or was made for another place")
)

// IsUnreadable reports whether err says that a value is there and cannot be trusted, and nothing about the storage itself.
func IsUnreadable(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, errUnsealed) || errors.Is(err, errSealed) || errors.Is(err, errNoSealKey) || errors.Is(err, ErrTooLarge)
}

// A sealer encrypts what is kept in the storage, and knows its place: a value that was moved to another place, cut,
// changed or written without the key does not open. Without keys it passes values through.
type sealer struct {
	keys []sealKey // the first seals, all open
}

type sealKey struct {
	id   []byte
	aead cipher.AEAD
}

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

func (s *sealer) Enabled() bool { return len(s.keys) > 0 }

// place is the additional data of a value: the storage key, and the format that the prefix names.
func place(storageKey string) []byte { return []byte(sealedPrefix + storageKey) }

// Seal returns what is stored at storageKey for value.
func (s *sealer) Seal(storageKey string, value []byte) []byte {
	if !s.Enabled() {
		return value
	}
	key := s.keys[0]
	sealed := append([]byte(sealedPrefix), key.id...)
	return key.aead.Seal(sealed, nil, value, place(storageKey))
}

// open returns the value that was sealed for storageKey.
func (s *sealer) open(storageKey string, stored []byte) ([]byte, error) {
	sealed, isSealed := bytes.CutPrefix(stored, []byte(sealedPrefix))
	switch {
	case !isSealed && s.Enabled():
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
		value, err := key.aead.Open(nil, nil, sealed[sealKeyIDSize:], place(storageKey))
		if err != nil {
			return nil, ErrDamaged
		}
		return value, nil
	}
	return nil, errNoSealKey
}

// current reports whether stored was sealed with the first key, or rightly not at all.
func (s *sealer) current(stored []byte) bool {
	sealed, isSealed := bytes.CutPrefix(stored, []byte(sealedPrefix))
	if !s.Enabled() {
		return !isSealed
	}
	return isSealed && bytes.HasPrefix(sealed, s.keys[0].id)
}
