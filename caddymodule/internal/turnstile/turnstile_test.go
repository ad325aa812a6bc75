package turnstile

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// fillTurnstile lets as many in as may be at a time, and returns what lets them out.
func fillTurnstile(t *testing.T, s *Turnstile) (leave []func()) {
	t.Helper()
	for range Places {
		out, err := s.Enter(t.Context(), "flood")
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, out)
	}
	return leave
}

func (s *Turnstile) isEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free == Places && s.queued == 0 && len(s.waiting) == 0 && s.turns.Len() == 0
}

// A client asks for a thousand made-up names. A second client with one name is let in next but one, whatever the first one asks
// for.
func TestFloodingClientDelaysOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		leave := fillTurnstile(t, s)
		order := make(chan string, MaxQueuedClient+2)
		wait := func(client string) {
			go func() {
				out, err := s.Enter(t.Context(), client)
				if err != nil {
					t.Error(err)
					return
				}
				order <- client
				out()
			}()
			synctest.Wait()
		}
		for range MaxQueuedClient {
			wait("flood")
		}
		if _, err := s.Enter(t.Context(), "flood"); err != errBusy {
			t.Errorf("beyond its queue the client is told %v", err)
		}
		wait("other")
		leave[0]() // each caller lets the next one in
		synctest.Wait()
		for i := range 2 {
			if client := <-order; client == "other" {
				break
			} else if i == 1 {
				t.Error("the other client has to wait for the flood")
			}
		}
		for _, out := range leave[1:] {
			out()
		}
		if !s.isEmpty() {
			t.Errorf("afterwards: %d free, %d wait", s.free, s.queued)
		}
	})
}

// Callers that give up leave nothing behind, also if their turn comes at that moment.
func TestCancelledCallersFreeTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		leave := fillTurnstile(t, s)
		for i := range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Second)
			go func() {
				defer cancel()
				if out, err := s.Enter(ctx, fmt.Sprint("client ", i%5)); err == nil {
					out()
				}
			}()
		}
		for _, out := range leave { // one each second, just as callers give up
			time.Sleep(time.Second)
			out()
		}
		time.Sleep(time.Minute)
		if !s.isEmpty() {
			t.Errorf("afterwards: %d free, %d wait, %v", s.free, s.queued, s.waiting)
		}
	})
}

// However many clients ask for names, a bounded number of requests waits, and the others are answered at once.
func TestWaitingLookUpsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		leave := fillTurnstile(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range maxQueued {
			go func() { _, _ = s.Enter(ctx, fmt.Sprint(i)) }()
		}
		synctest.Wait()
		if _, err := s.Enter(ctx, "one more"); err != errBusy {
			t.Errorf("got %v", err)
		}
		cancel()
		synctest.Wait()
		for _, out := range leave {
			out()
		}
		if !s.isEmpty() {
			t.Errorf("afterwards: %d free, %d wait", s.free, s.queued)
		}
	})
}
