package vault

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// The list of a writer is bounded in number and size, names the latest changes, and says what it does not name any more.
// What is about to be written stays in it.
func TestListIsBounded(t *testing.T) {
	for _, length := range []int{1, 200} {
		if length > 1 && testsize.Raced {
			continue // goroutines do the same with short names
		}
		t.Run(fmt.Sprintf("names of about %d bytes", length), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				v, w := newNode(t, m)
				hold := make(chan struct{})
				m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
					if _, isBatch := ParseKey(key); isBatch && op == "store" && strings.Contains(key, "held") {
						<-hold
					}
					return true, nil
				})
				var all sync.WaitGroup
				for i := range 3 {
					all.Go(func() { _, _ = w.Append(t.Context(), fmt.Sprintf("held%d/a", i), true, aFact(i)) })
				}
				synctest.Wait()
				f := begun(t, v)
				name := func(i int) string { return fmt.Sprintf("m%d%s/a", i, strings.Repeat("x", length)) }
				const many = maxListed + 100
				for i := range many {
					if _, err := w.Append(t.Context(), name(i), true, aFact(i)); err != nil {
						t.Fatal(err)
					}
					if i%100 != 99 {
						continue
					}
					text, err := v.Load(t.Context(), path.Join(writersFolder, w.ID))
					if err != nil || len(text) > maxListText {
						t.Fatalf("the list has %d bytes: %v", len(text), err)
					}
					list := listOf(t, v, w.ID)
					if len(list.Changes) > maxListed || list.Seq < uint64(i) {
						t.Fatalf("the list has %d entries, and the number %d", len(list.Changes), list.Seq)
					}
					pending := 0
					for _, e := range list.Changes {
						if e.Pending {
							pending++
						} else if e.Seq <= list.Dropped {
							t.Fatalf("the list has %+v, and says that it has dropped all up to %d", e, list.Dropped)
						}
					}
					if _, found := list.entryOf(name(i)); !found || pending != 3 {
						t.Fatalf("the list does not have the last change, or %d of 3 that are about to be made", pending)
					}
				}
				if _, complete, err := f.Poll(t.Context()); complete || err != nil {
					t.Errorf("the follower fell behind by %d changes and takes that for complete: %v", many, err)
				}
				close(hold)
				all.Wait()
				for _, e := range listOf(t, v, w.ID).Changes {
					if e.Pending {
						t.Errorf("%+v is not pending any more", e)
					}
				}
			})
		})
	}
}

// The lists of writers that are silent for a day are removed, with what a dead one has left in a listing. Others stay, and so
// does every batch that is there.
func TestTidyRemovesListsOfSilentWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, _ := newNode(t, m)
		day := time.Now().Add(-maxSilent - time.Minute)
		there, lost := Key{"acme/a", writerA, 1}, Key{"bolt/a", writerA, 2}
		if err := v.SaveBatch(t.Context(), there, aFact(1)); err != nil {
			t.Fatal(err)
		}
		saveList(t, v, writerA, changeList{Seq: 3, At: day, Changes: []entry{
			{Folder: "acme/a", Seq: 2, Last: 1, Pending: true}, {Folder: "bolt/a", Seq: 3, Last: 2, Pending: true},
		}})
		saveList(t, v, writerB, changeList{Seq: 1, At: day.Add(2 * time.Minute)})
		saveList(t, v, "cccccccccccccccc", changeList{Seq: 1, At: day})
		if pending, err := v.IsPending(t.Context(), lost); !pending || err != nil {
			t.Errorf("%s was about to be written: %v, %v", lost, pending, err)
		}
		if pending, err := v.IsPending(t.Context(), Key{"bolt/a", writerA, 1}); pending || err != nil {
			t.Errorf("an earlier batch was written: %v, %v", pending, err)
		}
		var deleted []string
		m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
			if op == "delete" {
				deleted = append(deleted, key)
			}
			return true, nil
		})
		f := NewFollower(v, "cccccccccccccccc")
		if err := f.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []string{lost.String(), path.Join(writersFolder, writerA)}; !slices.Equal(deleted, want) {
			t.Errorf("deleted were %q, want %q", deleted, want)
		}
		if m.get(there.String()) == nil {
			t.Error("a batch that is there was removed")
		}
	})
}

// A list that cannot be opened says nothing about when it was written. It is removed after it has been the same for a day.
func TestTidyRemovesUnreadableLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, _ := newNode(t, m)
		lost := New(mustSealer(t, sealKeyBytes(9)), func() {})
		lost.Use(m)
		key := path.Join(writersFolder, writerA)
		f := begun(t, v)
		for seq := range uint64(2) {
			saveList(t, lost, writerA, changeList{Seq: seq + 1})
			wait := maxSilent
			notify(t, v)
			wantPoll(t, f, "incomplete")
			time.Sleep(wait - time.Hour)
			if err := f.Tidy(t.Context()); err != nil || m.get(key) == nil {
				t.Fatalf("it was removed although its writer may be there: %v", err)
			}
		}
		time.Sleep(2 * time.Hour)
		if err := f.Tidy(t.Context()); err != nil || m.get(key) != nil {
			t.Errorf("it stays for good: %v", err)
		}
	})
}
