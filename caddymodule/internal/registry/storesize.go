package registry

import (
	"path"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// maxRevocationText is what the revocations of one record may take beside that, in bytes. They are bounded by number
// as well; with usual identities and token ids the number is reached first.
const maxRevocationText = 4 << 20

// sizeLimit is the largest size of what is stored at key.
func sizeLimit(key string) int64 {
	switch path.Base(key) {
	case KindStored, kindRing:
		return vault.MaxValue + maxRevocationText
	}
	return vault.MaxValue
}

// Check judges a record that was read from key, with size bytes and with that error. Nothing that it lets pass makes a
// command, a page or a request fail half-way, whoever wrote it.
func (r *Record) Check(key string, size int, err error) error {
	if err != nil {
		r.Revocations = nil // half of them account for nothing
	}
	revocations := 0
	for i := range r.Revocations {
		v := &r.Revocations[i]
		if v.targets() != 1 || (v.Before == nil) != v.isToken() {
			err = vault.ErrDamaged // nobody can say what it revokes
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

// revocationOverhead is more than a revocation takes beside its texts, in bytes: the names of all members, and four times.
const revocationOverhead = 256

// size is what v takes in a record at most, in bytes.
func (v *Revocation) size() int {
	return revocationOverhead + jsonSize(string(v.TokenID)) + len(v.TokenHash.String()) + jsonSize(v.Contact) + jsonSize(v.Identity)
}

// sizeAtMost is no less than size, and takes no look at the texts.
func (v *Revocation) sizeAtMost() int {
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
