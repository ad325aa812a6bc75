package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// An abortable is a response whose client can be cut off without the handler. It notes when that was done, and how.
type abortable struct {
	began time.Time
	after time.Duration
	whole bool
}

func (a *abortable) SetReadDeadline(time.Time) error  { return nil }
func (a *abortable) SetWriteDeadline(time.Time) error { return nil }
func (a *abortable) Abort(complete bool)              { a.after, a.whole = time.Since(a.began), complete }

// A handler that does not return, because its backend does not notice the end, keeps no client. One that returns by the last step is
// not disturbed, and nothing is cut off after it has returned.
func TestClientIsCutOffIfTheHandlerDoesNotReturn(t *testing.T) {
	for _, kind := range []Kind{EventStream, EncodedEvents, OtherStream, WebSocket} {
		for _, returns := range []time.Duration{0, cutAfter, cutAfter + 100*time.Millisecond, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				a := &abortable{began: time.Now()}
				c := NewConnection(func() {}, nil)
				var out syncBuffer
				c.Begin(kind, &out, nil, a)
				c.End(Expired)
				time.Sleep(returns)
				c.Finish()
				time.Sleep(time.Hour)
				want := time.Duration(0)
				if returns > abortAfter && kind != WebSocket {
					want = abortAfter
				}
				if a.after != want || a.whole != (want > 0 && kind == EventStream) {
					t.Errorf("kind %d, the handler returns after %s: cut off after %s, complete %t", kind, returns, a.after, a.whole)
				}
			})
		}
	}
}
