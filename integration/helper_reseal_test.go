package integration

import (
	"maps"
	"slices"
)

// A resealed is what a step of resealing has done, or all of them.
type resealed struct {
	Values, Opened, Resealed, Removed, Left, Unreadable, Discarded, Foreign, Position, Of int

	Named []struct {
		Messenger, Kind, Key, Reason, Lost string
		Discarded                          bool
	}
	After string
	Done  bool
}

// kinds returns the kinds of the values that were named, sorted.
func (r resealed) kinds() []string {
	kinds := make(map[string]bool)
	for _, v := range r.Named {
		kinds[v.Kind] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// reseal takes steps until all is done, and returns what they have done.
func (o *operator) reseal(body map[string]any) (total resealed) {
	o.t.Helper()
	body = maps.Clone(body)
	if body == nil {
		body = make(map[string]any)
	}
	for {
		var step resealed
		decode(o.t, o.want(200, "POST", "reseal", body).body, &step)
		if step.After == body["after"] && !step.Done {
			o.t.Fatalf("a step does nothing: %+v", step)
		}
		total = total.plus(step)
		if step.Done {
			return total
		}
		body["after"] = step.After
	}
}

func (r resealed) plus(step resealed) resealed {
	step.Values += r.Values
	step.Opened += r.Opened
	step.Resealed += r.Resealed
	step.Removed += r.Removed
	step.Unreadable += r.Unreadable
	step.Discarded += r.Discarded
	step.Foreign += r.Foreign
	step.Named = append(r.Named, step.Named...)
	return step
}
