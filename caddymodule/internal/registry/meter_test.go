package registry

import (
	"testing"
)

// A reload, and a change of a stored messenger, keep what was counted; a messenger that is gone takes its figures along.
func TestMetersSurviveReloads(t *testing.T) {
	take := func(stored bool) *Messenger {
		m := &Messenger{Name: "support", Stored: stored}
		m.acquireMeter()
		return m
	}
	before := take(false)
	after, stranger := take(false), take(true)
	before.cleanup()
	before.cleanup() // a second time takes nothing
	if next := take(false); next.Meter != before.Meter || after.Meter != before.Meter {
		t.Error("the figures do not outlive a reload")
	} else {
		next.cleanup()
	}
	if stranger.Meter == after.Meter {
		t.Error("a stored messenger gets the figures of a configured one")
	}
	after.cleanup()
	stranger.cleanup()
	if again := take(false); again.Meter == before.Meter {
		t.Error("the figures outlive their messenger")
	} else {
		again.cleanup()
	}
}
