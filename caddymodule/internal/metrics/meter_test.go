package metrics

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// An event is a request of a recorded mix.
type event struct {
	second int64
	code   string
}

// mix is a day and more of requests in order of time, with every code in it, some of them seldom, with floods and hours
// in which nothing comes.
func mix(size int, from int64) []event {
	events := make([]event, 0, size)
	for second := from; len(events) < size; {
		code := Codes[0]
		if rand.IntN(3) == 0 {
			code = Codes[rand.IntN(len(Codes))]
		}
		events = append(events, event{second, code})
		switch rand.IntN(1000) {
		case 0:
			second += rand.Int64N(3 * 3600)
		case 1, 2, 3, 4, 5, 6, 7, 8, 9:
			second += rand.Int64N(90)
		default:
			second += rand.Int64N(4) / 3
		}
	}
	return events
}

// counted counts events independently of any meter: those in the window whose last slot is that of second.
func counted(events []event, w MeterWindow, second int64) map[string]uint64 {
	counts := make(map[string]uint64)
	for _, e := range events {
		if slot := e.second / w.slot; slot <= second/w.slot && slot > second/w.slot-w.slots {
			counts[e.code]++
		}
	}
	return counts
}

// Site owners switch enforcement on by these figures: they have to be right, at every moment of the day.
func TestMeterMatchesTheRequests(t *testing.T) {
	from := time.Now().Unix()
	events := mix(100_000, from)
	m := NewMeter()
	for i, e := range events {
		m.Record(e.code, e.second)
		if i%5000 != 4999 {
			continue
		}
		for _, later := range []int64{0, 59, 60, 3599, 3600, 86_399, 86_400, 100_000} {
			second := e.second + later
			windows := m.Windows(time.Unix(second, 0))
			for j, w := range []MeterWindow{LastHour, LastDay} {
				compareWindow(t, windows[j], counted(events[:i+1], w, second), fmt.Sprintf("%d s after event %d", later, i))
			}
		}
	}
}

func compareWindow(t *testing.T, got readinessWindow, want map[string]uint64, when string) {
	t.Helper()
	var all, bad uint64
	for code, n := range want {
		all += n
		if code != authn.Verified && code != string(authn.TokenMissing) {
			bad += n
		}
		if code != authn.Verified && got.Codes[code] != n {
			t.Errorf("%s: the last %s had %d of %s, and the meter says %d", when, got.Window, n, code, got.Codes[code])
		}
	}
	if got.Requests != all || got.Valid != want[authn.Verified] || got.None != want[string(authn.TokenMissing)] || got.Invalid != bad {
		t.Errorf("%s: the last %s had %d requests, %d good, %d none, %d bad; the meter says %+v", when, got.Window, all, want[authn.Verified], want[string(authn.TokenMissing)], bad, got)
	}
	if (got.Pass == nil) != (all == 0) || got.Pass != nil && *got.Pass != float64(want[authn.Verified])/float64(all) {
		t.Errorf("%s: the share of %d of %d is reported as %v", when, want[authn.Verified], all, got.Pass)
	}
}

// Requests come at the same time, also those that begin a new round of slots.
func TestMeterCountsConcurrentRequests(t *testing.T) {
	m := NewMeter()
	var all sync.WaitGroup
	const each = 20_000
	for range 8 {
		all.Go(func() {
			for i := range int64(each) {
				m.Record(authn.Verified, 1_000_000_020+i/1000) // a new minute after twenty of these seconds would be a new slot
			}
		})
	}
	all.Wait()
	if got := m.Count(0, LastHour, 1_000_000_040); got != 8*each {
		t.Errorf("counted %d of %d", got, 8*each)
	}
}

// A clock that is set back must not stop the meter until it has caught up.
func TestMeterCountsAfterTheClockWasSetBack(t *testing.T) {
	m := NewMeter()
	const now = 1_800_000_000
	m.Record(authn.Verified, now)
	m.Record(authn.Verified, now-30*24*3600)
	m.Record(authn.Verified, now-30*24*3600)
	for _, w := range []MeterWindow{LastHour, LastDay} {
		if got := m.Count(0, w, now-30*24*3600); got != 2 {
			t.Errorf("%s: counted %d, want 2", w.Name, got)
		}
	}
}

// A site owner must not read "100 %" while there are contacts whom the switch would lock out.
func TestReadinessIsNeverRoundedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter()
		for range 99_999 {
			m.Record(authn.Verified, time.Now().Unix())
		}
		m.Record("token_expired", time.Now().Unix())
		got := m.Windows(time.Now())[0].Summary()
		if want := "100000 requests, of which 99.99 % would pass under required"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func BenchmarkMeter(b *testing.B) {
	second := time.Now().Unix()
	for name, code := range map[string]string{"verified": authn.Verified, "refused": "token_expired"} {
		b.Run(name, func(b *testing.B) {
			m := NewMeter()
			b.ReportAllocs()
			for b.Loop() {
				m.Record(code, second)
			}
		})
		b.Run(name+", on all processors", func(b *testing.B) {
			m := NewMeter()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.Record(code, second)
				}
			})
		})
	}
	// Where no token was looked at, the clock is asked as well.
	b.Run("refused without a token", func(b *testing.B) {
		m := NewMeter()
		for b.Loop() {
			m.Record("token_missing", time.Now().Unix())
		}
	})
}
