package registry

import (
	"path"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// maxRevocationText is how many bytes the revocations of one record may have, in addition to vault.MaxValue. Their number is
// limited as well; with usual identities and token IDs that limit is reached first.
const maxRevocationText = 4 << 20

// sizeLimit returns the largest size of a value at key.
func sizeLimit(key string) int64 {
	switch path.Base(key) {
	case KindStored, kindRing:
		return vault.MaxValue + maxRevocationText
	}
	return vault.MaxValue
}

// Check returns whether a record that was read from key, with size bytes and with this error, can be used. A record that
// passes cannot make a command, a page or a request fail half-way, even if an attacker wrote it.
func (r *Record) Check(key string, size int, err error) error {
	if err != nil {
		r.Revocations = nil // an incomplete list must not be used or counted
	}
	revocations := 0
	for i := range r.Revocations {
		v := &r.Revocations[i]
		if v.targets() != 1 || (v.Before == nil) != v.isToken() {
			err = vault.ErrDamaged // it is undefined what it revokes
		}
		revocations += v.size()
	}
	switch {
	case size-revocations > vault.MaxValue:
		return vault.ErrTooLarge
	case path.Base(key) == KindStored && r.Settings == nil:
		return vault.ErrDamaged
	}
	return err
}

// revocationOverhead is an upper bound for a revocation without its texts, in bytes: the names of all members, and four times.
const revocationOverhead = 256

// size returns an upper bound for the size of v in a record, in bytes.
func (v *Revocation) size() int {
	return revocationOverhead + jsonSize(string(v.TokenID)) + len(v.TokenHash.String()) + jsonSize(v.Contact) + jsonSize(v.Identity)
}

// sizeAtMost returns a coarser upper bound, without reading the texts.
func (v *Revocation) sizeAtMost() int {
	return revocationOverhead + len(`\u0000`)*(len(v.TokenID)+len(v.TokenHash.String())+len(v.Contact)+len(v.Identity))
}

// jsonSize returns an upper bound for the length of text in JSON, without the quotation marks.
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
