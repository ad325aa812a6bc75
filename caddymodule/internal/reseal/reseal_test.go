package reseal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// facts returns the keys of the facts about a messenger, sorted.
func facts(values map[string][]byte, name string) []string {
	keys := slices.Sorted(maps.Keys(values))
	return slices.DeleteFunc(keys, func(key string) bool {
		_, isBatch := vault.ParseKey(key)
		return !isBatch || !strings.HasPrefix(key, "messenger/"+name+"/")
	})
}

// Everything says the same afterwards as before, is sealed with the first key, and a second run finds nothing to do.
func TestResealingChangesTheKeyAndNothingElse(t *testing.T) {
	s := newStorage(t)
	var names []string
	for i := range 3 * together {
		names = append(names, fmt.Sprint("m", i))
	}
	create(t, newNode(t, oldKey), names...)
	s.set("messenger/_origin/origin", s.now()["messenger/_bell/bell"]) // it does not open at this key, and is named
	both := newNode(t, newKey, oldKey)
	before := make(map[string]string)
	for key := range s.now() {
		if value, err := both.Store.Load(t.Context(), key); err == nil {
			before[key] = string(value)
		}
	}
	done := complete(t, both, Options{})
	if done.Unreadable != 1 || done.Named[0].Kind != "origin" || done.Resealed < 3*len(names) {
		t.Errorf("it has done %+v", done)
	}
	if again := complete(t, both, Options{}); again.Resealed != 0 {
		t.Errorf("a second time %d values are sealed", again.Resealed)
	}
	last := newNode(t, newKey)
	for _, name := range names {
		for _, key := range facts(s.now(), name) {
			if value, err := last.Store.Load(t.Context(), key); err != nil || string(value) != before[key] {
				t.Fatalf("%s says something else: %v", key, err)
			}
		}
	}
	if complete(t, last, Options{Discard: true}).Discarded == 0 {
		t.Error("the origin is not replaced")
	}
	if left := complete(t, last, Options{Check: true}); left.Unreadable != 0 {
		t.Errorf("left are %+v", left.Named)
	}
}

// A value that another node removes while it is being resealed stays removed: between the reading of the messenger and the writing,
// the value is read once more.
func TestRemovedValueDoesNotReappear(t *testing.T) {
	s := newStorage(t)
	create(t, newNode(t, oldKey), "acme")
	gone := facts(s.now(), "acme")[0]
	var loads atomic.Int64
	s.hook(func(op, key string) error {
		if op == "load" && key == gone && loads.Add(1) == 2 {
			s.set(gone, nil)
		}
		return nil
	})
	complete(t, newNode(t, newKey, oldKey), Options{})
	if loads.Load() < 2 {
		t.Error("it was not read again")
	}
	if s.now()[gone] != nil {
		t.Error("it is there again")
	}
}

// The facts of a messenger that was deleted long ago are removed, and not sealed again. Only resealing can do that, because no node has
// the messenger in memory.
func TestObsoleteFactsAreRemoved(t *testing.T) {
	s := newStorage(t)
	old := newNode(t, oldKey)
	create(t, old, "acme", "bolt")
	if _, _, err := old.Remove(t.Context(), "acme", change.Condition{}); err != nil {
		t.Fatal(err)
	}
	count := len(facts(s.now(), "acme"))
	at(t, ledger.KeepUseless+time.Minute)
	done := complete(t, newNode(t, newKey, oldKey), Options{})
	if done.Removed != count-1 {
		t.Errorf("%d values are removed, want all %d but the deletion", done.Removed, count)
	}
	left := facts(s.now(), "acme")
	if len(left) != 1 || !strings.Contains(left[0], "/"+ledger.NameFolder+"/") {
		t.Errorf("left are %q", left)
	}
	if r, err := newNode(t, newKey).Record(t.Context(), "acme", ledger.KindStored); r != nil || err != nil {
		t.Errorf("the messenger is there again: %v", err)
	}
	if r, err := newNode(t, newKey).Record(t.Context(), "bolt", ledger.KindStored); r == nil || len(r.Tokens) != 1 {
		t.Errorf("another is gone: %v", err)
	}
}

// Only its writer knows the latest list. So a list is not sealed again, unless its writer has been silent for long.
func TestListsOfOtherNodesAreNotResealed(t *testing.T) {
	s := newStorage(t)
	create(t, newNode(t, oldKey), "acme")
	both := newNode(t, newKey, oldKey)
	written := ""
	s.hook(func(op, key string) error {
		if op == "store" && strings.HasPrefix(key, "messenger/_writers/") {
			written = key
		}
		return nil
	})
	if done := complete(t, both, Options{}); done.Left != 1 || written != "" {
		t.Errorf("%d lists are left, and %q is written", done.Left, written)
	}
	at(t, time.Hour)
	if done := complete(t, both, Options{}); done.Left != 0 || done.Resealed != 1 || written == "" {
		t.Errorf("after an hour: %+v", done)
	}
}

// A storage that fails stops a step, and what was done before it counts.
func TestStepStopsWhenTheStorageFails(t *testing.T) {
	s := newStorage(t)
	var names []string
	for i := range 3 * together {
		names = append(names, fmt.Sprintf("m%03d", i))
	}
	create(t, newNode(t, oldKey), names...)
	both := newNode(t, newKey, oldKey)
	away := errors.New("away")
	s.hook(func(op, key string) error {
		if op == "store" && strings.HasPrefix(key, "messenger/m090/") {
			return away
		}
		return nil
	})
	step, err := Run(t.Context(), both.Store, Options{})
	for ; err == nil && !step.Done && step.Resealed > 0; step, err = Run(t.Context(), both.Store, Options{After: step.After}) {
		if unit, err := parsePosition(step.After); err != nil || unit >= "m090" {
			t.Fatalf("it claims to have done %s", step.After)
		}
	}
	if !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	s.hook(nil)
	if done := complete(t, both, Options{}); done.Resealed == 0 || done.Unreadable > 0 {
		t.Errorf("afterwards: %+v", done)
	}
}

// What a newer version has written is never discarded, and neither is what the gateway has not written, which is named. A key that is
// listed without a value is discarded.
func TestOnlyUnreadableValuesAreDiscarded(t *testing.T) {
	s := newStorage(t)
	both := newNode(t, newKey, oldKey)
	create(t, both, "acme", "bolt", "cord")
	newer, gone := facts(s.now(), "acme")[0], "messenger/bolt/config/facts/aaaaaaaaaaaaaaaa-1"
	if err := both.Store.Save(t.Context(), newer, []byte(`{"format":2,"facts":[]}`)); err != nil {
		t.Fatal(err)
	}
	s.empty[gone] = true
	s.set("messenger/README", []byte("mine"))
	s.set("messenger/cord/4711", []byte("of a process that died"))
	for _, folder := range []string{"messenger/cord", "messenger/cord/name", "messenger/cord/name/facts", "messenger/gone"} { // of KeepListed, as after a crash
		s.set(folder+"/_listed", []byte("{}"))
	}
	s.set("messenger/cord/used-stored", []byte("{}"))
	done := complete(t, both, Options{Discard: true})
	var named []string
	for _, v := range done.Named {
		named = append(named, fmt.Sprint(v.Kind, " ", v.Key, " ", v.Discarded))
	}
	slices.Sort(named)
	want := []string{"configured " + gone + " true", "foreign messenger/README false", "last_use messenger/cord/used-stored true"}
	if !slices.Equal(named, want) || done.Discarded != 2 {
		t.Errorf("named are\n%s\nwant\n%s", strings.Join(named, "\n"), strings.Join(want, "\n"))
	}
	for _, key := range []string{newer, "messenger/README", "messenger/cord/4711"} {
		if s.now()[key] == nil {
			t.Errorf("%s is gone", key)
		}
	}
	if s.empty[gone] {
		t.Error("the key without a value is still listed")
	}
}

// A key that signs assertions is resealed, or discarded, as what it is. Keys that only look like those of a messenger, which anyone can
// write who has the storage, end no process, and markers of used tickets are not named: they are the gateway's.
func TestValuesOutsideMessengers(t *testing.T) {
	s := newStorage(t)
	both := newNode(t, newKey, oldKey)
	create(t, both, "acme")
	const signs, lost = "messenger/_assertion/facts/aaaaaaaaaaaaaaaa-1", "messenger/_assertion/facts/bbbbbbbbbbbbbbbb-1"
	if err := newNode(t, oldKey).Store.Save(t.Context(), signs, []byte(`{"format":1,"facts":[{}]}`)); err != nil {
		t.Fatal(err)
	}
	s.set(lost, s.now()["messenger/_bell/bell"]) // it does not open at this key
	s.set("messenger/_tickets/29928701/0123/aaaaaaaaaaaaaaaa", []byte("x"))
	for _, key := range []string{"_foo/stored", "_foo/tokens", "_foo/facts/aaaaaaaaaaaaaaaa-1", "_foo/config/facts/aaaaaaaaaaaaaaaa-1", "_keysets/facts/aaaaaaaaaaaaaaaa-1", "_keysets/stored"} {
		s.set("messenger/"+key, []byte("x"))
	}
	for _, discard := range []bool{false, true} {
		done := complete(t, both, Options{Discard: discard})
		for _, v := range done.Named {
			if ours := v.Key == lost && v.Kind == "assertion_key" && v.Discarded == discard; !ours && (v.Kind != "foreign" || strings.Contains(v.Key, "_tickets")) {
				t.Errorf("named is %+v", v)
			}
		}
		if want := map[bool]int{true: 1}[discard]; done.Discarded != want || done.Unreadable != 1 {
			t.Errorf("with discard %t: %+v", discard, done)
		}
	}
	if _, err := newNode(t, newKey).Store.Load(t.Context(), signs); err != nil {
		t.Errorf("the key that could be opened is not resealed: %v", err)
	}
	if s.now()[lost] != nil {
		t.Error("the key that could not be opened is still there")
	}
}

// With a wrong key nothing opens, and with the right one something does, wherever it is.
func TestWrongKeyOpensNothing(t *testing.T) {
	newStorage(t)
	create(t, newNode(t, oldKey), "acme", "zoe")
	for name, test := range map[string]struct {
		keys [][]byte
		want bool
	}{"the right one": {[][]byte{newKey, oldKey}, true}, "a wrong one": {[][]byte{wrongKey}, false}} {
		got, err := AnyOpens(t.Context(), newNode(t, test.keys...).Store)
		if err != nil || got != test.want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	wrong := newNode(t, wrongKey)
	create(t, wrong, "made-with-it")
	if got, err := AnyOpens(t.Context(), wrong.Store); !got || err != nil {
		t.Errorf("after a messenger was made with it: %v, %v", got, err)
	}
}

// A caller may go away while the names are read, and a storage may ignore that: what is still being read changes nothing that the caller
// has. Only the race detector sees it.
func TestCancelledCallSharesNoMemoryWithItsCaller(t *testing.T) {
	s := newStorage(t)
	reg := newNode(t, oldKey)
	for i := range maxForeign {
		s.set(fmt.Sprintf("messenger/%d foreign", i), []byte("x"))
	}
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		var lists atomic.Int32
		s.hook(func(op, key string) error {
			if op == "list" && key == vault.StoreRoot && lists.Add(1) == 2 { // after that of the messengers
				cancel()
			}
			return nil
		})
		if _, err := Run(ctx, reg.Store, Options{}); err == nil {
			t.Error("a caller that has gone away gets a result")
		}
		if lists.Load() < 2 {
			t.Fatal("the names are not read in the way that this test expects")
		}
	}
}
