package ticket

import (
	"errors"
	"testing"
	"time"
)

// One contact uses tickets as fast as it can. It is refused at its limit, which leaves room for all others, and may go on when
// these tickets are forgotten. Contacts together have a limit as well, and what has no room is refused.
func TestUsedTicketsAreBounded(t *testing.T) {
	d, err := New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	use := func(contact string, after time.Duration) error {
		text, err := d.Give(Ticket{Expires: start.Add(after + MaxLifetime)})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := d.Open(text, start.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return d.Take(t.Context(), opened, contact, at(after))
	}
	for n := range 3 * maxOfContact {
		after := time.Duration(n) * 100 * time.Millisecond // over the boundary of a minute
		if err := use("support\x00eve", after); n < maxOfContact && err != nil || n >= maxOfContact && !errors.Is(err, ErrTooMany) {
			t.Fatalf("use %d: %v", n, err)
		}
	}
	for _, other := range []string{"support\x00mark", "sales\x00eve"} {
		if err := use(other, 0); err != nil {
			t.Errorf("%q is refused with it: %v", other, err)
		}
	}
	later := MaxLifetime + takenTime + 3*time.Minute
	d.Tidy(t.Context(), start.Add(later))
	if err := use("support\x00eve", later); err != nil || len(d.taken.minutes) != 1 {
		t.Errorf("later: %v, %d minutes in memory", err, len(d.taken.minutes))
	}
	d.taken.count = maxTaken
	if err := use("support\x00mark", later); !errors.Is(err, errFull) {
		t.Errorf("with no room: %v", err)
	}
}
