package authn

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/bytecache"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// Bots with a million valid tokens, each used once, can neither make the cache grow nor evict a token that is in use.
func TestCacheIsBoundedAndResistsScans(t *testing.T) {
	const size = 1000
	c, v := NewCache(size), sharedTokenVerifier(t, Policy{})
	hot := signHS256(`{"identity":"mark"}`)
	hits := 0
	for i := range 20 * size {
		cached(c, v, signHS256(fmt.Sprintf(`{"identity":"once %d"}`, i)))
		if i%10 == 0 {
			if _, known := cached(c, v, hot); known {
				hits++
			}
		}
	}
	if got := c.Stats().Entries; got > size {
		t.Errorf("%d entries, want at most %d", got, size)
	}
	if c.Stats().Evictions == 0 {
		t.Error("nothing was counted as evicted")
	}
	if hits < 2*size*9/10 {
		t.Errorf("the token in use was known %d times of %d", hits, 2*size)
	}
}

func TestCacheOfSizeZeroStoresNothing(t *testing.T) {
	v, token := sharedTokenVerifier(t, Policy{}), signHS256(`{"identity":"mark"}`)
	for _, c := range []*Cache{nil, NewCache(0)} {
		for range 2 {
			wantCached(t, c, v, token, "ok", false, "a cache that is off")
		}
	}
	c := NewCache(10)
	wantCached(t, c, v, token, "ok", false, "at first")
	c.Resize(20)
	wantCached(t, c, v, token, "ok", false, "when it has another size")
	c.Resize(20)
	wantCached(t, c, v, token, "ok", true, "when it has the same size again")
	c.Resize(0)
	wantCached(t, c, v, token, "ok", false, "when it is off")
	c.Resize(10)
	wantCached(t, c, v, token, "ok", false, "when it is on again")
	if got, want := c.Stats(), (bytecache.Stats{Hits: 1, Misses: 3, Entries: 1}); got != want {
		t.Errorf("got %+v, want %+v: counters do not go back", got, want)
	}
}

func TestLargeContactsAreNotCached(t *testing.T) {
	c, v := NewCache(10), sharedTokenVerifier(t, Policy{})
	token := signHS256(`{"identity":"mark","photo":"` + strings.Repeat("x", maxEntry) + `"}`)
	for _, selection := range []*ClaimSelection{NewClaimSelection(nil), NewClaimSelection([]string{"photo"})} {
		_, _, _ = c.Verify(context.Background(), time.Now(), v, token, selection, nil)
		_, known, rej := c.Verify(context.Background(), time.Now(), v, token, selection, nil)
		if want := len(selection.members) == 0; rej != nil || known != want {
			t.Errorf("%q: known %t, want %t; %+v", selection.members, known, want, rej)
		}
	}
}

// Contacts do not choose how much memory the gateway takes: the id of a token takes none of it, however long, and what is
// forwarded takes from the same budget for all.
func TestMemoryOfTheCacheIsBoundedInBytes(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	const size, usual = 16_000, 400
	long := strings.Repeat("x", 3000)
	for _, tt := range []struct {
		name   string
		claims string
		want   []string
		tokens int
		limit  uint64
	}{
		{"long ids", `"jti":"%d` + long + `"`, nil, 3000, 3000 * usual},
		{"long claims that are forwarded", `"jti":"%d","photo":"` + long + `"`, []string{"photo"}, 6000, size * (64 << 20) / 100_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, selection := sharedTokenVerifier(t, Policy{}), NewClaimSelection(tt.want)
			before := heapNow()
			c := NewCache(size)
			for i := range tt.tokens {
				token := signHS256(fmt.Sprintf(`{"identity":"contact-%07d",`+tt.claims+`}`, i, i))
				if _, _, rej := c.Verify(context.Background(), time.Now(), v, token, selection, nil); rej != nil {
					t.Fatal(rej)
				}
			}
			after, stats := heapNow(), c.Stats()
			if after > before+tt.limit {
				t.Errorf("%d MiB for %d tokens", (after-before)>>20, tt.tokens)
			}
			if stats.Entries < 2000 {
				t.Errorf("%+v: almost nothing is cached", stats)
			}
		})
	}
}

// admit is called before a verification; a token that is known passes without it.
func TestAdmitIsCalledForUnknownTokensOnly(t *testing.T) {
	c, v := NewCache(10), sharedTokenVerifier(t, Policy{})
	refuse := func() *Rejection { return reject(TooManyFailures, "no") }
	known, unknown := signHS256(`{"identity":"mark"}`), signHS256(`{"identity":"eve"}`)
	cached(c, v, known)
	if _, _, rej := c.Verify(context.Background(), time.Now(), v, known, noClaims, refuse); rej != nil {
		t.Errorf("a known token: %+v", rej)
	}
	if _, _, rej := c.Verify(context.Background(), time.Now(), v, unknown, noClaims, refuse); outcomeText(rej) != "too_many_failures" {
		t.Errorf("an unknown token: %s", outcomeText(rej))
	}
}

func heapNow() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkCache measures what a known token costs, in time and in memory.
func BenchmarkCache(b *testing.B) {
	t := benchTokens(b)[0]
	b.Run("hit", func(b *testing.B) {
		c := NewCache(100000)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, rej := c.Verify(context.Background(), time.Now(), t.verifier, t.valid, noClaims, nil); rej != nil {
				b.Fatal(rej.Code)
			}
		}
	})
	b.Run("hit on all cores", func(b *testing.B) {
		c := NewCache(100000)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, rej := c.Verify(context.Background(), time.Now(), t.verifier, t.valid, noClaims, nil); rej != nil {
					b.Error(rej.Code)
				}
			}
		})
	})
	b.Run("miss", func(b *testing.B) {
		tokens := make([]string, 200000)
		for i := range tokens {
			tokens[i] = signHS256(fmt.Sprintf(`{"identity":"%07d","exp":%d,"jti":"01J9Z3K5V7Q8W2X4Y6A%07d"}`, i, time.Now().Unix()+3600, i))
		}
		c, v := NewCache(10000), sharedTokenVerifier(b, Policy{})
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			if _, _, rej := c.Verify(context.Background(), time.Now(), v, tokens[i], noClaims, nil); rej != nil {
				b.Fatal(rej.Code)
			}
			if i++; i == len(tokens) {
				i = 0
			}
		}
	})
	// What a token that is in the cache takes, and what one takes of a million that went through it.
	const size = 100000
	for name, tokens := range map[string]int{"memory": size, "memory after a million": 10 * size} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				v := sharedTokenVerifier(b, Policy{})
				before := heapNow()
				c := NewCache(size)
				for i := range tokens {
					cached(c, v, signHS256(fmt.Sprintf(`{"identity":"contact-%07d","exp":%d,"jti":"01J9Z3K5V7Q8W2X4Y6A%07d"}`, i, time.Now().Unix()+3600, i)))
				}
				b.ReportMetric(float64(heapNow()-before)/float64(c.Stats().Entries), "B/token")
				b.ReportMetric(float64(c.Stats().Entries), "tokens")
			}
		})
	}
}
