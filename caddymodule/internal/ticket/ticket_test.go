package ticket

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A shelf is a storage that all nodes share. Every call is one instant.
type shelf struct {
	mu      sync.Mutex
	markers map[string]map[string]bool // by minute and ticket, then by node
	calls   atomic.Int64
	broken  bool
	between func() // called between writing and listing
}

type node struct {
	*shelf
	name string
}

func (n node) Mark(_ context.Context, minute, id string) (bool, error) {
	n.calls.Add(1)
	n.mu.Lock()
	key := minute + "/" + id
	if n.broken {
		n.mu.Unlock()
		return false, errors.New("the storage is away")
	}
	if n.markers[key] == nil {
		n.markers[key] = make(map[string]bool)
	}
	n.markers[key][n.name] = true
	n.mu.Unlock()
	if n.between != nil {
		n.between()
	}
	n.calls.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.markers[key]) == 1, nil
}

func (n node) RemoveOwn(_ context.Context, minute string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, nodes := range n.markers {
		if !strings.HasPrefix(key, minute+"/") || !nodes[n.name] {
			continue
		}
		n.calls.Add(1)
		if delete(nodes, n.name); len(nodes) == 0 {
			delete(n.markers, key)
		}
	}
	return nil
}

func (n node) Minutes(context.Context) (minutes []string, _ error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.markers {
		minute, _, _ := strings.Cut(key, "/")
		minutes = append(minutes, minute)
	}
	return slices.Compact(slices.Sorted(slices.Values(minutes))), nil
}

func (n node) RemoveAll(_ context.Context, minute string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.markers {
		if strings.HasPrefix(key, minute+"/") {
			delete(n.markers, key)
		}
	}
	return nil
}

var (
	storeKey = []byte(strings.Repeat("k", 32))
	start    = time.Unix(1_700_000_000, 0)
)

func at(d time.Duration) func() time.Time { return func() time.Time { return start.Add(d) } }

func newDesk(t testing.TB, s *shelf, name string) *Desk {
	t.Helper()
	d, err := New([][]byte{storeKey}, node{s, name})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func give(t testing.TB, d *Desk) string {
	t.Helper()
	text, err := d.Give(Ticket{Messenger: "support", Path: "/files/7", Token: "a.b.c", Expires: start.Add(30 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// take opens and takes a ticket.
func take(d *Desk, text string, now func() time.Time) error {
	t, err := d.Open(text, now())
	if err != nil {
		return err
	}
	return d.Take(context.Background(), t, text, now) // each by another contact
}

// A ticket is used twice at the same instant, on one node and on two. There is never a second winner, and one that comes after
// the other has won or lost never wins.
func TestTicketIsUsedAtMostOnce(t *testing.T) {
	s := &shelf{markers: make(map[string]map[string]bool)}
	a, b := newDesk(t, s, "a"), newDesk(t, s, "b")
	alone, err := New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, desks := range map[string][2]*Desk{"on two nodes": {a, b}, "on one node": {a, a}, "without a store": {alone, alone}} {
		for range 1000 {
			text := give(t, desks[0])
			var won atomic.Int64
			var all sync.WaitGroup
			for _, d := range desks {
				all.Go(func() {
					switch err := take(d, text, at(0)); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, ErrUsed):
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			all.Wait()
			if won.Load() > 1 || won.Load() == 0 && desks[0] == desks[1] {
				t.Fatalf("%s: %d have won", name, won.Load())
			}
			for _, d := range desks {
				if err := take(d, text, at(time.Second)); !errors.Is(err, ErrUsed) {
					t.Fatalf("%s, afterwards: %v", name, err)
				}
			}
		}
	}
}

// The other node writes its marker between this node's writing and listing: none wins.
func TestSimultaneousUseSucceedsAtMostOnce(t *testing.T) {
	s := &shelf{markers: make(map[string]map[string]bool)}
	a, b := newDesk(t, s, "a"), newDesk(t, s, "b")
	text := give(t, a)
	s.between = func() {
		s.between = nil
		if err := take(b, text, at(0)); !errors.Is(err, ErrUsed) {
			t.Errorf("the other node: %v", err)
		}
	}
	if err := take(a, text, at(0)); !errors.Is(err, ErrUsed) {
		t.Errorf("this node: %v", err)
	}
}

// If the storage does not answer, the ticket cannot be used again: its marker may have been written.
func TestTicketIsRefusedWithoutTheStorage(t *testing.T) {
	s := &shelf{markers: make(map[string]map[string]bool), broken: true}
	d := newDesk(t, s, "a")
	text := give(t, d)
	if err := take(d, text, at(0)); err == nil || errors.Is(err, ErrUsed) {
		t.Errorf("without the store: %v", err)
	}
	s.broken = false
	if err := take(d, text, at(0)); !errors.Is(err, ErrUsed) {
		t.Errorf("afterwards: %v", err)
	}
}

// A node is suspended between opening and listing, and the markers of the first use were removed meanwhile.
func TestTicketThatExpiredDuringItsUse(t *testing.T) {
	s := &shelf{markers: make(map[string]map[string]bool)}
	a, b := newDesk(t, s, "a"), newDesk(t, s, "b")
	text := give(t, a)
	opened, err := b.Open(text, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := take(a, text, at(0)); err != nil {
		t.Fatal(err)
	}
	a.Tidy(t.Context(), start.Add(3*time.Hour))
	if len(s.markers) != 0 {
		t.Fatal("the marker is there still")
	}
	if err := b.Take(t.Context(), opened, "support\x00mark", at(3*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v", err)
	}
}

// Texts that an attacker makes up or changes: no storage, no memory.
func TestForgedTicketsUseNoStorage(t *testing.T) {
	s := &shelf{markers: make(map[string]map[string]bool)}
	d := newDesk(t, s, "a")
	text := give(t, d)
	other, err := New([][]byte{[]byte(strings.Repeat("x", 32))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := []string{"", "x", give(t, other), text + "A", text + "\n", text[:10] + "\r\n" + text[10:], text[:len(text)-4], strings.Repeat("A", 1<<20), text[:36] + strings.Repeat("A", 200)}
	for i := range text {
		for _, c := range "Ab_" {
			if byte(c) != text[i] {
				forged = append(forged, text[:i]+string(c)+text[i+1:])
			}
		}
	}
	for i := range 100_000 {
		f := forged[i%len(forged)]
		if err := take(d, f, at(0)); !errors.Is(err, errInvalid) && !errors.Is(err, ErrOtherKey) {
			t.Fatalf("text %d: got %v", i%len(forged), err)
		}
	}
	if n := s.calls.Load(); n != 0 || d.taken.count != 0 {
		t.Errorf("%d calls of the storage, %d tickets in memory", n, d.taken.count)
	}
	opened, err := d.Open(text, start)
	if err != nil || opened.Messenger != "support" || opened.Path != "/files/7" || opened.Token != "a.b.c" || !opened.Expires.Equal(start.Add(30*time.Second)) {
		t.Errorf("the true one: %+v, %v", opened, err)
	}
}

// A ticket after its time, and what is left of it: at most three calls of the storage for a use, and no marker after a while,
// also of a node that is gone.
func TestMarkersAreRemoved(t *testing.T) {
	s := &shelf{markers: make(map[string]map[string]bool)}
	a, gone := newDesk(t, s, "a"), newDesk(t, s, "gone")
	if err := take(a, give(t, a), at(30*time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
	const uses = 100
	for range uses {
		if err := take(a, give(t, a), at(0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(gone, give(t, gone), at(0)); err != nil {
		t.Fatal(err)
	}
	a.Tidy(t.Context(), start.Add(takenTime))
	if a.taken.count != uses || len(s.markers) != uses+1 {
		t.Errorf("too early: %d in memory, %d markers", a.taken.count, len(s.markers))
	}
	a.Tidy(t.Context(), start.Add(takenTime+2*time.Minute))
	if a.taken.count != 0 || len(s.markers) != uses+1 {
		t.Errorf("the memory alone: %d in memory, %d markers", a.taken.count, len(s.markers))
	}
	a.Tidy(t.Context(), start.Add(markerTime+2*time.Minute))
	if n := s.calls.Load(); len(s.markers) != 1 || n > 3*(uses+1) {
		t.Errorf("%d markers, %d calls", len(s.markers), n)
	}
	a.Tidy(t.Context(), start.Add(orphanTime+sweepInterval+2*time.Minute))
	if len(s.markers) != 0 {
		t.Errorf("%d markers of the node that is gone", len(s.markers))
	}
}

// Replacing the store key: tickets of the key before are still opened.
func TestTicketsOfThePreviousStoreKey(t *testing.T) {
	text := give(t, newDesk(t, new(shelf), "a"))
	d, err := New([][]byte{[]byte(strings.Repeat("n", 32)), storeKey}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(text, start); err != nil {
		t.Error(err)
	}
}

// BenchmarkOpen is what a ticket costs before anything else is done with it.
func BenchmarkOpen(b *testing.B) {
	d := newDesk(b, new(shelf), "a")
	text, err := d.Give(Ticket{Messenger: "support", Token: strings.Repeat("x", 500), Expires: start.Add(time.Minute)})
	if err != nil {
		b.Fatal(err)
	}
	forged := []byte(text)
	forged[len(forged)/2] ^= 1
	for name, text := range map[string]string{"valid": text, "forged": string(forged)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = d.Open(text, start)
			}
		})
	}
}
