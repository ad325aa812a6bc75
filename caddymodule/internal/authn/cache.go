package authn

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/bytecache"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// maxEntry is the largest entry of a cache in bytes. Tokens of a site that asks for larger claims are verified every time,
// instead of filling the memory.
const maxEntry = 4 << 10

// A Cache remembers the contacts of verified tokens, so that a token that was seen before costs a hash instead of a
// signature. It remembers only what was accepted, bounded in number and in bytes. Every refusal is decided again: an
// attacker can make any number of invalid tokens. A nil Cache remembers nothing. It is safe for concurrent use.
//
// A hit is what the verifier would answer at that instant. No entry is removed when a key is replaced, a token expires or is
// revoked: a removal that comes too late would let someone in. Each use checks the entry against the clock, the keys and the
// revocations instead.
type Cache struct {
	entries atomic.Pointer[bytecache.Cache] // nil if it is off
	stale   atomic.Uint64                   // entries that were found and are no longer valid

	mu     sync.Mutex // serializes Resize
	size   int
	before bytecache.Stats // of the entries before a Resize
}

// NewCache returns a cache for this number of contacts, with 640 bytes for each of them; 0 switches it off. Contacts with
// larger claims leave room for fewer.
func NewCache(size int) *Cache {
	c := new(Cache)
	c.Resize(size)
	return c
}

// Resize changes how many contacts c remembers. 0 switches it off. If the number changes, c forgets all contacts, and every
// token is verified once more.
func (c *Cache) Resize(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size == c.size {
		return
	}
	c.size = size
	var entries *bytecache.Cache
	if size > 0 {
		entries = bytecache.New(size)
	}
	if replaced := c.entries.Swap(entries); replaced != nil {
		addCounts(&c.before, replaced.Stats())
	}
}

func addCounts(sum *bytecache.Stats, stats bytecache.Stats) {
	sum.Hits += stats.Hits
	sum.Misses += stats.Misses
	sum.Evictions += stats.Evictions
}

// Stats counts what c did since it was made. An entry that was found and is no longer valid is a miss.
func (c *Cache) Stats() bytecache.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, stale := c.before, c.stale.Load()
	if entries := c.entries.Load(); entries != nil {
		stats := entries.Stats()
		addCounts(&s, stats)
		s.Entries = stats.Entries
	}
	stale = min(stale, s.Hits)
	s.Hits, s.Misses = s.Hits-stale, s.Misses+stale
	return s
}

// A ClaimSelection names the claims that a caller needs in addition to the identity.
type ClaimSelection struct {
	members []string             // the top-level members that are the claims, or have them inside
	inside  []strictjson.Pointer // where they are inside these; nil if all are top-level members
	number  uint32               // identifies the selection in the cache
}

// selections numbers the claim selections of this process. It grows only with the configurations, which have few lists of
// claims, and never with requests.
var selections struct {
	sync.Mutex
	numbers map[string]uint32
}

// NewClaimSelection returns the selection of these claims. paths has the JSON Pointer of each claim that is not a top-level member,
// or is nil if there is none. Make it once, and not for every token.
func NewClaimSelection(claims []string, paths ...strictjson.Pointer) *ClaimSelection {
	selection := &ClaimSelection{members: slices.Clone(claims)}
	for i, path := range paths {
		if len(path) == 0 {
			continue
		}
		if selection.inside == nil {
			selection.inside = make([]strictjson.Pointer, len(claims))
		}
		selection.members[i], selection.inside[i] = path[0], path[1:]
	}
	text := fmt.Sprintf("%q %q", selection.members, selection.inside)
	selections.Lock()
	defer selections.Unlock()
	number, known := selections.numbers[text]
	if !known {
		if selections.numbers == nil {
			selections.numbers = make(map[string]uint32)
		}
		number = uint32(len(selections.numbers))
		selections.numbers[text] = number
	}
	selection.number = number
	return selection
}

// Equal reports whether s and other select the same claims.
func (s *ClaimSelection) Equal(other *ClaimSelection) bool { return s.number == other.number }

// Verify is the verdict of v on a token, from memory where possible. known reports whether it was.
//
//   - now is the instant for which memory answers: the caller has just read the clock, and reading it again would be a measurable
//     part of a hit. A verification reads the clock itself, because it may wait for a key before.
//   - ctx and token are those of [Verifier.Verify]. v is a parameter, because one cache serves all messengers, and because a messenger
//     whose settings change gets a new verifier, whose generation finds none of the old entries.
//   - selection names the claims that the contact has. They are read in the same pass over the payload as those of the checks, so that no
//     caller ever parses a token on its own, and a claim cannot be read in two ways. Routes can forward different claims of one token,
//     so an entry belongs to a selection, which is made once for each route.
//   - admit is called before a verification is spent on a token that is not known, and can refuse it: a client that sends many
//     invalid tokens is limited there, without any effect on tokens that are known. It may be nil.
func (c *Cache) Verify(ctx context.Context, now time.Time, v *Verifier, token string, selection *ClaimSelection, admit func() *Rejection) (contact *Contact, known bool, rej *Rejection) {
	var entries *bytecache.Cache
	if c != nil && len(token) <= MaxToken {
		entries = c.entries.Load()
	}
	key := cacheKey{token, v.generation, selection.number}
	var hash uint64
	var buffer [256]byte // most entries fit
	if entries != nil {
		hash = key.hash()
		if entry, found := entries.Get(hash, buffer[:0]); found {
			if contact := recall(entry, &key, now, v, selection); contact != nil {
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
	if contact, rej = v.verify(ctx, token, selection, nil); rej != nil {
		return nil, false, rej
	}
	if entries != nil {
		if entry := contact.appendTo(buffer[:0], &key, v); entry != nil && len(entry) <= maxEntry {
			entries.Set(hash, entry)
		}
	}
	return contact, false, nil
}

// A cacheKey identifies an entry.
type cacheKey struct {
	token     string
	verifier  uint64 // its generation: another policy or other keys are another verifier
	selection uint32
}

var cacheSeed = maphash.MakeSeed()

// hashed is how many characters at the end of a token are hashed. They belong to its signature, in which no two valid
// tokens are alike.
const hashed = 43

// hash is where the entry is looked for. It costs a fraction of what name does, and is all that a forged token costs here. The
// name of an entry decides whether it is the right one, so that a collision costs a hit and nothing else.
func (k *cacheKey) hash() uint64 {
	end := *k
	end.token = end.token[max(0, len(end.token)-hashed):]
	return maphash.Comparable(cacheSeed, end)
}

// nameSize is the length of a name in bytes.
const nameSize = sha256.Size + 8 + 4

// name is what the entry begins with. It has the SHA-256 of the whole token, so that two texts never share an entry, and
// none of its text, so that a dump of the memory does not contain usable tokens.
func (k *cacheKey) name() (name [nameSize]byte) {
	token := sha256.Sum256(bytesOf(k.token))
	copy(name[:], token[:])
	binary.LittleEndian.PutUint64(name[sha256.Size:], k.verifier)
	binary.LittleEndian.PutUint32(name[sha256.Size+8:], k.selection)
	return name
}

// bytesOf returns the bytes of text, which must not be changed, without a copy: that would be a third of what a hit costs.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }

// Fingerprint is the beginning of the SHA-256 of a token: it distinguishes a token from others, and does not reveal it.
func Fingerprint(token string) [4]byte {
	sum := sha256.Sum256(bytesOf(token))
	return [4]byte(sum[:4])
}
