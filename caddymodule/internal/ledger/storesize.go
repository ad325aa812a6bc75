package ledger

import "unicode/utf8"

// maxRevocationText is how many bytes the active revocations of one messenger may have. Their number is limited as well; with
// usual identities and token IDs that limit is reached first.
const maxRevocationText = 4 << 20

// revocationOverhead is an upper bound for a revocation without its texts, in bytes: the names of all members, and four times.
const revocationOverhead = 256

// size returns an upper bound for the size of v in a batch, in bytes.
func (v *Revocation) size() int {
	return revocationOverhead + jsonSize(string(v.TokenID)) + len(v.TokenHash.String()) + jsonSize(v.Contact) + jsonSize(v.Identity)
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
