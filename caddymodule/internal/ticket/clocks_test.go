package ticket

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// A node's clock is behind the other's by up to an hour. By this clock a ticket that was used on the other node is valid
// for that much longer. It has to stay used for all of that time, whichever node has removed old markers.
func TestUsedTicketStaysUsedWhereTheClockIsBehind(t *testing.T) {
	for _, behind := range []time.Duration{0, time.Minute, 31 * time.Minute, clockDifference} {
		for passed := time.Duration(0); passed < behind+2*time.Minute; passed += 10 * time.Second {
			s := &shelf{markers: make(map[string]map[string]bool)}
			first, second, third := newDesk(t, s, "first"), newDesk(t, s, "second"), newDesk(t, s, "third")
			text := give(t, first)
			if err := take(first, text, at(0)); err != nil {
				t.Fatal(err)
			}
			for minute := time.Duration(0); minute <= passed; minute += time.Minute {
				first.Tidy(t.Context(), start.Add(minute))
				third.Tidy(t.Context(), start.Add(minute))
			}
			want := ErrUsed
			if passed-behind >= 30*time.Second {
				want = ErrExpired
			}
			if err := take(second, text, at(passed-behind)); !errors.Is(err, want) {
				t.Fatalf("%s behind, after %s: got %v, want %v", behind, passed, err, want)
			}
		}
	}
}

// Three nodes whose clocks differ by up to an hour, and jump within it, use the same tickets at any time and tidy as they like. No
// ticket has two winners.
func TestTicketIsUsedAtMostOnceWithDifferingClocks(t *testing.T) {
	const rounds, steps = 200, 400
	won := 0
	for round := range rounds {
		random := rand.New(rand.NewPCG(uint64(round), 0))
		s := &shelf{markers: make(map[string]map[string]bool)}
		var desks [3]*Desk
		var offsets [3]time.Duration
		for i := range desks {
			desks[i] = newDesk(t, s, string(rune('a'+i)))
		}
		var texts []string
		winners := map[string]int{}
		now := start
		for step := range steps {
			now = now.Add(time.Duration(random.Int64N(int64(30 * time.Second))))
			i := random.IntN(len(desks))
			local := func() time.Time { return now.Add(offsets[i]) }
			switch random.IntN(6) {
			case 0:
				offsets[i] = time.Duration(random.Int64N(int64(clockDifference))) - clockDifference/2
			case 1:
				desks[i].Tidy(t.Context(), local())
			case 2:
				text, err := desks[i].Give(Ticket{Messenger: "support", Expires: local().Add(time.Duration(1+random.IntN(300)) * time.Second)})
				if err != nil {
					t.Fatal(err)
				}
				texts = append(texts, text)
			default:
				if len(texts) == 0 {
					continue
				}
				text := texts[max(0, len(texts)-1-random.IntN(5))]
				if take(desks[i], text, local) == nil {
					won++
					if winners[text]++; winners[text] > 1 {
						t.Fatalf("round %d, step %d: a ticket is taken twice", round, step)
					}
				}
			}
		}
	}
	if won < rounds*steps/20 {
		t.Errorf("only %d tickets were taken at all", won)
	}
}

// A node's clock is set back after it has forgotten a ticket.
func TestUsedTicketStaysUsedWhenTheClockIsSetBack(t *testing.T) {
	d, err := New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := give(t, d)
	if err := take(d, text, at(0)); err != nil {
		t.Fatal(err)
	}
	d.Tidy(t.Context(), start.Add(time.Hour))
	if err := take(d, text, at(0)); d.taken.count != 0 || !errors.Is(err, ErrExpired) {
		t.Errorf("%d in memory, %v", d.taken.count, err)
	}
}
