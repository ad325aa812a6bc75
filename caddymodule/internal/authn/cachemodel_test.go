package authn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// Tokens, keys and clocks change in random order: at every instant the cache accepts exactly what the verifier would accept,
// with the same contact.
func TestCacheAgreesWithTheVerifier(t *testing.T) {
	for seed := range uint64(testsize.Of(4, 80)) {
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
	var keys []*sigkey.Key
	for n := range 3 {
		if key, err := sigkey.ParseShared([]byte(fmt.Sprint(n, testSecret)), "", sigkey.HS256); err == nil && w.chance(60) {
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

// revoke revokes a few of the newest tokens, by their jti, their contact, or their age; or forgets all revocations.
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

var worldSelections = []*ClaimSelection{NewClaimSelection(nil), NewClaimSelection([]string{"name"}), NewClaimSelection([]string{"name", "exp"})}

// compare verifies one token with the verifier and with the cache at the same instant.
func (w *cacheWorld) compare() {
	if len(w.tokens) == 0 {
		return
	}
	recent := w.tokens[max(0, len(w.tokens)-12):]
	token, v, selection := recent[w.r.IntN(len(recent))], w.verifiers[w.r.IntN(len(w.verifiers))], worldSelections[w.r.IntN(3)]
	for {
		// A token with an unknown kid can make either of them wait for a fetch. Then the instant has passed.
		start := time.Now()
		want, wantRej := v.verify(context.Background(), token, selection, nil)
		got, known, rej := w.cache.Verify(context.Background(), time.Now(), v, token, selection, nil)
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
