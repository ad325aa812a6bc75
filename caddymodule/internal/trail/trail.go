// Package trail remembers who changed what, in bounded memory: a [Trail] has the latest entries of the audit log for each messenger,
// so that people who do not see the log can look at them. An [Action] is a change as that log calls it.
//
// It knows the standard library only. Begin reading with [Trail].
package trail

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxEntries is how many entries of one messenger are remembered, and maxByContacts how many of these are of contacts, who can
	// log out as often as they like: they must not push out what operators did.
	maxEntries    = 60
	maxByContacts = 20

	// maxMessengers is for how many messengers entries are remembered.
	maxMessengers = 500
)

// An Entry is one entry of the audit log.
type Entry struct {
	At      time.Time
	Action  Action
	By      string
	Contact bool // it was made by a contact
	Details []Detail
}

// A Detail is a part of an entry besides its action, such as the number of connections that were ended.
type Detail struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Trail has the latest entries of each messenger, in the order in which they were added. It is safe for concurrent use; the zero
// Trail is empty.
type Trail struct {
	mu      sync.Mutex
	entries map[string][]Entry
}

// Add adds an entry of a messenger. The oldest one is forgotten if there are too many, and of too many messengers, the one whose
// last entry is the oldest.
func (t *Trail) Add(messenger string, e Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries == nil {
		t.entries = make(map[string][]Entry)
	}
	list := append(t.entries[messenger], e)
	t.entries[messenger] = slices.Clip(shorten(list))
	if len(t.entries) <= maxMessengers {
		return
	}
	oldest, at := "", time.Time{}
	for name, list := range t.entries {
		if last := list[len(list)-1].At; name != messenger && (oldest == "" || last.Before(at)) {
			oldest, at = name, last
		}
	}
	delete(t.entries, oldest)
}

// shorten removes the oldest entry if there are too many, at first those of contacts.
func shorten(list []Entry) []Entry {
	byContacts := 0
	for _, e := range list {
		if e.Contact {
			byContacts++
		}
	}
	switch {
	case byContacts > maxByContacts:
		at := slices.IndexFunc(list, func(e Entry) bool { return e.Contact })
		return slices.Delete(list, at, at+1)
	case len(list) > maxEntries:
		return slices.Delete(list, 0, 1)
	}
	return list
}

// Of returns the entries of a messenger, the latest first.
func (t *Trail) Of(messenger string) []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.Clone(t.entries[messenger])
	slices.Reverse(list)
	return list
}
