package ledger

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// version returns the current version of the settings, or nil. It is the confirmed one with the longest history, followed by
// versions that are not confirmed: their writers may have died before they could. Of several the latest counts, and of those
// of one instant the one with the greatest ID, so that all nodes agree.
func (l *ledger) version() *Fact {
	var current *Fact
	var open []*Fact
	for _, f := range l.versions {
		switch {
		case l.confirmed[f.ID]:
			if current == nil || compareVersions(f, current) > 0 {
				current = f
			}
		case !l.withdrawn[f.ID]:
			open = append(open, f)
		}
	}
	slices.SortFunc(open, compareVersions)
	for _, f := range open { // children come after their parents
		last := current == nil && f.Parent == "" || current != nil && f.Parent == current.ID
		sibling := current != nil && !l.confirmed[current.ID] && f.Parent == current.Parent
		if last || sibling {
			current = f
		}
	}
	return current
}

func compareVersions(a, b *Fact) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
}

// children returns the versions with this parent, whose number is the next one. That holds for all that a gateway has written, and
// no others can follow each other in a circle.
func (l *ledger) children(parent string, number uint64) (versions []*Fact) {
	for _, f := range l.versions {
		if f.Parent == parent && f.Number == number {
			versions = append(versions, f)
		}
	}
	return versions
}

// parent returns the version that v was made from, or nil.
func (l *ledger) parent(v *Fact) *Fact {
	if p := l.versions[v.Parent]; p != nil && p.Number < v.Number {
		return p
	}
	return nil
}

// follows reports whether v was made from the version of that ID, directly or not, and the versions between them are there.
func (l *ledger) follows(v *Fact, id string) bool {
	for p := l.parent(v); p != nil; p = l.parent(p) {
		if p.ID == id {
			return true
		}
	}
	return false
}

// isProof reports whether a version that counts, or may count later, needs f to show that it was made from a version that has removed a
// key, which it names again without knowing of that fact; see hasDropped.
func (l *ledger) isProof(f *Fact) bool {
	if len(l.dropped) == 0 {
		return false
	}
	for _, v := range l.versions {
		if l.mayCount(v) && l.follows(v, f.ID) && l.needsProof(v, f) {
			return true
		}
	}
	return false
}

// needsProof reports whether v names a key that f, or a version before f, has removed.
func (l *ledger) needsProof(v, f *Fact) bool {
	settings := new(config.Messenger)
	_ = json.Unmarshal(v.Settings, settings) // what cannot be read names no key
	isFrom := func(id string) bool { return f.ID == id || l.follows(f, id) }
	for _, hash := range keyHashes(settings) {
		if slices.ContainsFunc(l.dropped[hash], func(d *Fact) bool { return !slices.Contains(v.Knows, d.ID) && slices.ContainsFunc(d.Of, isFrom) }) {
			return true
		}
	}
	return false
}

// mayCount reports whether a version counts, or may count later: it is not withdrawn, or another one that does follows it.
func (l *ledger) mayCount(v *Fact) bool {
	return !l.withdrawn[v.ID] || l.confirmed[v.ID] || slices.ContainsFunc(l.children(v.ID, v.Number+1), l.mayCount)
}

// candidate returns the current version, or any that may become the current one, or nil.
func (l *ledger) candidate() *Fact {
	if v := l.version(); v != nil {
		return v
	}
	for _, v := range l.versions {
		if l.mayCount(v) {
			return v
		}
	}
	return nil
}

// number returns the number of the current settings, or 0 if there are none.
func (l *ledger) number() uint64 {
	if v := l.version(); v != nil {
		return v.Number
	}
	return 0
}
