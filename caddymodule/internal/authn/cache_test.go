package authn

import (
	"context"
	"fmt"
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
			want, _ := v.verify(context.Background(), token, NewClaimSelection(claims), nil)
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
func TestCacheComparesTheWholeToken(t *testing.T) {
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
		contact, rej := v.Verify(context.Background(), signHS256(`{"identity":"mark",`+tt.claims+`}`))
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

// While keys change under load, no token of a removed key is accepted.
func TestCacheUnderConcurrentSwaps(t *testing.T) {
	c := NewCache(50)
	verifiers := []*Verifier{sharedTokenVerifier(t, Policy{}), verifierOf(t, Policy{}, secretKey(t, "x"+testSecret, ""))}
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
