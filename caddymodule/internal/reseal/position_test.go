package reseal

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
)

// A position that was misspelled, or made up, would leave out what is before it, and say that everything is done: the old store key is
// then removed, and what was left out cannot be opened any more.
func TestUnknownPositionIsRefused(t *testing.T) {
	s := newStorage(t)
	create(t, newNode(t, oldKey), "acme", "zoe")
	both := newNode(t, newKey, oldKey)
	before := len(s.now())
	given := positionAfter("acme")
	for _, after := range []string{
		"zzz", "acme", "a", "_bell", "_keysets/x", "-", "-acme", "00000000-acme", "no such thing", given + " ", " " + given, given[:len(given)-1], given + "x",
		given[1:], "\xff", "Zoe", given + "\n", positionAfter(""), positionAfter("a/b")[:9] + "a/b",
	} {
		for _, o := range []Options{{After: after}, {After: after, Check: true}, {After: after, Discard: true, Adopt: true}} {
			if step, err := Run(t.Context(), both.Store, o); !errors.Is(err, ErrPosition) || step.Done {
				t.Errorf("%+v: %+v, %v", o, step, err)
			}
		}
	}
	if len(s.now()) != before {
		t.Error("something was changed")
	}
	if done := complete(t, both, Options{}); done.Resealed == 0 {
		t.Error("nothing was left to be resealed")
	}
}

// The position of a step is accepted, whatever has become of the unit that it names: messengers are deleted while a run is interrupted.
// Foreign values can have any name, and the command prints a position as a part of a command line.
func TestPositionOfAStepIsAccepted(t *testing.T) {
	s := newStorage(t)
	old := newNode(t, oldKey)
	var names []string
	for i := range 2 * together {
		names = append(names, fmt.Sprintf("m%03d", i))
	}
	create(t, old, names...)
	both := newNode(t, newKey, oldKey)
	positions := []string{""}
	away := errors.New("away")
	for _, last := range []string{"m040", "m063"} {
		s.hook(func(op, key string) error {
			if op == "store" && len(facts(map[string][]byte{key: nil}, last)) > 0 {
				return away
			}
			return nil
		})
		for {
			step, err := Run(t.Context(), both.Store, Options{After: positions[len(positions)-1]})
			if err != nil || step.Done {
				break
			}
			positions = append(positions, step.After)
		}
	}
	s.hook(nil)
	if len(positions) < 2 {
		t.Fatal("no step was interrupted")
	}
	for _, name := range names[:together] {
		if _, _, err := old.Remove(t.Context(), name, change.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	at(t, time.Hour)
	for _, position := range positions {
		if _, err := Run(t.Context(), both.Store, Options{After: position}); err != nil {
			t.Errorf("%q: %v", position, err)
		}
	}
}

func TestPositionIsSafeInAShell(t *testing.T) {
	for _, unit := range []string{"acme", "_keysets/aaaa", "$(reboot)", "a b;c|d&e'f\"g`h", "\xff\x00", "*?[~", "-x", "z%20"} {
		position := positionAfter(unit)
		for _, c := range []byte(position) {
			if letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'; !letter && c != '-' && c != '_' && c != '%' && c != '+' && c != '.' && c != '~' {
				t.Errorf("%q: the position %q has %q", unit, position, c)
			}
		}
		if got, err := parsePosition(position); got != unit || err != nil {
			t.Errorf("%q: got %q, %v", unit, got, err)
		}
	}
	if unit, err := parsePosition(""); unit != "" || err != nil {
		t.Errorf("the beginning: %q, %v", unit, err)
	}
}
