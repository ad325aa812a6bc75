package authn

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Many operators press "Fetch now" at the same time. The key server sees one fetch, and all of them get its answer.
func TestRefreshesAtTheSameTimeShareOneFetch(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		before := s.fetches.Load()
		s.set(func() { s.delay = time.Second })
		var wg sync.WaitGroup
		for i := range 151 {
			wg.Go(func() {
				ctx, leave := context.WithCancel(context.Background())
				defer leave()
				if i == 0 { // the one that began the fetch may leave as well as any other
					time.AfterFunc(time.Millisecond, leave)
				}
				if err := j.Refresh(ctx, false); (i != 0) != (err == nil) {
					t.Errorf("number %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if n := s.fetches.Load() - before; n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

// A script refreshes without a pause. The key server is asked once a second, and every answer is newer than its request.
func TestRefreshesAreBoundedInRate(t *testing.T) {
	for name, distrust := range map[string]bool{"refresh": false, "distrust": true} {
		t.Run(name, func(t *testing.T) {
			withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
				j.Start()
				synctest.Wait()
				before, start := s.fetches.Load(), time.Now()
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for time.Since(start) < 10*time.Second {
							asked := time.Now()
							if err := j.Refresh(context.Background(), distrust); err != nil {
								t.Error(err)
							}
							if fetched := j.Status().Fetched; fetched.Before(asked) && !distrust {
								t.Errorf("an answer of %s for a request of %s", fetched, asked)
							}
							time.Sleep(time.Millisecond)
						}
					})
				}
				wg.Wait()
				if n := s.fetches.Load() - before; n > refreshBurst+11 {
					t.Errorf("%d fetches in ten seconds", n)
				}
			})
		})
	}
}

// A key was stolen, and many operators distrust it at once. While the server hangs, few fetches are under way, and none that began
// before the last distrust brings the stolen key back.
func TestDistrustIsBoundedInRateAndEffectiveAtOnce(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		j.Start()
		synctest.Wait()
		stolen := tokenOf(t, privateKey(), "a")
		before := s.fetches.Load()
		s.set(func() { s.delay = 3 * time.Second }) // a fetch that begins now brings the stolen key
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = j.Refresh(context.Background(), true) })
			synctest.Wait()
		}
		if n := s.fetches.Load() - before; n > refreshBurst {
			t.Errorf("%d fetches are under way", n)
		}
		s.publish(testJWK(otherKeys()[0], "b"))
		if err := j.Refresh(context.Background(), true); err != nil {
			t.Error(err)
		}
		wantVerdict(t, v, stolen, "key_unknown", "after the last word")
		wg.Wait()
		time.Sleep(5 * time.Second)
		wantVerdict(t, v, stolen, "key_unknown", "when all fetches have ended")
	})
}

// A fetch that waits for the rate does not outlive the engine.
func TestQueuedFetchEndsWithTheEngine(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, v *Verifier) {
		for range refreshBurst {
			_ = j.Refresh(context.Background(), false)
		}
		s.set(func() { s.delay = time.Minute })
		done := make(chan error, 1)
		go func() { done <- j.Refresh(context.Background(), false) }()
		synctest.Wait()
		j.Close()
		if err := <-done; err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
