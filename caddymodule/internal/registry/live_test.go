package registry_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// Names come from requests. Whoever makes them up fills no memory, and pushes nobody out who is asked for.
func TestWhatANodeHoldsIsBounded(t *testing.T) {
	s := newServer()
	n := newTestNode(t, s, "a")
	prepare(t, n)
	(*n.Store.Reads()).SetLimit(rate.Inf)
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	ask := func(count int) {
		for i := range count {
			if _, rej := n.Find(t.Context(), strings.ToLower(rand.Text())); rej == nil || rej.Code != "messenger_unknown" {
				t.Fatalf("a made-up name: %v", rej)
			}
			if i%100 == 0 {
				if _, rej := n.Find(t.Context(), "acme"); rej != nil {
					t.Fatalf("a known messenger: %v", rej)
				}
			}
		}
		(*n.Store.Stored()).CleanUp()
	}
	ask(2 * registry.MaxHeld)
	before := heap()
	ask(2 * registry.MaxHeld)
	if size := (*n.Store.Stored()).EstimatedSize(); size > registry.MaxHeld {
		t.Errorf("%d names are old, want %d at most", size, registry.MaxHeld)
	}
	if after := heap(); after > before+2<<20 {
		t.Errorf("%d bytes were in use before, %d after as many names more", before, after)
	}
	if _, ok := (*n.Store.Stored()).GetIfPresent("acme"); !ok {
		t.Error("made-up names have pushed out a messenger that is asked for")
	}
}

// How fast names are looked up is bounded, and how many requests wait for it. The others get their answer at once, and it
// is not that there is no such messenger.
func TestLookUpsAreBounded(t *testing.T) {
	s := newServer()
	n := newTestNode(t, s, "a")
	(*n.Store.Reads()) = rate.NewLimiter(0, 0) // no read is allowed at the moment
	var all sync.WaitGroup
	started := time.Now()
	for i := range 2 * registry.MaxLookups {
		all.Go(func() {
			if _, rej := n.Find(t.Context(), fmt.Sprint("name", i)); rej == nil || rej.Code != "keys_unavailable" {
				t.Errorf("got %v, want keys_unavailable", rej)
			}
		})
	}
	all.Wait()
	if took := time.Since(started); took > 10*registry.MaxWait {
		t.Errorf("the answers took %s", took)
	}
	(*n.Store.Reads()).SetLimit(rate.Inf)
	if _, rej := n.Find(t.Context(), "name0"); rej == nil || rej.Code != "messenger_unknown" {
		t.Errorf("afterwards: got %v", rej)
	}
}

// A client that goes away in the middle of its request is no outage of the storage for everybody else.
func TestAClientThatGoesAwayIsNoOutage(t *testing.T) {
	s := newServer()
	n := newTestNode(t, s, "a")
	prepare(t, n)
	(*n.Store.Stored()).InvalidateAll()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = n.Find(gone, "nobody")
	if _, rej := n.Find(t.Context(), "acme"); rej != nil {
		t.Errorf("got %v", rej)
	}
}

// A storage that failed is left alone for a moment, so that requests do not queue up in front of it.
func TestAFailingStorageIsNotAskedByEveryRequest(t *testing.T) {
	s := newServer()
	n := newTestNode(t, s, "a")
	s.mu.Lock()
	n.storage.failures = 1
	s.mu.Unlock()
	if _, rej := n.Find(t.Context(), "one"); rej == nil || rej.Code != "keys_unavailable" {
		t.Errorf("got %v", rej)
	}
	s.mu.Lock()
	n.storage.failures = 0
	s.mu.Unlock()
	if failed := time.Unix(0, (*n.Store.Failed()).Load()); time.Since(failed) > time.Minute {
		t.Error("the failure is not remembered")
	}
	(*n.Store.Failed()).Store(time.Now().Add(time.Hour).UnixNano()) // a moment that does not end while this test runs
	if _, rej := n.Find(t.Context(), "two"); rej == nil || rej.Code != "keys_unavailable" {
		t.Errorf("got %v", rej)
	}
	(*n.Store.Failed()).Store(0)
	if _, rej := n.Find(t.Context(), "two"); rej == nil || rej.Code != "messenger_unknown" {
		t.Errorf("got %v", rej)
	}
}
