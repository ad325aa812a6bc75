package session

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// keyEnd is the end of a key, spread over that time.
func keyEnd(at time.Time, spread time.Duration) Bound {
	return Bound{Deadline: Deadline{From: at, To: at.Add(spread), Ending: Revoked}}
}

// The end of a key ends the connections that were opened with it before it was known, in spread order, and those of no other key.
// A connection that ends earlier by itself does so.
func TestKeyExpiryClosesOpenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		until := time.Now().Add(time.Hour)
		var old []*recorder
		for i := range 100 {
			r := new(recorder)
			old = append(old, r)
			tracker.Add(Subject{Messenger: "support", Identity: fmt.Sprint(i), Key: "old"}, Deadline{}, r)
		}
		early, other, foreign := new(recorder), new(recorder), new(recorder)
		tracker.Add(Subject{Messenger: "support", Identity: "0", Key: "old"}, expiring(time.Minute, 0), early)
		tracker.Add(Subject{Messenger: "support", Identity: "0", Key: "new"}, Deadline{}, other)
		tracker.Add(Subject{Messenger: "sales", Identity: "0", Key: "old"}, Deadline{}, foreign)
		tracker.BoundAll("support", func(s Subject) Bound {
			if s.Key == "old" {
				return keyEnd(until, time.Minute)
			}
			return Bound{}
		})
		time.Sleep(time.Hour - time.Second)
		if got := early.result(); got.times != 1 || got.ending != Expired {
			t.Errorf("its own end: got %+v", got)
		}
		ends := make(map[time.Time]bool)
		time.Sleep(2 * time.Minute)
		for i, r := range old {
			got := r.result()
			if got.times != 1 || got.ending != Revoked || got.at.Before(until) || got.at.After(until.Add(time.Minute)) {
				t.Errorf("number %d: got %+v", i, got)
			}
			ends[got.at.Truncate(time.Second)] = true
		}
		if len(ends) < 30 {
			t.Errorf("100 connections ended in %d different seconds", len(ends))
		}
		if other.result().times+foreign.result().times != 0 {
			t.Error("a connection with another key or at another messenger was ended")
		}
	})
}

// Expiries of keys are set, postponed, removed and unknown in random order: every connection ends when the last that was said about its
// key and its own deadline say, whichever is earlier.
func TestKeyExpiriesInAnyOrder(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			tracker := NewTracker()
			start := time.Now()
			type open struct {
				*recorder
				session *Session
				own     time.Duration
				key     time.Duration
			}
			var all []*open
			for i := range 20 {
				o := &open{recorder: new(recorder)}
				d := Deadline{}
				if r.IntN(2) == 0 {
					o.own = time.Duration(1+r.IntN(100)) * time.Minute
					d = expiring(o.own, 0)
				}
				o.session = tracker.Add(Subject{Messenger: "support", Identity: fmt.Sprint(i % 3), Key: fmt.Sprint(i)}, d, o)
				all = append(all, o)
			}
			for range 60 {
				i := r.IntN(len(all))
				after := time.Duration(50+r.IntN(100)) * time.Minute
				b := keyEnd(start.Add(after), 0)
				switch r.IntN(4) {
				case 0:
					b, after = Bound{}, 0
				case 1:
					b, after = Bound{Unknown: true}, all[i].key
				}
				all[i].key = after
				if r.IntN(2) == 0 {
					all[i].session.Bound(b)
					continue
				}
				tracker.BoundAll("support", func(s Subject) Bound {
					if s.Key == fmt.Sprint(i) {
						return b
					}
					return Bound{Unknown: true}
				})
			}
			time.Sleep(400 * time.Minute)
			for i, o := range all {
				want, ending := o.own, Expired
				if o.own == 0 || o.key != 0 && o.key < o.own {
					want, ending = o.key, Revoked
				}
				got := o.result()
				if want == 0 && got.times != 0 || want != 0 && got != (note{ending, 1, start.Add(want)}) {
					t.Errorf("seed %d, number %d: own %s, key %s: got %+v", seed, i, o.own, o.key, got)
				}
				o.session.Remove()
			}
		})
	}
}
