package authn

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// An entry is one run of bytes, so that the garbage collector does not follow pointers. It has, in this order: the name of the entry;
// the index of the contact's key in the key set; the version of that set; four times; the lengths of the identity, the token ID, the
// information and the claims; and their texts. appendTo and recall have to agree on this order.

// appendTo appends the entry of c to entry. It returns nil if the keys have changed since c was verified: the index would then point
// into another set.
func (c *Contact) appendTo(entry []byte, key *cacheKey, v *Verifier) []byte {
	set, version := v.keys.current(time.Now())
	if set == nil || version != c.version {
		return nil
	}
	index := slices.Index(set.keys, c.SignedBy)
	if index < 0 {
		return nil
	}
	name := key.name()
	entry = append(entry, name[:]...)
	entry = binary.AppendUvarint(entry, uint64(index))
	entry = binary.AppendUvarint(entry, version)
	for _, t := range [...]time.Time{c.since, c.Until, c.Issued, c.Expires} {
		entry = binary.LittleEndian.AppendUint64(entry, uint64(t.Unix()))
		entry = binary.LittleEndian.AppendUint32(entry, uint32(t.Nanosecond()))
	}
	entry = binary.AppendUvarint(entry, uint64(len(c.Identity)))
	entry = binary.AppendUvarint(entry, uint64(len(c.TokenID)))
	entry = binary.AppendUvarint(entry, uint64(len(c.Information)))
	for _, claim := range c.Claims {
		length := uint64(0)
		if claim.Present {
			length = uint64(len(claim.Text)) + 1
		}
		entry = binary.AppendUvarint(entry, length)
	}
	entry = append(entry, c.Identity...)
	entry = append(entry, c.TokenID...)
	entry = append(entry, c.Information...)
	for _, claim := range c.Claims {
		entry = append(entry, claim.Text...)
	}
	return entry
}

// recall returns the contact of an entry, or nil if it is not the entry of key, or if v would not accept its token at this
// instant. The token's form, signature and claims have not changed since. recall checks what may have changed: the clock may have
// passed the end of the token or of its key, or may be set back before their beginning; the key set may be replaced, or too old to
// be trusted. The caller checks the revocations.
func recall(entry []byte, key *cacheKey, now time.Time, v *Verifier, selection *ClaimSelection) *Contact {
	if name := key.name(); !bytes.HasPrefix(entry, name[:]) {
		return nil
	}
	set, version := v.keys.current(now)
	r := entryReader(entry[nameSize:])
	index := r.uvarint()
	if set == nil || r.uvarint() != version {
		return nil
	}
	c := &Contact{since: r.time(), Until: r.time(), Issued: r.time(), Expires: r.time(), version: version}
	if !c.inTime(now) {
		return nil
	}
	c.SignedBy = set.keys[index]
	identity, tokenID, information := r.uvarint(), r.uvarint(), r.uvarint()
	lengths := r
	for range selection.members {
		r.uvarint()
	}
	texts := string(r)
	c.Identity, texts = texts[:identity], texts[identity:]
	c.TokenID, texts = TokenID(texts[:tokenID]), texts[tokenID:]
	c.Information, texts = texts[:information], texts[information:]
	if len(selection.members) > 0 {
		c.Claims = make([]Claim, len(selection.members))
	}
	for i := range c.Claims {
		if length := lengths.uvarint(); length > 0 {
			c.Claims[i], texts = Claim{Text: texts[:length-1], Present: true}, texts[length-1:]
		}
	}
	return c
}

// inTime reports whether the token and its key are valid at the instant now.
func (c *Contact) inTime(now time.Time) bool {
	return !now.Before(c.since) && (c.Until.IsZero() || now.Before(c.Until))
}

// An entryReader is the part of an entry that is not read yet.
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
