package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// That a connection is being ended is known before its goroutine runs: what begins at that moment does not begin.
func TestConnectionReportsThatItIsEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		s := tracker.Add(Subject{Messenger: "support", Identity: "mark"}, Deadline{}, new(recorder))
		if _, closing := s.Ending(); closing {
			t.Error("nothing has ended it")
		}
		if n, err := tracker.End(Filter{Messenger: "support"}, Expired); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if ending, closing := s.Ending(); !closing || ending != Expired {
			t.Errorf("got %v, %t", ending, closing)
		}
		s.Ended()
		if _, closing := s.Ending(); closing {
			t.Error("it is gone")
		}
		due := tracker.Add(Subject{Messenger: "support", Identity: "eve"}, Deadline{From: time.Now().Add(time.Hour), To: time.Now().Add(time.Hour), Ending: Limit}, enderFunc(func(Ending) {}))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if ending, closing := due.Ending(); !closing || ending != Limit {
			t.Errorf("after its time: got %v, %t", ending, closing)
		}
	})
}
