package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// Waiting for the last connections includes waiting for writes to them: a connection that is being ended counts until nothing is
// left of it, whether it was ended, has passed its deadline or has ended by itself.
func TestTrackerIsBusyUntilEverythingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := NewTracker()
		want := func(when string, busy bool) {
			t.Helper()
			synctest.Wait()
			if got := tracker.IsBusy(); got != busy {
				t.Errorf("%s: busy is %t", when, got)
			}
		}
		want("empty", false)
		ended := tracker.Add(contact("support", "1"), Deadline{}, new(recorder))
		due := tracker.Add(contact("support", "2"), expiring(time.Second, 0), new(recorder))
		left := tracker.Add(contact("sales", "3"), expiring(time.Second, 0), new(recorder))
		left.Remove()
		left.Ended()
		left.Ended()
		want("with two", true)
		tracker.EndWhere("support", func(s Subject) bool { return s.Identity == "1" }, Shutdown)
		time.Sleep(2 * time.Second)
		if open := tracker.Open(); len(open) > 0 {
			t.Errorf("open are %v", open)
		}
		want("when both are being ended", true)
		ended.Remove()
		ended.Ended()
		want("when one is being ended", true)
		due.Ended()
		due.Ended()
		want("at the end", false)
	})
}
