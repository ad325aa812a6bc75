package authn

import (
	"context"
	"crypto/sha256"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// maxKept is the largest contact that a cache keeps, in bytes of text: tokens of a site that asks for large claims are
// verified every time, rather than filling the memory.
const maxKept = 4 << 10

// A Cache remembers the contacts of verified tokens, so that a token that was seen before costs a hash instead of a
// signature. It holds good news only, bounded by number; refusals are found anew every time. A nil Cache remembers
// nothing. It is safe for concurrent use.
//
// What a hit answers is what the verifier would answer at that instant. Entries are never removed when they stop being
// true, because then a removal that comes too late would let someone in: each use checks the entry against the clock and
// the keys. The library's part is to choose what is forgotten for lack of room. It must resist scans: whoever sends
// many tokens once must not push out those that are in use.
type Cache struct {
	entries atomic.Pointer[otter.Cache[cacheKey, *Contact]] // nil if it is off
	stats   *stats.Counter
	stale   atomic.Uint64 // entries that were found and no longer hold
}

// A cacheKey holds no text of the token, and the hash of the whole of it, so that two texts never share an entry.
type cacheKey struct {
	token    [sha256.Size]byte
	verifier uint64 // its generation: another policy or other keys are another verifier
	question uint64
}

// CacheStats count what a [Cache] did since it was made.
type CacheStats struct {
	Hits, Misses, Evictions uint64
	Entries                 int
}

// NewCache returns a cache for so many contacts; 0 is none.
func NewCache(size int) *Cache {
	c := &Cache{stats: stats.NewCounter()}
	c.Resize(size)
	return c
}

// Resize changes how many contacts c keeps. 0 switches it off and forgets all.
func (c *Cache) Resize(size int) {
	entries := c.entries.Load()
	switch {
	case size <= 0:
		c.entries.Store(nil)
	case entries != nil:
		entries.SetMaximum(uint64(size))
	default:
		c.entries.Store(otter.Must(&otter.Options[cacheKey, *Contact]{
			MaximumSize:   size,
			StatsRecorder: c.stats,
			Executor:      func(evict func()) { evict() }, // cheaper than a goroutine for each time
		}))
	}
}

// Stats returns the counts of c.
func (c *Cache) Stats() CacheStats {
	counts, stale := c.stats.Snapshot(), c.stale.Load()
	s := CacheStats{Hits: counts.Hits - min(stale, counts.Hits), Misses: counts.Misses + stale, Evictions: counts.Evictions}
	if entries := c.entries.Load(); entries != nil {
		s.Entries = entries.EstimatedSize()
	}
	return s
}

// A Question names the claims that a caller wants to know beside the identity.
type Question struct {
	claims []string
	number uint64 // tells questions apart in the cache
}

var questionSeed = maphash.MakeSeed()

// NewQuestion returns the question for these claims. It is to be made once, not for every token.
func NewQuestion(claims []string) *Question {
	var h maphash.Hash
	h.SetSeed(questionSeed)
	for _, claim := range claims {
		maphash.WriteComparable(&h, claim)
	}
	return &Question{claims: slices.Clone(claims), number: h.Sum64()}
}

// Verify is what v would answer to text, from memory where that is still true. Before v is asked, admit may refuse to
// spend a verification on the text; it may be nil. known reports whether the token was seen before.
func (c *Cache) Verify(ctx context.Context, v *Verifier, text string, q *Question, admit func() *Rejection) (contact *Contact, known bool, rej *Rejection) {
	var entries *otter.Cache[cacheKey, *Contact]
	if c != nil && len(text) <= maxToken {
		entries = c.entries.Load()
	}
	var key cacheKey
	if entries != nil {
		key = cacheKey{token: sha256.Sum256(bytesOf(text)), verifier: v.generation, question: q.number}
		if contact, known = entries.GetIfPresent(key); known {
			if contact.answers(q) && contact.standsAt(time.Now(), v) {
				if rej := v.policy.Revoked.check(contact); rej != nil {
					return nil, true, rej
				}
				return contact, true, nil
			}
			c.stale.Add(1)
		}
	}
	if admit != nil {
		if rej := admit(); rej != nil {
			return nil, false, rej
		}
	}
	if contact, rej = v.verify(ctx, text, q.claims, nil); rej != nil {
		return nil, false, rej
	}
	if entries != nil && contact.size() <= maxKept {
		contact.question = q
		entries.Set(key, contact)
	}
	return contact, false, nil
}

// bytesOf returns the bytes of text, which nobody may change, without a copy: that would be a third of what a hit costs.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }

// Fingerprint is the beginning of the SHA-256 of a token, by which it can be told from others and not be found out.
func Fingerprint(token string) [4]byte {
	sum := sha256.Sum256(bytesOf(token))
	return [4]byte(sum[:4])
}

// answers reports whether c was made for the claims of q. Its key in the cache says so already, but for a collision.
func (c *Contact) answers(q *Question) bool {
	return c.question == q || c.question != nil && slices.Equal(c.question.claims, q.claims)
}

// standsAt reports whether v would accept the token of c at this instant. Its form, signature and claims are what they
// were. Its times may have come, or gone: a clock can also be set back. The key may have ended, which Until knows. And
// the key set may have been replaced, or have become too old to be trusted.
func (c *Contact) standsAt(now time.Time, v *Verifier) bool {
	if now.Before(c.since) || !c.Until.IsZero() && !now.Before(c.Until) {
		return false
	}
	version, usable := v.keys.standing(now)
	return usable && version == c.version
}

// size is how much text c holds.
func (c *Contact) size() int {
	size := len(c.Identity) + len(c.TokenID)
	for _, claim := range c.Claims {
		size += len(claim.Text)
	}
	return size
}
