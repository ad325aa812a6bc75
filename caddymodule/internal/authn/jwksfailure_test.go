package authn

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

func TestKeysAreUsedWhileTheKeyServerFails(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		valid := tokenOf(t, privateKey(), "a")
		s.set(func() { s.err = errors.New("connection refused") })
		time.Sleep(DefaultStaleIfError - 20*time.Minute)
		wantVerdict(t, v, valid, "ok", "just before stale_if_error ends")
		wantVerdict(t, v, tokenOf(t, otherKeys()[0], "b"), "keys_unavailable", "a new kid meanwhile")
		time.Sleep(21 * time.Minute)
		wantVerdict(t, v, valid, "keys_unavailable", "after it")
		s.publish(testJWK(privateKey(), "a"))
		time.Sleep(lastRetry)
		synctest.Wait()
		wantVerdict(t, v, valid, "ok", "as soon as the server is back")
	})
}

func TestKeySetExpiresWithItsLifetimeIfStaleIfErrorIsZero(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.settings.StaleIfError = 0
		j.Start()
		synctest.Wait()
		s.set(func() { s.err = errors.New("connection refused") })
		valid := tokenOf(t, privateKey(), "a")
		time.Sleep(DefaultRefreshInterval - time.Second)
		wantVerdict(t, v, valid, "ok", "within its lifetime")
		time.Sleep(time.Second)
		wantVerdict(t, v, valid, "keys_unavailable", "at its end")
	})
}

func TestKeysAreUnavailableWithoutAKeySet(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		s.set(func() { s.status, s.body = http.StatusNotFound, "not here" })
		valid := tokenOf(t, privateKey(), "a")
		wantVerdict(t, v, valid, "keys_unavailable", "before Start")
		j.Start()
		synctest.Wait()
		wantVerdict(t, v, valid, "keys_unavailable", "after a failed fetch")
		s.publish(testJWK(privateKey(), "a"))
		time.Sleep(2 * firstRetry)
		synctest.Wait()
		wantVerdict(t, v, valid, "ok", "after the next attempt")
	})
}

// A token that comes while the first fetch is under way waits for it instead of being turned away.
func TestFirstRequestsWaitForTheFirstFetch(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		s.set(func() { s.delay = 3 * time.Second })
		j.Start()
		wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "ok", "during the first fetch")
	})
}

func TestWaitingEndsWithTheRequestAndWithItsTime(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.settings.Timeout = 30 * time.Second
		s.set(func() { s.delay = time.Hour })
		j.Start()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if _, rej := v.Verify(ctx, tokenOf(t, privateKey(), "a")); outcomeText(rej) != "keys_unavailable" || time.Since(start) != time.Second {
			t.Errorf("a client that gave up: %s after %s", outcomeText(rej), time.Since(start))
		}
		start = time.Now()
		if wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "keys_unavailable", "a patient client"); time.Since(start) != maxWait {
			t.Errorf("a patient client waited %s, want %s", time.Since(start), maxWait)
		}
		if j.waiting != 0 {
			t.Errorf("%d requests are counted as waiting", j.waiting)
		}
	})
}

func TestRemovedKeyIsRefusedWithinTheLifetimeAndAtOnceAfterRefresh(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		valid := tokenOf(t, privateKey(), "a")
		s.publish(testJWK(otherKeys()[0], "b"))
		wantVerdict(t, v, valid, "ok", "while the set is fresh")
		time.Sleep(DefaultRefreshInterval)
		wantVerdict(t, v, valid, "key_unknown", "after its lifetime")

		s.publish(testJWK(otherKeys()[1], "c"))
		if err := j.Refresh(context.Background(), false); err != nil {
			t.Fatal(err)
		}
		wantVerdict(t, v, tokenOf(t, otherKeys()[0], "b"), "key_unknown", "after refresh")
		wantVerdict(t, v, tokenOf(t, otherKeys()[1], "c"), "ok", "the key that replaced it")
	})
}

// A key was stolen. A fetch that began before the distrust must not bring it back.
func TestDistrustDropsTheKeysAndTheFetchUnderWay(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		valid := tokenOf(t, privateKey(), "a")
		s.set(func() { s.delay = 2 * time.Second })
		go func() { _ = j.Refresh(context.Background(), false) }()
		synctest.Wait()
		s.set(func() { s.delay, s.err = 0, errors.New("connection refused") })
		if err := j.Refresh(context.Background(), true); err == nil {
			t.Fatal("the refresh cannot have worked")
		}
		wantVerdict(t, v, valid, "keys_unavailable", "at once")
		time.Sleep(3 * time.Second)
		wantVerdict(t, v, valid, "keys_unavailable", "after the older fetch has ended")
	})
}

func TestRefreshKeepsTheKeysIfTheServerFails(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		s.set(func() { s.status = http.StatusInternalServerError })
		if err := j.Refresh(context.Background(), false); keyserver.ClassOf(err) != keyserver.Refused {
			t.Errorf("got %v, want a refused answer", err)
		}
		wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "ok", "after a failed refresh")
		if status := j.Status(); status.Err == nil || j.usable(time.Now()) == nil {
			t.Errorf("status: %+v", status)
		}
	})
}

func TestConfirmedSetIsFreshAgain(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		s.set(func() { s.header = http.Header{"Etag": {`"1"`}} })
		j.Start()
		synctest.Wait()
		first := j.snapshot.Load()
		time.Sleep(DefaultRefreshInterval)
		synctest.Wait()
		second := j.snapshot.Load()
		if second.set != first.set || !second.fetched.After(first.fetched) || j.err != nil {
			t.Errorf("the set was not confirmed: %+v, then %+v, error %v", first, second, j.err)
		}
	})
}

// The gateway happens to fetch the set, slowly, at the moment at which the site publishes a new key. The answer under way
// is the previous set; the first token of the new key must not be refused because of it.
func TestRotatedKeyIsFoundDuringAnOlderFetch(t *testing.T) {
	for _, kid := range []string{"b", ""} {
		withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
			j.Start()
			synctest.Wait()
			next := tokenOf(t, otherKeys()[0], kid)
			s.set(func() { s.delay = 3 * time.Second })
			for s.fetches.Load() == 1 {
				time.Sleep(time.Second)
			}
			s.publish(testJWK(privateKey(), "a"), testJWK(otherKeys()[0], kid))
			wantVerdict(t, v, next, "ok", "the first token of the new key")
			time.Sleep(time.Minute)
			wantVerdict(t, v, next, "ok", "after the older fetch has ended")
			if got := s.fetches.Load(); got != 3 {
				t.Errorf("%d fetches, want 3", got)
			}
		})
	}
}

// The first tokens wait for the first fetch, and begin no other.
func TestFirstRequestsShareTheFetchUnderWay(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		s.set(func() { s.delay = time.Second })
		j.Start()
		synctest.Wait()
		wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "ok", "during the first fetch")
		if got := s.fetches.Load(); got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
	})
}

// An answer that makes our code panic must not end the process.
func TestPanicWhileFetchingIsAFailedFetch(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		j.server.(*keyserver.Client).HTTP.Transport = panicking{}
		if err := j.Refresh(context.Background(), false); !errors.Is(err, sigkey.ErrNoSet) {
			t.Errorf("got %v, want %v", err, sigkey.ErrNoSet)
		}
		wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "ok", "with the keys of before")
		j.server.(*keyserver.Client).HTTP.Transport = s
		if err := j.Refresh(context.Background(), false); err != nil {
			t.Errorf("the next fetch: %v", err)
		}
	})
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) {
	panic("an unforeseen answer")
}

// The last messenger is removed while a fetch is under way and tokens wait for it: nothing hangs, and no goroutine is left.
func TestCloseEndsTheFetchAndItsWaiters(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		s.set(func() { s.delay = time.Hour })
		j.Start()
		var all sync.WaitGroup
		start := time.Now()
		for range 3 {
			all.Go(func() { wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "keys_unavailable", "while it ends") })
		}
		all.Go(func() {
			if err := j.Refresh(context.Background(), true); err == nil {
				t.Error("the refresh cannot have worked")
			}
		})
		synctest.Wait()
		j.Close()
		all.Wait()
		if since := time.Since(start); since != 0 {
			t.Errorf("it took %s", since)
		}
		wantVerdict(t, v, tokenOf(t, privateKey(), "a"), "keys_unavailable", "afterwards")
	})
}
