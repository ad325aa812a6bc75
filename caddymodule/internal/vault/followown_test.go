package vault

import (
	"path"
	"testing"
	"testing/synctest"
	"time"
)

// A storage that is restored from a backup without the last change of this node is noticed, whenever the restore comes between the polls
// and the ticks with which the writer repeats its list.
func TestLostListIsNoticed(t *testing.T) {
	for name, test := range map[string]struct {
		pollBefore bool          // the change is polled before the restore
		wait       time.Duration // from the change to the restore
		gone       bool          // the restored storage has no list
	}{
		"at once":                                 {},
		"at once, without the list":               {gone: true},
		"after a poll":                            {pollBefore: true},
		"after the list was repeated":             {wait: 3 * RetryInterval},
		"after all repetitions":                   {wait: time.Hour},
		"after all repetitions, without the list": {wait: time.Hour, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				v, w := newNode(t, m)
				f := NewFollower(v, w.ID)
				f.Confirmed, f.HasLostList = w.Confirmed, w.HasLostList
				own := path.Join(writersFolder, w.ID)
				mustAppend(t, w)
				if err := f.Begin(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				for range 2 * listEvery {
					wantPoll(t, f, "")
				}
				before, notification := m.get(own), m.get(NotificationKey)
				mustAppend(t, w)
				if test.pollBefore {
					wantPoll(t, f, "")
				}
				time.Sleep(test.wait)
				if test.gone {
					before = nil
				}
				m.set(own, before)
				m.set(NotificationKey, notification)
				time.Sleep(2*RetryInterval + time.Second) // the list is repeated before the next poll, if it is at all
				noticed := 0
				for range 3 * listEvery {
					if polled(t, f) == "incomplete" {
						noticed++
					}
				}
				if noticed != 1 {
					t.Errorf("it was noticed %d times", noticed)
				}
			})
		})
	}
}

func mustAppend(t *testing.T, w *Writer) {
	t.Helper()
	if _, err := w.Append(t.Context(), "acme/a", false, aFact(1)); err != nil {
		t.Fatal(err)
	}
}
