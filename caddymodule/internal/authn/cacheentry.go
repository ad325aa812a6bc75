package authn

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// What a cache keeps of a contact is a text: the name of the entry, the place of the contact's key in the key set, the
// version of that set, four times, the lengths of identity, hash of the jti and claims, and these themselves.

// appendTo appends what a cache keeps of c to entry. It returns nil if the keys have changed since c was verified.
func (c *Contact) appendTo(entry []byte, key *cacheKey, v *Verifier) []byte {
	set, version := v.keys.current(time.Now())
	if set == nil || version != c.version {
		return nil
	}
	place := slices.Index(set.keys, c.SignedBy)
	if place < 0 {
		return nil
	}
	name := key.name()
	entry = append(entry, name[:]...)
	entry = binary.AppendUvarint(entry, uint64(place))
	entry = binary.AppendUvarint(entry, version)
	for _, t := range [...]time.Time{c.since, c.Until, c.Issued, c.Expires} {
		entry = binary.LittleEndian.AppendUint64(entry, uint64(t.Unix()))
		entry = binary.LittleEndian.AppendUint32(entry, uint32(t.Nanosecond()))
	}
	entry = binary.AppendUvarint(entry, uint64(len(c.Identity)))
	entry = binary.AppendUvarint(entry, uint64(len(c.TokenID)))
	for _, claim := range c.Claims {
		length := uint64(0)
		if claim.Present {
			length = uint64(len(claim.Text)) + 1
		}
		entry = binary.AppendUvarint(entry, length)
	}
	entry = append(entry, c.Identity...)
	entry = append(entry, c.TokenID...)
	for _, claim := range c.Claims {
		entry = append(entry, claim.Text...)
	}
	return entry
}

// recall returns the contact of an entry, or nil if that is not the one of key or v would not accept its token at this
// instant. The token's form, signature and claims are what they were. Its times may have come, or gone: a clock can also be
// set back. The key may have ended, which Until knows. And the key set may have been replaced, or have become too old to be
// trusted.
func recall(entry []byte, key *cacheKey, now time.Time, v *Verifier, q *ClaimSelection) *Contact {
	if name := key.name(); !bytes.HasPrefix(entry, name[:]) {
		return nil
	}
	set, version := v.keys.current(now)
	r := entryReader(entry[nameSize:])
	place := r.uvarint()
	if set == nil || r.uvarint() != version {
		return nil
	}
	c := &Contact{since: r.time(), Until: r.time(), Issued: r.time(), Expires: r.time(), version: version}
	if !c.inTime(now) {
		return nil
	}
	c.SignedBy = set.keys[place]
	identity, tokenID := r.uvarint(), r.uvarint()
	lengths := r
	for range q.claims {
		r.uvarint()
	}
	texts := string(r)
	c.Identity, texts = texts[:identity], texts[identity:]
	c.TokenID, texts = TokenID(texts[:tokenID]), texts[tokenID:]
	if len(q.claims) > 0 {
		c.Claims = make([]Claim, len(q.claims))
	}
	for i := range c.Claims {
		if length := lengths.uvarint(); length > 0 {
			c.Claims[i], texts = Claim{Text: texts[:length-1], Present: true}, texts[length-1:]
		}
	}
	return c
}

// inTime reports whether now is between the first and the last instant of the token and its key.
func (c *Contact) inTime(now time.Time) bool {
	return !now.Before(c.since) && (c.Until.IsZero() || now.Before(c.Until))
}

// An entryReader is the rest of an entry.
type entryReader []byte

func (r *entryReader) uvarint() uint64 {
	n, size := binary.Uvarint(*r)
	*r = (*r)[size:]
	return n
}

func (r *entryReader) time() time.Time {
	seconds, fraction := binary.LittleEndian.Uint64(*r), binary.LittleEndian.Uint32((*r)[8:])
	*r = (*r)[12:]
	return time.Unix(int64(seconds), int64(fraction))
}
