package authn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/bytecache"
)

var noClaims = NewClaimSelection(nil)

// cached asks c and returns the outcome, and whether the token was known.
func cached(c *Cache, v *Verifier, token string) (string, bool) {
	_, known, rej := c.Verify(context.Background(), time.Now(), v, token, noClaims, nil)
	return outcomeText(rej), known
}

func wantCached(t *testing.T, c *Cache, v *Verifier, token, want string, wantKnown bool, when string) {
	t.Helper()
	if got, known := cached(c, v, token); got != want || known != wantKnown {
		t.Errorf("%s: got %s, known %t; want %s, %t", when, got, known, want, wantKnown)
	}
}

func TestTokenIsVerifiedOnceForEachVerifierAndClaimSelection(t *testing.T) {
	c, v := NewCache(100), sharedTokenVerifier(t, Policy{})
	token := signHS256(`{"identity":"mark","name":"Mark","plan":"free"}`)
	wantCached(t, c, v, token, "ok", false, "the first time")
	wantCached(t, c, v, token, "ok", true, "the second time")
	// Two messengers with one key, and the same one after a change of its keys, know nothing of each other.
	wantCached(t, c, sharedTokenVerifier(t, Policy{}), token, "ok", false, "another verifier")
	wantCached(t, c, sharedTokenVerifier(t, Policy{Issuers: []string{"a"}}), token, "issuer_not_allowed", false, "a stricter verifier")
	// Handlers of one messenger forward different claims.
	for _, claims := range [][]string{{"name"}, {"plan"}, {"name", "plan"}, {"plan", "name"}, {"nam", "e"}} {
		for _, wantKnown := range []bool{false, true} {
			contact, known, rej := c.Verify(context.Background(), time.Now(), v, token, NewClaimSelection(claims), nil)
			if rej != nil || known != wantKnown {
				t.Fatalf("%q: known %t, %+v", claims, known, rej)
			}
			want, _ := v.Verify(context.Background(), token, claims)
			if !slices.Equal(contact.Claims, want.Claims) || contact.Identity != "mark" {
				t.Errorf("%q: got %+v, want %+v", claims, contact.Claims, want.Claims)
			}
		}
	}
	if got, want := c.Stats(), (bytecache.Stats{Hits: 6, Misses: 8, Entries: 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A cache whose key is a short hash, or the signature alone, would give one contact the identity of another.
func TestOtherTextsDoNotHitTheEntryOfAToken(t *testing.T) {
	c, v := NewCache(100), sharedTokenVerifier(t, Policy{})
	valid := signHS256(`{"identity":"mark"}`)
	wantCached(t, c, v, valid, "ok", false, "the valid token")
	other := signHS256(`{"identity":"eve"}`)
	for _, forged := range []string{
		other[:strings.LastIndexByte(other, '.')] + valid[strings.LastIndexByte(valid, '.'):],
		reheaded(valid, `{"typ":"JWT","alg":"HS256"}`),
		valid[:len(valid)-1] + nextChar(valid[len(valid)-1]),
		valid + "A", valid[1:], " " + valid, valid + "=",
	} {
		for range 2 {
			if got, known := cached(c, v, forged); got == "ok" || known {
				t.Errorf("%q: got %s, known %t", forged, got, known)
			}
		}
	}
	if got := c.Stats().Entries; got != 1 {
		t.Errorf("%d entries, want 1: a refusal was cached", got)
	}
}

func TestCachedTokenExpiresWithItsTimeAndItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCache(100)
		now := time.Now()
		v := sharedTokenVerifier(t, Policy{ClockSkew: time.Minute})
		token := signHS256(fmt.Sprintf(`{"identity":"mark","exp":%d}`, now.Add(10*time.Minute).Unix()))
		key := v.keys.active()[0].ExpiringAt(now.Add(5 * time.Minute))
		ending := verifierOf(t, Policy{ClockSkew: time.Minute}, key)
		for _, verifier := range []*Verifier{v, ending} {
			wantCached(t, c, verifier, token, "ok", false, "at first")
		}
		time.Sleep(5*time.Minute - 1)
		wantCached(t, c, ending, token, "ok", true, "a moment before the key expires")
		time.Sleep(time.Nanosecond)
		wantCached(t, c, ending, token, "key_unknown", false, "when the key has expired")
		time.Sleep(6*time.Minute - 1)
		wantCached(t, c, v, token, "ok", true, "a moment before exp and the skew")
		time.Sleep(time.Nanosecond)
		wantCached(t, c, v, token, "token_expired", false, "when exp has passed by the skew")
	})
}

// A clock that was ahead let a token in; once it is set right, the token is from the future for the cache as well.
func TestCachedTokenIsRefusedBeforeItsTime(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, tt := range map[string]struct {
		policy Policy
		claims string
	}{
		"nbf":          {Policy{}, fmt.Sprintf(`"nbf":%d`, at(-10*time.Second))},
		"iat":          {Policy{}, fmt.Sprintf(`"iat":%d`, at(-10*time.Second))},
		"max_lifetime": {Policy{MaxLifetime: time.Hour}, fmt.Sprintf(`"iat":%d,"exp":%d`, at(-10*time.Second), at(time.Hour-10*time.Second))},
	} {
		v := sharedTokenVerifier(t, tt.policy)
		contact, rej := v.Verify(context.Background(), signHS256(`{"identity":"mark",`+tt.claims+`}`), nil)
		if rej != nil {
			t.Fatalf("%s: %+v", name, rej)
		}
		if !contact.inTime(now) || contact.inTime(now.Add(-12*time.Second)) {
			t.Errorf("%s: valid now %t, and before its time %t", name, contact.inTime(now), contact.inTime(now.Add(-12*time.Second)))
		}
	}
}

func TestCachedTokenFollowsTheKeySet(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		c, token := NewCache(100), tokenOf(t, privateKey(), "a")
		wantCached(t, c, v, token, "ok", false, "at first")
		wantCached(t, c, v, token, "ok", true, "again")
		if err := j.Refresh(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		wantCached(t, c, v, token, "ok", true, "when the same keys were fetched again")
		s.publish(testJWK(otherKeys()[0], "a"))
		if err := j.Refresh(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		wantCached(t, c, v, token, "signature_invalid", false, "when its key was replaced under its kid")
		s.publish(testJWK(privateKey(), "a"))
		if err := j.Refresh(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		wantCached(t, c, v, token, "ok", false, "when its key came back")
		s.set(func() { s.err = fmt.Errorf("down") })
		time.Sleep(DefaultStaleIfError - time.Minute)
		wantCached(t, c, v, token, "ok", true, "while the key server is down")
		time.Sleep(2 * time.Minute)
		wantCached(t, c, v, token, "keys_unavailable", false, "down for longer than stale_if_error")
		s.publish(testJWK(privateKey(), "a"))
		_ = j.Refresh(context.Background(), true)
		wantCached(t, c, v, token, "ok", false, "fetched again")
		s.set(func() { s.err = fmt.Errorf("down") })
		_ = j.Refresh(context.Background(), true)
		wantCached(t, c, v, token, "keys_unavailable", false, "distrusted")
	})
}

// Tokens, keys and clocks change in random order: at every instant the cache accepts exactly what the verifier would accept,
// with the same contact.
func TestCacheNeverAnswersOtherThanTheVerifier(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, _ *Verifier) {
				w := &cacheWorld{t: t, r: rand.New(rand.NewPCG(seed, 1)), cache: NewCache(40), server: s, jwks: j}
				j.Start()
				w.newVerifiers()
				for range 200 {
					w.step()
				}
				if stats := w.cache.Stats(); stats.Hits == 0 || stats.Entries > 60 {
					t.Errorf("%+v: no hit, or too many entries", stats)
				}
				if w.accepted == 0 || w.refused == 0 {
					t.Errorf("%d accepted, %d refused: one side was not tested", w.accepted, w.refused)
				}
			})
		})
	}
}

// A cacheWorld is all that can change under a cache.
type cacheWorld struct {
	t                 *testing.T
	r                 *rand.Rand
	cache             *Cache
	server            *fakeServer
	jwks              *JWKS
	verifiers         []*Verifier
	revoked           Revocations // of the next verifiers
	tokens            []string
	accepted, refused int
}

func (w *cacheWorld) chance(percent int) bool { return w.r.IntN(100) < percent }

func (w *cacheWorld) step() {
	switch w.r.IntN(14) {
	case 0:
		time.Sleep(time.Duration(w.r.Int64N(int64(2 * time.Minute))))
	case 1:
		time.Sleep(time.Duration(w.r.Int64N(int64(30 * time.Hour))))
	case 2:
		w.newVerifiers()
	case 3:
		w.rotate()
	case 4:
		w.server.set(func() { w.server.err = fmt.Errorf("down") })
	case 5:
		_ = w.jwks.Refresh(context.Background(), w.chance(30))
	case 6:
		w.revoke()
	default:
		w.newToken()
	}
	synctest.Wait() // from here on only this test acts
	for range 8 {
		w.compare()
	}
}

// newVerifiers replaces one verifier, or all: a change of the keys, an overlap that begins, another policy.
func (w *cacheWorld) newVerifiers() {
	var keys []*Key
	for n := range 3 {
		if key, err := ParseSharedToken([]byte(fmt.Sprint(n, testSecret)), ""); err == nil && w.chance(60) {
			if w.chance(50) {
				key = key.ExpiringAt(time.Now().Add(time.Duration(w.r.Int64N(int64(3 * time.Minute)))))
			}
			keys = append(keys, key)
		}
	}
	policy := Policy{IdentityKey: "identity", Revoked: &w.revoked, ClockSkew: time.Duration(w.r.IntN(2)) * time.Minute}
	if w.chance(30) {
		policy.MaxLifetime = 2 * time.Minute
	}
	if len(keys) > 0 {
		set, err := NewKeySet(keys...)
		if err != nil {
			w.t.Fatal(err)
		}
		w.verifiers = append(w.verifiers, NewVerifier(policy, set))
	}
	w.verifiers = append(w.verifiers, NewVerifier(policy, w.jwks))
	w.verifiers = w.verifiers[max(0, len(w.verifiers)-4):]
}

// revoke takes back a few of the newest tokens, by their jti, their contact, or their age; or forgets all revocations.
func (w *cacheWorld) revoke() {
	var list []Revocation
	for range w.r.IntN(4) {
		number := fmt.Sprint(len(w.tokens) - 1 - w.r.IntN(12))
		rule := Revocation{Identity: "contact " + number, Before: time.Now()}
		switch w.r.IntN(6) {
		case 0:
			rule.Identity = ""
		case 1, 2:
			rule = Revocation{TokenID: NewTokenID("token " + number)}
		}
		list = append(list, rule)
	}
	w.revoked.Set(list)
}

// rotate publishes another choice of keys, sometimes another key under the kid of one that was there.
func (w *cacheWorld) rotate() {
	pairs := append(slices.Clone(otherKeys()), privateKey())
	w.r.Shuffle(len(pairs), func(a, b int) { pairs[a], pairs[b] = pairs[b], pairs[a] })
	kids := []string{"a", "b", ""}
	var published []map[string]string
	for i := range 1 + w.r.IntN(3) {
		published = append(published, testJWK(pairs[i], kids[i]))
	}
	w.server.publish(published...)
}

func (w *cacheWorld) newToken() {
	claims := map[string]any{"identity": fmt.Sprint("contact ", len(w.tokens)), "name": fmt.Sprint(w.r.IntN(3))}
	if w.chance(50) {
		claims["jti"] = fmt.Sprint("token ", len(w.tokens))
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		if w.chance(40) {
			offset := w.r.IntN(300) - 150
			if name == "exp" {
				offset += 100
			}
			claims[name] = float64(time.Now().Unix()+int64(offset)) + float64(w.r.IntN(4))/4
		}
	}
	var key any = []byte(fmt.Sprint(w.r.IntN(3), testSecret))
	kid := ""
	if w.chance(50) {
		pairs := append(slices.Clone(otherKeys()), privateKey())
		key, kid = pairs[w.r.IntN(3)], []string{"a", "b", ""}[w.r.IntN(3)]
	}
	w.tokens = append(w.tokens, signWith(w.t, key, kid, claims))
}

var worldQuestions = []*ClaimSelection{NewClaimSelection(nil), NewClaimSelection([]string{"name"}), NewClaimSelection([]string{"name", "exp"})}

// compare verifies one token with the verifier and with the cache at the same instant.
func (w *cacheWorld) compare() {
	if len(w.tokens) == 0 {
		return
	}
	recent := w.tokens[max(0, len(w.tokens)-12):]
	token, v, q := recent[w.r.IntN(len(recent))], w.verifiers[w.r.IntN(len(w.verifiers))], worldQuestions[w.r.IntN(3)]
	for {
		// A token with an unknown kid can make either of them wait for a fetch. Then the instant has passed.
		start := time.Now()
		want, wantRej := v.Verify(context.Background(), token, q.claims)
		got, known, rej := w.cache.Verify(context.Background(), time.Now(), v, token, q, nil)
		if synctest.Wait(); !time.Now().Equal(start) {
			continue
		}
		if outcomeText(rej) != outcomeText(wantRej) && (rej == nil || wantRej == nil) {
			w.t.Fatalf("the cache says %s (known %t), the verifier %s", outcomeText(rej), known, outcomeText(wantRej))
		}
		if rej != nil {
			w.refused++
			return
		}
		w.accepted++
		if got.Identity != want.Identity || got.TokenID != want.TokenID || !slices.Equal(got.Claims, want.Claims) || got.SignedBy != want.SignedBy ||
			!got.Until.Equal(want.Until) || !got.Expires.Equal(want.Expires) || !got.Issued.Equal(want.Issued) {
			w.t.Fatalf("the cache has %+v, the verifier %+v", got, want)
		}
		return
	}
}

// While keys change under load, no token of a removed key is accepted.
func TestCacheUnderConcurrentSwaps(t *testing.T) {
	c := NewCache(50)
	verifiers := []*Verifier{sharedTokenVerifier(t, Policy{}), verifierOf(t, Policy{}, newSecretKey([]byte("x"+testSecret), ""))}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 400 {
				owner := (worker + i) % 2
				secret := []string{testSecret, "x" + testSecret}[owner]
				want := fmt.Sprint("contact ", owner, i%100)
				token := macWith(secret, segment(`{"alg":"HS256"}`)+"."+segment(`{"identity":"`+want+`"}`))
				contact, _, rej := c.Verify(context.Background(), time.Now(), verifiers[owner], token, noClaims, nil)
				if rej != nil || contact.Identity != want {
					t.Errorf("got %+v %+v, want %s", contact, rej, want)
				}
				if _, _, rej := c.Verify(context.Background(), time.Now(), verifiers[1-owner], token, noClaims, nil); outcomeText(rej) != "signature_invalid" {
					t.Errorf("at the other verifier: %s", outcomeText(rej))
				}
				if i%100 == 0 {
					c.Resize([]int{0, 50, 20}[i/100%3])
				}
			}
		})
	}
	all.Wait()
}

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

func TestCacheOfSizeZeroRemembersNothing(t *testing.T) {
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
	for _, q := range []*ClaimSelection{NewClaimSelection(nil), NewClaimSelection([]string{"photo"})} {
		_, _, _ = c.Verify(context.Background(), time.Now(), v, token, q, nil)
		_, known, rej := c.Verify(context.Background(), time.Now(), v, token, q, nil)
		if want := len(q.claims) == 0; rej != nil || known != want {
			t.Errorf("%q: known %t, want %t; %+v", q.claims, known, want, rej)
		}
	}
}

// Contacts do not choose how much memory the gateway takes: the id of a token takes none of it, however long, and what is
// forwarded takes from the same budget for all.
func TestMemoryOfTheCacheIsBoundedInBytes(t *testing.T) {
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
			v, q := sharedTokenVerifier(t, Policy{}), NewClaimSelection(tt.want)
			before := heapNow()
			c := NewCache(size)
			for i := range tt.tokens {
				token := signHS256(fmt.Sprintf(`{"identity":"contact-%07d",`+tt.claims+`}`, i, i))
				if _, _, rej := c.Verify(context.Background(), time.Now(), v, token, q, nil); rej != nil {
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
