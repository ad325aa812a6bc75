package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"unicode/utf8"

	"github.com/caddyserver/certmagic"
)

// How large a value of the store may be. A value is measured before it is read: whoever can write to the storage must not
// choose how much memory the gateway takes.

const (
	// maxValue is the largest value in bytes; of a record without its revocations.
	maxValue = 1 << 20

	// maxRevocationText is what the revocations of one record may take beside that, in bytes. They are bounded by number
	// as well; with usual identities and token ids the number is reached first.
	maxRevocationText = 4 << 20
)

var errTooLarge = errors.New("the value is larger than any that the gateway writes, and is not read; restore it from a backup, or delete it")

// sizeLimit is the largest size of what is stored at key.
func sizeLimit(key string) int64 {
	switch path.Base(key) {
	case kindStored, kindRing:
		return maxValue + maxRevocationText
	}
	return maxValue
}

// fetch reads what is stored at key, if it has no more than limit bytes. It answers fs.ErrNotExist only if the storage can be
// reached: there is one that says so of every key when it cannot (caddy-storage-redis 1.8.1), and a ring that is not there would
// become active, or be replaced by a new one, although it is only out of reach. Asking for what lies below key tells the two
// apart.
func fetch(ctx context.Context, s certmagic.Storage, key string, limit int64) ([]byte, error) {
	// A storage that cannot say how large a value is fails at reading it, too.
	if info, err := s.Stat(ctx, key); err == nil && info.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes: %w", key, info.Size, errTooLarge)
	}
	stored, err := s.Load(ctx, key)
	if int64(len(stored)) > limit {
		return nil, fmt.Errorf("%s has %d bytes: %w", key, len(stored), errTooLarge)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, reached := s.List(ctx, key, false); reached != nil && !errors.Is(reached, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s cannot be read: %w", key, reached)
		}
	}
	return stored, err
}

// Check judges a record that was read from key, with size bytes and with that error. Nothing that it lets pass makes a
// command, a page or a request fail half-way, whoever wrote it.
func (r *record) Check(key string, size int, err error) error {
	if err != nil {
		r.Revocations = nil // half of them account for nothing
	}
	revocations := 0
	for i := range r.Revocations {
		v := &r.Revocations[i]
		if v.targets() != 1 || (v.Before == nil) != v.isToken() {
			err = errDamaged // nobody can say what it revokes
		}
		revocations += v.size()
	}
	switch {
	case size-revocations > maxValue:
		return errTooLarge
	case path.Base(key) == kindStored && r.Settings == nil:
		return errDamaged
	}
	return err
}

// revocationOverhead is more than a revocation takes beside its texts, in bytes: the names of all members, and four times.
const revocationOverhead = 256

// size is what v takes in a record at most, in bytes.
func (v *revocation) size() int {
	return revocationOverhead + jsonSize(string(v.TokenID)) + len(v.TokenHash.String()) + jsonSize(v.Contact) + jsonSize(v.Identity)
}

// sizeAtMost is no less than size, and takes no look at the texts.
func (v *revocation) sizeAtMost() int {
	return revocationOverhead + len(`\u0000`)*(len(v.TokenID)+len(v.TokenHash.String())+len(v.Contact)+len(v.Identity))
}

// jsonSize is the length of text in JSON at most, without the quotation marks.
func jsonSize(text string) int {
	size := 0
	for _, c := range text {
		switch {
		case c < 0x20, c == '<', c == '>', c == '&', c == utf8.RuneError, c == '\u2028', c == '\u2029':
			size += len(`\u0000`)
		case c == '"', c == '\\':
			size += 2
		default:
			size += utf8.RuneLen(c)
		}
	}
	return size
}
