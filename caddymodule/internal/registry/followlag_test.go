package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// What another node has written is followed within poll_interval and a second, with many messengers held and 200 changes a
// second, while the storage answers within 100 ms. The clock is a fake one, so that the machine does not matter.
func TestChangesOfOtherNodesAreFollowedQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held, rate, length := testsize.Of(500, 2000), testsize.Of(200, 200), time.Duration(testsize.Of(4, 12))*time.Second
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		ctx, cancel := context.WithCancel(t.Context())
		names := make([]string, held)
		for i := range names {
			names[i] = fmt.Sprintf("messenger-%d-example", i)
			if _, _, err := a.Put(ctx, names[i], sharedTokenSettings(0), change.Condition{}); err != nil {
				t.Fatal(err)
			}
			b.refuses(names[i], "", "", time.Time{})
		}
		time.Sleep(5 * time.Minute)
		b.Store.poll(ctx)
		time.Sleep(time.Minute)
		slow := func(string, string) error { time.Sleep(100 * time.Millisecond); return nil }
		a.storage.setBefore(slow)
		b.storage.setBefore(slow)
		b.UseMaxAge(0)
		go b.Store.keepUpToDate(ctx, 2*time.Second)
		time.Sleep(10 * time.Second)

		type told struct {
			name, jti string
			at        time.Time
		}
		var mu sync.Mutex
		var open []told
		var worst time.Duration
		var failed, count int
		var wg sync.WaitGroup
		for i := range int(length.Seconds()) * rate {
			time.Sleep(time.Second / time.Duration(rate))
			wg.Go(func() {
				name, jti := names[rand.IntN(held)], fmt.Sprint("jti", i)
				_, err := a.Revoke(ctx, name, revocation.Revocation{TokenID: revocation.TokenID(jti)}, "test")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed++
					return
				}
				count++
				open = append(open, told{name, jti, time.Now()})
			})
			if i%20 != 0 {
				continue
			}
			mu.Lock()
			var left []told
			for _, o := range open {
				e, ok := b.Store.cached(o.name)
				if ok && e.messenger.revoked.Covers("", authn.NewTokenID(o.jti), time.Now()) {
					continue
				}
				worst = max(worst, time.Since(o.at))
				left = append(left, o)
			}
			open = left
			mu.Unlock()
		}
		wg.Wait()
		t.Logf("%d revocations, %d failed; the slowest was followed after more than %s; %d names are read again with every poll; %d are not followed yet",
			count, failed, worst, len(b.Store.namesToRetry(time.Now())), len(open))
		if worst > 3*time.Second {
			t.Errorf("followed after more than %s", worst)
		}
		cancel()
		a.stop()
		b.stop()
		time.Sleep(time.Hour)
	})
}
