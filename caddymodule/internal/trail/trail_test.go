package trail

import (
	"fmt"
	"testing"
	"time"
)

func entry(i int, contact bool) Entry {
	return Entry{At: time.Unix(int64(i), 0), By: fmt.Sprint(i), Contact: contact}
}

// A contact logs out again and again, and another messenger is changed again and again: what an operator did at this one is
// still there.
func TestClientEventsDoNotEvictOperatorEntries(t *testing.T) {
	var trail Trail
	trail.Add("acme", entry(1, false))
	for i := range 1000 {
		trail.Add("acme", entry(10+i, true))
		trail.Add("other", entry(10+i, false))
	}
	got := trail.Of("acme")
	if len(got) != 1+maxByContacts || got[len(got)-1].By != "1" || got[0].By != "1009" {
		t.Errorf("got %d entries, the last %+v", len(got), got[len(got)-1])
	}
	if got := trail.Of("other"); len(got) != maxEntries || got[0].By != "1009" || got[maxEntries-1].By != fmt.Sprint(1010-maxEntries) {
		t.Errorf("got %d entries, %+v", len(got), got)
	}
	if got := trail.Of("nothing"); len(got) != 0 {
		t.Errorf("got %+v of a messenger without entries", got)
	}
}

// The messenger whose last entry is the oldest is forgotten first, and never the one that was just added.
func TestMemoryIsBounded(t *testing.T) {
	var trail Trail
	trail.Add("busy", entry(0, false))
	for i := range 2 * maxMessengers {
		trail.Add(fmt.Sprintf("site-%d", i), entry(i+1, false))
		trail.Add("busy", entry(i+1, false))
	}
	if n := len(trail.entries); n != maxMessengers {
		t.Errorf("entries of %d messengers are remembered, want %d", n, maxMessengers)
	}
	for name, want := range map[string]bool{"busy": true, "site-0": false, fmt.Sprintf("site-%d", 2*maxMessengers-1): true} {
		if got := len(trail.Of(name)) > 0; got != want {
			t.Errorf("%s is remembered: %t", name, got)
		}
	}
	trail.Add("early", entry(-5, false)) // a clock that was set back
	if len(trail.Of("early")) != 1 {
		t.Error("the entry that was just added is forgotten")
	}
}
