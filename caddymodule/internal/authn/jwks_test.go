package authn

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
)

// otherKeys are RSA key pairs beside privateKey.
var otherKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	keys := make([]*rsa.PrivateKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

// A fakeServer is a key server on the bubble's clock. It takes the place of the network.
type fakeServer struct {
	fetches atomic.Int64
	mu      sync.Mutex
	status  int
	header  http.Header
	body    string
	delay   time.Duration
	err     error
}

func (s *fakeServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.fetches.Add(1)
	s.mu.Lock()
	status, header, body, delay, err := s.status, s.header.Clone(), s.body, s.delay, s.err
	s.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if err != nil {
		return nil, err
	}
	if tag := header.Get("ETag"); tag != "" && r.Header.Get("If-None-Match") == tag {
		status, body = http.StatusNotModified, ""
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader([]byte(body))), Request: r}, nil
}

func (s *fakeServer) publish(keys ...map[string]string) {
	body, _ := json.Marshal(map[string]any{"keys": keys})
	s.set(func() { s.status, s.body, s.err, s.delay = http.StatusOK, string(body), nil, 0 })
}

func (s *fakeServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func testJWK(key *rsa.PrivateKey, kid string) map[string]string {
	k := map[string]string{"kty": "RSA",
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes())}
	if kid != "" {
		k["kid"] = kid
	}
	return k
}

// withEngine runs f with an engine on a fake server and a fake clock. A goroutine that outlives Close fails the test.
func withEngine(t *testing.T, f func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier)) {
	t.Helper()
	privateKey()
	otherKeys()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{header: http.Header{}}
		s.publish(testJWK(privateKey(), "a"))
		j := NewJWKS(JWKSSettings{URL: "https://keys.example/jwks.json", RefreshInterval: DefaultRefreshInterval, StaleIfError: DefaultStaleIfError, Timeout: keyserver.DefaultTimeout}, nil, nil, nil)
		j.server.(*keyserver.Client).HTTP.Transport = s
		defer func() {
			j.Close()
			synctest.Wait()
		}()
		f(t, s, j, NewVerifier(Policy{IdentityKey: "identity"}, j))
	})
}

// tokenOf returns a token that does not expire, signed by key.
func tokenOf(t testing.TB, key *rsa.PrivateKey, kid string) string {
	t.Helper()
	return signWith(t, key, kid, map[string]any{"identity": "mark"})
}

func verdict(v *Verifier, token string) string {
	_, rej := v.Verify(context.Background(), token)
	return outcomeText(rej)
}

func wantVerdict(t *testing.T, v *Verifier, token, want, when string) {
	t.Helper()
	if got := verdict(v, token); got != want {
		t.Errorf("%s: got %s, want %s", when, got, want)
	}
}

func TestKeySetIsFetchedAgainBeforeItsLifetimeEnds(t *testing.T) {
	for _, tt := range []struct {
		name          string
		header        http.Header
		atLeast, most time.Duration // between two fetches
	}{
		{"without a word of the server", http.Header{}, 7 * time.Minute, 10 * time.Minute},
		{"as Cache-Control says", http.Header{"Cache-Control": {"public, max-age=1200"}}, 14 * time.Minute, 20 * time.Minute},
		{"what proxies used up is gone", http.Header{"Cache-Control": {"max-age=1200"}, "Age": {"900"}}, 3 * time.Minute, 5 * time.Minute},
		{"not more often than once a minute", http.Header{"Cache-Control": {"max-age=1"}}, 42 * time.Second, time.Minute},
		{"not-to-be-cached means a minute", http.Header{"Cache-Control": {"no-store"}}, 42 * time.Second, time.Minute},
		{"at least once an hour", http.Header{"Cache-Control": {"max-age=999999999"}}, 43 * time.Minute, time.Hour},
		{"a number that would wrap around counts as expired", http.Header{"Cache-Control": {"max-age=18446744073709551617"}}, 42 * time.Second, time.Minute},
		{"as Expires says", http.Header{"Date": {"Mon, 03 Jan 2000 00:00:00 GMT"}, "Expires": {"Mon, 03 Jan 2000 00:30:00 GMT"}}, 21 * time.Minute, 30 * time.Minute},
		{"an Expires that is not a date counts as expired", http.Header{"Expires": {"0"}}, 42 * time.Second, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
				s.set(func() { s.header = tt.header })
				j.Start()
				synctest.Wait()
				for range 5 {
					before := s.fetches.Load()
					time.Sleep(tt.atLeast)
					synctest.Wait()
					if s.fetches.Load() != before {
						t.Fatalf("fetched again within %s", tt.atLeast)
					}
					for start := time.Now(); s.fetches.Load() == before; time.Sleep(time.Second) {
						if time.Since(start) > tt.most-tt.atLeast {
							t.Fatalf("not fetched again within %s", tt.most)
						}
					}
					synctest.Wait()
				}
			})
		})
	}
}

// A scanner sends a token with a new kid every millisecond. It costs the key server one fetch, and other clients nothing.
func TestRandomKIDsCauseOneFetchAndABoundedNumberOfWaiters(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		valid := tokenOf(t, privateKey(), "a")
		s.set(func() { s.delay = 2 * time.Second })
		before := s.fetches.Load()
		var waited, refused, unavailable atomic.Int64
		var all sync.WaitGroup
		for i := range 1000 {
			token := tokenOf(t, otherKeys()[0], fmt.Sprint("random ", i))
			all.Go(func() {
				start := time.Now()
				switch verdict(v, token) {
				case "key_unknown":
					refused.Add(1)
				case "keys_unavailable":
					unavailable.Add(1)
				}
				if time.Since(start) > 0 {
					waited.Add(1)
				}
			})
			time.Sleep(time.Millisecond)
			start := time.Now()
			if wantVerdict(t, v, valid, "ok", "a known kid meanwhile"); time.Since(start) > 0 {
				t.Fatal("a request with a known kid was delayed")
			}
		}
		all.Wait()
		if got := s.fetches.Load() - before; got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
		if waited.Load() != maxWaiting || refused.Load() != maxWaiting || unavailable.Load() != 1000-maxWaiting {
			t.Errorf("%d waited, %d were refused and %d could not be decided; want %d, %d and %d",
				waited.Load(), refused.Load(), unavailable.Load(), maxWaiting, maxWaiting, 1000-maxWaiting)
		}
	})
}

// The site rotates its key in the usual wrong order: it signs with the new one before it publishes it.
func TestFirstTokenOfARotatedKeyIsAccepted(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		next := tokenOf(t, otherKeys()[0], "b")
		s.publish(testJWK(privateKey(), "a"), testJWK(otherKeys()[0], "b"))
		wantVerdict(t, v, next, "ok", "the first token of the new key")

		// A client sent a kid that does not exist, a moment before the next rotation.
		wantVerdict(t, v, tokenOf(t, otherKeys()[1], "nonsense"), "key_unknown", "a made-up kid")
		last := tokenOf(t, otherKeys()[1], "c")
		s.publish(testJWK(otherKeys()[1], "c"))
		wantVerdict(t, v, last, "key_unknown", "at once")
		time.Sleep(renewInterval)
		wantVerdict(t, v, last, "ok", "ten seconds later")
		wantVerdict(t, v, next, "key_unknown", "the key that was removed")
	})
}

func TestRotatedKeyWithoutAKIDIsFoundToo(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		s.publish(testJWK(privateKey(), ""))
		j.Start()
		synctest.Wait()
		s.publish(testJWK(otherKeys()[0], ""))
		wantVerdict(t, v, tokenOf(t, otherKeys()[0], ""), "ok", "a token without kid")
		s.publish(testJWK(otherKeys()[1], ""))
		wantVerdict(t, v, tokenOf(t, privateKey(), "x"), "signature_invalid", "within ten seconds")
		time.Sleep(renewInterval)
		wantVerdict(t, v, tokenOf(t, otherKeys()[1], "y"), "ok", "a token with an unknown kid, after ten seconds")
	})
}

// A wrong signature under a known kid is a forgery and no reason to bother the key server.
func TestForgedSignatureUnderAKnownKIDCausesNoFetch(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		wantVerdict(t, v, tokenOf(t, otherKeys()[0], "a"), "signature_invalid", "a forged token")
		if got := s.fetches.Load(); got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
	})
}
