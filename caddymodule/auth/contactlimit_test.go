package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// Ten thousand contacts are at their limits, and one of them tries again a thousand times a second. It is refused nearly always,
// and all others get exactly what they are allowed: not one request less, because of a contact whose name looks like theirs.
func TestContactLimitAppliesPerContact(t *testing.T) {
	const contacts, requests = 10_000, 6
	c := &ContactLimit{Requests: requests, Window: caddy.Duration(time.Minute)}
	now := time.Unix(1_800_000_000, 0)
	name := func(i int) (messenger, identity string) {
		return []string{"limit-a", "limit-ab"}[i%2], strings.Repeat("b", i%3) + fmt.Sprint(i)
	}
	passes := func(i int) bool {
		messenger, identity := name(i)
		return c.take(messenger, identity, now) == 0
	}
	for i := range contacts {
		for n := range requests + 1 {
			if got := passes(i); got != (n < requests) {
				t.Fatalf("request %d of contact %d: got %v", n, i, got)
			}
		}
	}
	passed, turns := 0, 0
	for second := 1; second <= 60; second++ {
		now = now.Add(time.Second)
		for range 1000 {
			if passes(0) {
				passed++
			}
		}
		if second%10 != 0 { // one more request is allowed every ten seconds
			continue
		}
		turns++
		for i := 1; i < contacts; i++ {
			if !passes(i) || passes(i) {
				t.Fatalf("after %ds contact %d does not have exactly one request", second, i)
			}
		}
	}
	if passed < turns || passed > turns+1 {
		t.Errorf("the one that tries passes %d times in a minute, want %d", passed, turns)
	}
	if n := limitedContacts().Len(); n > maxLimited {
		t.Errorf("%d contacts are remembered, want at most %d", n, maxLimited)
	}
}

// What Retry-After says is right: after that time the request passes, and a little before it does not.
func TestContactLimitSendsRetryAfter(t *testing.T) {
	for _, window := range []time.Duration{time.Second, time.Minute, 24 * time.Hour} {
		c := &ContactLimit{Requests: 3, Window: caddy.Duration(window)}
		now := time.Unix(1_800_000_000, 0)
		for range 3 {
			if c.take("limit", fmt.Sprint("back", window), now) != 0 {
				t.Fatal("the first requests do not pass")
			}
		}
		wait := c.take("limit", fmt.Sprint("back", window), now)
		if c.take("limit", fmt.Sprint("back", window), now.Add(wait-wait/100)) == 0 {
			t.Errorf("%s: a request passes before the %s that it was told to wait", window, wait)
		}
		if c.take("limit", fmt.Sprint("back", window), now.Add(wait+wait/1000)) != 0 {
			t.Errorf("%s: a request does not pass after %s", window, wait)
		}
	}
}

// Any number of contacts takes a bounded amount of memory.
func TestContactLimitIsBounded(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	c := &ContactLimit{Requests: 1, Window: caddy.Duration(time.Hour)}
	for i := range 4 * maxLimited {
		c.take("limit", fmt.Sprint("many", i), time.Unix(1_800_000_000, 0))
	}
	if n := limitedContacts().Len(); n > maxLimited || n < maxLimited/4 {
		t.Errorf("%d contacts are remembered, want at most %d", n, maxLimited)
	}
}

func BenchmarkContactLimit(b *testing.B) {
	c := &ContactLimit{Connections: 5, Requests: 1_000_000, Window: caddy.Duration(time.Second)}
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprint("contact-", i)
	}
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.take("support", names[i%len(names)], now)
	}
}
