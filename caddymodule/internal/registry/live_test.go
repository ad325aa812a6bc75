package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/turnstile"
)

// Names come from requests. Clients that make them up fill no memory, and evict no messenger that is asked for.
func TestMemoryForMadeUpNamesIsBounded(t *testing.T) {
	if testsize.Raced {
		t.Skip("not run with the race detector, which has memory of its own")
	}
	n := newTestNode(t, newServer(), "a")
	prepare(t, n)
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	ask := func(count int) {
		for range count {
			if _, rej := n.Find(t.Context(), strings.ToLower(rand.Text())); rej == nil || rej.Code != "messenger_unknown" {
				t.Fatalf("a made-up name: %v", rej)
			}
		}
		n.Store.absent.CleanUp()
	}
	ask(2 * maxAbsent)
	before := heap()
	ask(2 * maxAbsent)
	if size := n.Store.absent.EstimatedSize(); size > maxAbsent {
		t.Errorf("%d names are in memory, want %d at most", size, maxAbsent)
	}
	if after := heap(); after > before+2<<20 {
		t.Errorf("%d bytes were in use before, %d after as many names more", before, after)
	}
	if _, ok := n.Store.stored.GetIfPresent("acme"); !ok {
		t.Error("made-up names have evicted a messenger")
	}
}

type clientKey struct{}

// from returns the context of a request of this client.
func from(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, clientKey{}, address)
}

func clientOf(ctx context.Context) string {
	address, _ := ctx.Value(clientKey{}).(string)
	return address
}

// A client asks for thousands of made-up names on a storage that takes a second for each. Messengers in memory are answered at
// once, and those that are not are looked up for other clients in time. The flood itself is answered within maxWait, and not
// with "no such messenger".
func TestLookUpsUnderAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(t, newServer(), "a")
		prepare(t, n)
		n.put("bolt", sharedTokenSettings(0))
		n.Store.stored.Invalidate("bolt")
		n.storage.setBefore(func(op, _ string) error {
			if op == "list" {
				time.Sleep(time.Second)
			}
			return nil
		})
		for i := range 4 * turnstile.MaxQueuedClient {
			go func() {
				began := time.Now()
				_, rej := n.Find(from(t.Context(), "192.0.2.1"), fmt.Sprint("name", i))
				if rej == nil || rej.Code != "keys_unavailable" && rej.Code != "messenger_unknown" {
					t.Errorf("a made-up name: %v", rej)
				}
				if took := time.Since(began); took > maxWait+10*time.Second { // names share locks
					t.Errorf("the answer took %s", took)
				}
			}()
		}
		synctest.Wait()
		began := time.Now()
		if _, rej := n.Find(from(t.Context(), "192.0.2.2"), "acme"); rej != nil || time.Since(began) > 0 {
			t.Errorf("a messenger in memory: %v after %s", rej, time.Since(began))
		}
		if _, rej := n.Find(from(t.Context(), "192.0.2.2"), "bolt"); rej != nil {
			t.Errorf("a messenger that is not in memory: %v after %s", rej, time.Since(began))
		}
		time.Sleep(time.Minute)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range turnstile.Places {
			if leave, err := n.Store.lookups.Enter(ended, "192.0.2.2"); err != nil {
				t.Error("look-ups are left")
			} else {
				defer leave()
			}
		}
	})
}

// A client that goes away in the middle of its request is not an outage of the storage for all others.
func TestDisconnectedClientIsNotAnOutage(t *testing.T) {
	n := newTestNode(t, newServer(), "a")
	prepare(t, n)
	n.Store.stored.InvalidateAll()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = n.Find(gone, "nothing")
	if _, rej := n.Find(t.Context(), "acme"); rej != nil {
		t.Errorf("got %v", rej)
	}
}

// A storage that failed is not asked for a moment, so that requests do not queue up in front of it.
func TestFailingStorageIsNotReadByEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(t, newServer(), "a")
		find := func(name, want string) {
			t.Helper()
			if _, rej := n.Find(t.Context(), name); rej == nil || string(rej.Code) != want {
				t.Errorf("%s: got %v, want %s", name, rej, want)
			}
		}
		n.failing(true)
		find("one", "keys_unavailable")
		n.failing(false)
		time.Sleep(outage - 1)
		find("two", "keys_unavailable")
		time.Sleep(time.Nanosecond)
		find("two", "messenger_unknown")
	})
}

// A messenger that is changed all the time can still be read for the first time.
func TestBusyMessengerCanBeReadForTheFirstTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		b.storage.setBefore(func(op, _ string) error {
			if op == "list" { // something about some name is noticed during every listing
				b.Store.noteChange("acme")
			}
			return nil
		})
		if got := b.kids("acme"); got != a.kids("acme") {
			t.Errorf("got %q", got)
		}
	})
}
