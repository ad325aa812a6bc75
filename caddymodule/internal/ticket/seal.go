package ticket

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// The text of a ticket is, in base64url: the beginning of a hash of the key, the random name of the ticket, a nonce, and the
// ciphertext of AES-256-GCM. Every ticket has an AES key of its own, derived from the ticket's name, because random nonces of 96 bits
// under one key would limit the number of tickets of a store key.

const (
	keyIDSize = 4

	// maxText is the length of the longest text that is decoded: of a ticket with the longest token, of 8 KiB, and the longest path and name.
	maxText = 16 << 10

	// purpose is authenticated with each ticket, and makes the keys different from all others that are derived from a store key.
	purpose = "messenger ticket 1"
)

// A key seals tickets.
type key struct {
	id           [keyIDSize]byte
	inner, outer [sha256.BlockSize]byte // HMAC begins with these blocks, which are the same for all tickets
}

func newKey(storeKey []byte) (key, error) {
	secret, err := hkdf.Key(sha256.New, storeKey, nil, purpose, sha256.Size)
	if err != nil {
		return key{}, err
	}
	sum := sha256.Sum256(append([]byte(purpose+" id\x00"), secret...))
	k := key{id: [keyIDSize]byte(sum[:keyIDSize])}
	copy(k.inner[:], secret)
	k.outer = k.inner
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k, nil
}

// mac is HMAC-SHA256 (RFC 2104) of the name of a ticket. crypto/hmac would allocate more than all the rest of opening a ticket.
func (k *key) mac(id [idSize]byte) [sha256.Size]byte {
	inner := sha256.Sum256(append(append(make([]byte, 0, sha256.BlockSize+idSize), k.inner[:]...), id[:]...))
	return sha256.Sum256(append(append(make([]byte, 0, sha256.BlockSize+sha256.Size), k.outer[:]...), inner[:]...))
}

// of returns the cipher of one ticket.
func (k *key) of(id [idSize]byte) (cipher.AEAD, error) {
	secret := k.mac(id)
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal returns the text of a ticket. The messenger's name and the path have their lengths before them, and the token is the rest.
func (k *key) seal(t *Ticket) (string, error) {
	aead, err := k.of(t.id)
	if err != nil {
		return "", err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(t.Expires.UnixMilli()))
	plain = append(binary.BigEndian.AppendUint16(plain, uint16(len(t.Messenger))), t.Messenger...)
	plain = append(binary.BigEndian.AppendUint16(plain, uint16(len(t.Path))), t.Path...)
	plain = append(plain, t.Token...)
	sealed := append(append([]byte(nil), k.id[:]...), t.id[:]...)
	return base64.RawURLEncoding.EncodeToString(aead.Seal(sealed, nil, plain, []byte(purpose))), nil //nolint:gosec // G407: the constant is additional data; the nonce is random
}

func (k *key) open(text string) (*Ticket, error) {
	if len(text) > maxText || strings.ContainsAny(text, "\r\n") { // the decoder skips line breaks, and no two texts may be one ticket
		return nil, errInvalid
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sealed) < keyIDSize+idSize {
		return nil, errInvalid
	}
	if [keyIDSize]byte(sealed) != k.id {
		return nil, ErrOtherKey
	}
	t := &Ticket{id: [idSize]byte(sealed[keyIDSize:])}
	aead, err := k.of(t.id)
	if err != nil {
		return nil, err
	}
	sealed = sealed[keyIDSize+idSize:]
	plain, err := aead.Open(sealed[:0], nil, sealed, []byte(purpose)) // in place: forged ones cost little memory
	if err != nil || len(plain) < 8 {
		return nil, errInvalid
	}
	t.Expires = time.UnixMilli(int64(binary.BigEndian.Uint64(plain)))
	var ok bool
	var rest []byte
	if t.Messenger, rest, ok = cutText(plain[8:]); !ok {
		return nil, errInvalid
	}
	if t.Path, rest, ok = cutText(rest); !ok {
		return nil, errInvalid
	}
	t.Token = string(rest)
	return t, nil
}

// cutText cuts off a text with its length before it.
func cutText(b []byte) (text string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}
