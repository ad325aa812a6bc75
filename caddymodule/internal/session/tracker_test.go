package session

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// recorder is an Ender that records its last call.
type recorder struct {
	wait time.Duration
	mu   sync.Mutex
	last note
}

type note struct {
	ending Ending
	times  int
	at     time.Time
}

func (r *recorder) End(ending Ending) {
	r.mu.Lock()
	r.last = note{ending, r.last.times + 1, time.Now()}
	r.mu.Unlock()
	time.Sleep(r.wait)
}

func (r *recorder) result() note {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func expiring(after, spread time.Duration) Deadline {
	return Deadline{From: time.Now().Add(after), To: time.Now().Add(after + spread), Ending: Expired}
}

func contact(messenger, identity string) Subject {
	return Subject{Messenger: messenger, Identity: identity}
}

func TestConnectionsEndAtTheirDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		start := time.Now()
		var all []*recorder
		for i := range 100 {
			r := new(recorder)
			all = append(all, r)
			tracker.Add(contact("support", fmt.Sprint(i)), expiring(time.Duration(100-i)*time.Second, 0), r)
		}
		never := new(recorder)
		tracker.Add(contact("support", "0"), Deadline{}, never)
		removed := new(recorder)
		tracker.Add(contact("support", "1"), expiring(time.Second, 0), removed).Remove()
		time.Sleep(101 * time.Second)
		for i, r := range all {
			if got, want := r.result(), (note{Expired, 1, start.Add(time.Duration(100-i) * time.Second)}); got != want {
				t.Errorf("number %d: got %+v, want %+v", i, got, want)
			}
		}
		if never.result().times+removed.result().times != 0 {
			t.Error("one without a deadline, or one that was removed, was ended")
		}
		if stats := tracker.Stats(); stats["support"].Open != 1 {
			t.Errorf("open are %+v", stats)
		}
	})
}

// Ten thousand clients that were let in until the same second do not all come back in it.
func TestDeadlinesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		start := time.Now()
		var perSecond [60]atomic.Int64
		for i := range 6000 {
			tracker.Add(contact("support", fmt.Sprint(i)), expiring(time.Hour, time.Minute), enderFunc(func(Ending) {
				perSecond[int(time.Since(start)-time.Hour)/int(time.Second)].Add(1)
			}))
		}
		time.Sleep(2 * time.Hour)
		for second := range perSecond {
			if n := perSecond[second].Load(); n < 80 || n > 120 {
				t.Errorf("%d of 6000 ended in second %d of 60", n, second)
			}
		}
	})
}

type enderFunc func(Ending)

func (f enderFunc) End(ending Ending) { f(ending) }

func TestEndClosesExactlyTheMatchingConnections(t *testing.T) {
	noon := time.Unix(1_700_000_000, 0)
	subjects := []Subject{
		{"support", "mark", "t1", "k1", noon, nil},
		{"support", "mark", "t2", "k2", noon.Add(time.Hour), nil},
		{"support", "mark", "", "k1", time.Time{}, nil},
		{"support", "eve", "t1", "k1", noon, nil},
		{"sales", "mark", "t1", "k1", noon, nil},
	}
	for name, test := range map[string]struct {
		filter Filter
		want   []int
	}{
		"a messenger":                {Filter{Messenger: "support"}, []int{0, 1, 2, 3}},
		"an unknown messenger":       {Filter{Messenger: "other"}, nil},
		"an identity":                {Filter{Messenger: "support", Identity: "mark"}, []int{0, 1, 2}},
		"an unknown identity":        {Filter{Messenger: "support", Identity: "Mark"}, nil},
		"issued before":              {Filter{Messenger: "support", Identity: "mark", IssuedBefore: noon.Add(time.Minute)}, []int{0, 2}},
		"issued before that instant": {Filter{Messenger: "support", Identity: "mark", IssuedBefore: noon}, []int{2}},
		"a token":                    {Filter{Messenger: "support", TokenID: "t1"}, []int{0, 3}},
		"a token of an identity":     {Filter{Messenger: "support", Identity: "mark", TokenID: "t1"}, []int{0}},
		"a key":                      {Filter{Messenger: "support", Key: "k1"}, []int{0, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker := NewTracker()
				var all []*recorder
				for _, subject := range subjects {
					r := new(recorder)
					all = append(all, r)
					tracker.Add(subject, Deadline{}, r)
				}
				n, err := tracker.End(test.filter, Revoked)
				if err != nil || n != len(test.want) {
					t.Errorf("%d were ended, %v; want %d", n, err, len(test.want))
				}
				synctest.Wait()
				var got []int
				for i, r := range all {
					if last := r.result(); last.ending == Revoked && last.times == 1 {
						got = append(got, i)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(test.want) {
					t.Errorf("got %v, want %v", got, test.want)
				}
				if n, _ := tracker.End(test.filter, Revoked); n != 0 {
					t.Errorf("%d were ended twice", n)
				}
			})
		})
	}
	if n, err := NewTracker().End(Filter{Identity: "mark", TokenID: "t1", Key: "k1", IssuedBefore: noon}, Revoked); err == nil || n != 0 {
		t.Error("a filter without a messenger is accepted")
	}
}

func TestEndWhereClosesMatchingConnectionsOfOneMessenger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		kept, removed, other := new(recorder), new(recorder), new(recorder)
		tracker.Add(Subject{Messenger: "support", Identity: "mark", Key: "k1"}, Deadline{}, kept)
		tracker.Add(Subject{Messenger: "support", Identity: "mark", Key: "k2"}, Deadline{}, removed)
		tracker.Add(Subject{Messenger: "sales", Identity: "mark", Key: "k2"}, Deadline{}, other)
		if n := tracker.EndWhere("support", func(s Subject) bool { return s.Key != "k1" }, Revoked); n != 1 {
			t.Errorf("%d were ended", n)
		}
		synctest.Wait()
		if kept.result().times+other.result().times != 0 || removed.result().ending != Revoked {
			t.Error("connections other than those of the removed key were ended")
		}
	})
}

// Clients that do not read delay no others.
func TestStalledClientsDoNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		for i := range 3000 {
			tracker.Add(contact("support", fmt.Sprint(i)), expiring(time.Second, 0), &recorder{wait: cutAfter})
		}
		r := new(recorder)
		tracker.Add(contact("support", "last"), expiring(time.Second+time.Millisecond, 0), r)
		time.Sleep(2*time.Second + time.Millisecond)
		if r.result().ending != Expired {
			t.Error("one of 3000 stalled clients delays another by more than a second")
		}
		time.Sleep(time.Minute)
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		start := time.Now()
		for i := range 10 {
			tracker.Add(contact("support", fmt.Sprint(i%3)), expiring(time.Hour, 0), new(recorder))
			time.Sleep(time.Second)
		}
		tracker.Add(contact("sales", "1"), Deadline{}, new(recorder))
		stats := tracker.Stats()
		if got := stats["support"]; got.Open != 10 || !got.Oldest.Equal(start) || !got.NextEnd.Equal(start.Add(time.Hour)) {
			t.Errorf("support: %+v", got)
		}
		if got := stats["sales"]; got.Open != 1 || !got.NextEnd.IsZero() {
			t.Errorf("sales: %+v", got)
		}
		_, _ = tracker.End(Filter{Messenger: "support"}, Revoked)
		_, _ = tracker.End(Filter{Messenger: "sales"}, Revoked)
		if stats := tracker.Stats(); len(stats) != 0 {
			t.Errorf("nothing is open, and the stats are %+v", stats)
		}
	})
}

// The clock is set forward while everything sleeps: what is due by it ends within the longest sleep.
func TestTimersFollowTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		r := new(recorder)
		s := tracker.Add(contact("support", "mark"), expiring(24*time.Hour, 0), r)
		s.shard.mu.Lock()
		s.due = time.Now().Add(time.Second).UnixNano() // as if the clock had been set
		s.shard.mu.Unlock()
		time.Sleep(maxSleep + time.Second)
		if r.result().ending != Expired {
			t.Error("it has not ended")
		}
	})
}

// Ten thousand connections run nothing while they are open, all end at once, and opening another one does not wait for
// that.
func TestManyConnections(t *testing.T) {
	tracker, n := NewTracker(), testsize.Of(1000, 10_000)
	before := runtime.NumGoroutine()
	var ended sync.WaitGroup
	ended.Add(n)
	for i := range n {
		tracker.Add(contact("support", fmt.Sprint(i/2)), expiring(time.Hour, time.Minute), enderFunc(func(Ending) { ended.Done() }))
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines run for %d connections", after-before, n)
	}
	if got, _ := tracker.End(Filter{Messenger: "support", Identity: "7"}, Revoked); got != 2 {
		t.Errorf("%d connections of one contact were ended", got)
	}
	if got, _ := tracker.End(Filter{Messenger: "support"}, Revoked); got != n-2 {
		t.Errorf("%d of %d connections were ended", got, n-2)
	}
	for i := range 100 {
		tracker.Add(contact("sales", fmt.Sprint(i)), expiring(time.Hour, 0), new(recorder)).Remove()
	}
	ended.Wait()
	if stats := tracker.Stats(); len(stats) != 0 {
		t.Errorf("left are %+v", stats)
	}
}

// What one more connection costs, its Connection included.
func BenchmarkTrackedConnection(b *testing.B) {
	b.ReportAllocs()
	tracker := NewTracker()
	for i := range b.N {
		c := NewConnection(func() {}, nil)
		tracker.Add(Subject{Messenger: "support", Identity: fmt.Sprintf("contact-%032d", i), TokenID: fmt.Sprintf("%036d", i), Key: "key", Issued: time.Now()}, expiring(time.Hour, time.Minute), c)
	}
	if b.N > 1000 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/float64(b.N), "heap-B/conn")
	}
	runtime.KeepAlive(tracker)
}

func BenchmarkAddRemoveAmong10000(b *testing.B) {
	tracker := NewTracker()
	for i := range 10_000 {
		tracker.Add(contact("support", fmt.Sprint(i)), expiring(time.Hour, time.Minute), new(recorder))
	}
	b.RunParallel(func(p *testing.PB) {
		r := new(recorder)
		for i := 0; p.Next(); i++ {
			tracker.Add(contact("support", fmt.Sprint(i%1000)), expiring(time.Hour, time.Minute), r).Remove()
		}
	})
}

func BenchmarkEndOneAmong10000(b *testing.B) {
	tracker := NewTracker()
	r := new(recorder)
	for i := range 10_000 {
		tracker.Add(contact("support", fmt.Sprint(i)), expiring(time.Hour, time.Minute), r)
	}
	for b.Loop() {
		tracker.Add(contact("support", "7"), expiring(time.Hour, time.Minute), r)
		_, _ = tracker.End(Filter{Messenger: "support", Identity: "7"}, Revoked)
	}
}

func BenchmarkFollowFrames(b *testing.B) {
	all, _ := stream(1, 30)
	b.SetBytes(int64(len(all)))
	var f frames
	for b.Loop() {
		for p := all; len(p) > 0; {
			p = p[f.follow(p):]
		}
	}
}

// A token may say that it ends in the year 9999, or that it began before all years. Unix nanoseconds cannot say so, and
// wrapped around they are an instant in the past.
func TestDeadlinesBeyondUnixNanoseconds(t *testing.T) {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		start := time.Now()
		for _, to := range []time.Time{lastNanosecond, lastNanosecond.Add(1), year(2263), year(9999), time.Unix(1<<40, 0)} {
			for _, from := range []time.Time{to, start, year(-1000), to.Add(-time.Minute)} {
				r := new(recorder)
				s := tracker.Add(contact("support", "mark"), Deadline{From: from, To: to, Ending: Expired}, r)
				time.Sleep(2 * maxSleep)
				if got := r.result(); got.times != 0 {
					t.Errorf("from %v to %v: it ended at once, with %v", from, to, got)
				}
				if next := tracker.Stats()["support"].NextEnd; next.Before(start) {
					t.Errorf("from %v to %v: it is to end at %v", from, to, next)
				}
				s.Remove()
			}
		}
		r := new(recorder)
		tracker.Add(contact("support", "mark"), Deadline{From: year(-1000), To: year(1600), Ending: Expired}, r)
		time.Sleep(time.Second)
		if r.result().ending != Expired {
			t.Error("a deadline of the distant past does not end it")
		}
	})
}
