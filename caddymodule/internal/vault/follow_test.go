package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	writerA = "aaaaaaaaaaaaaaaa"
	writerB = "bbbbbbbbbbbbbbbb"
)

// saveList stores the list of a writer as that one would, without ringing.
func saveList(t *testing.T, v *Vault, writer string, list changeList) {
	t.Helper()
	list.Format = Format
	if list.At.IsZero() {
		list.At = time.Now()
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Save(t.Context(), path.Join(writersFolder, writer), text); err != nil {
		t.Fatal(err)
	}
}

var rings int

func ring(t *testing.T, v *Vault) {
	t.Helper()
	rings++
	if err := v.Save(t.Context(), bellKey, fmt.Appendf(nil, `"%d"`, rings)); err != nil {
		t.Fatal(err)
	}
}

// polled polls once, and returns the folders that have changed, and " incomplete" if that is not all.
func polled(t *testing.T, f *Follower) string {
	t.Helper()
	changes, complete, err := f.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, c := range changes {
		word := fmt.Sprintf("%s:%s-%d", c.Key.Folder, c.Key.Writer[:1], c.Key.Number)
		if c.Pending {
			word += "?"
		}
		words = append(words, word)
	}
	slices.Sort(words)
	if !complete {
		words = append(words, "incomplete")
	}
	return strings.Join(words, " ")
}

func begun(t *testing.T, v *Vault) *Follower {
	t.Helper()
	f := NewFollower(v, "own")
	if err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// What happens to lists and the bell, and what a follower says after it.
func TestAFollowerMissesNothing(t *testing.T) {
	acme := entry{Folder: "acme/a", Seq: 1, Last: 1}
	bolt := entry{Folder: "bolt/a", Seq: 2, Last: 1}
	for name, test := range map[string]func(t *testing.T, m *memory, v *Vault){
		"what is there at the beginning is read with everything else": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			ring(t, v)
			f := begun(t, v)
			wantPoll(t, f, "")
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			ring(t, v)
			wantPoll(t, f, "bolt/a:a-1")
			wantPoll(t, f, "")
		},
		"a change between the bell and the lists at the beginning is not missed": func(t *testing.T, m *memory, v *Vault) {
			heard := false
			m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
				if op == "list" && key == writersFolder && !heard {
					heard = true
					saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
					ring(t, v)
				}
				return true, nil
			})
			f := begun(t, v)
			// The messenger is read after this, so that its change may be known; what comes later is told.
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			wantPoll(t, f, "bolt/a:a-1")
		},
		"a storage that is away at the beginning": func(t *testing.T, m *memory, v *Vault) {
			m.fail(func(context.Context, string, string, []byte) (bool, error) { return false, errFault })
			f := NewFollower(v, "own")
			if err := f.Begin(t.Context()); err == nil {
				t.Error("Begin says nothing")
			}
			if _, _, err := f.Poll(t.Context()); err == nil {
				t.Error("Poll says nothing")
			}
			m.fail(nil)
			wantPoll(t, f, "incomplete") // something may have been read meanwhile
			wantPoll(t, f, "")
		},
		"without a ring, the lists are read after some polls": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			for range listEvery - 1 {
				wantPoll(t, f, "")
			}
			wantPoll(t, f, "acme/a:a-1")
		},
		"at rest, a poll reads the bell and nothing else": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			ring(t, v)
			f := begun(t, v)
			var asked []string
			m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
				asked = append(asked, op+" "+key)
				return true, nil
			})
			for range 5 {
				wantPoll(t, f, "")
			}
			if len(asked) != 5 || asked[0] != "load "+bellKey {
				t.Errorf("it asked for %q", asked)
			}
		},
		"a late duplicate of an older list is ignored, and so is one of the bell": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			ring(t, v)
			oldList, oldBell := m.get(path.Join(writersFolder, writerA)), m.get(bellKey)
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			ring(t, v)
			wantPoll(t, f, "bolt/a:a-1")
			m.set(path.Join(writersFolder, writerA), oldList)
			m.set(bellKey, oldBell)
			wantPoll(t, f, "")
			for range listEvery {
				wantPoll(t, f, "")
			}
		},
		"an error repeats nothing and loses nothing": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			saveList(t, v, writerB, changeList{Seq: 2, Changes: []entry{bolt}})
			ring(t, v)
			for _, broken := range []string{bellKey, writersFolder, path.Join(writersFolder, writerA), path.Join(writersFolder, writerB)} {
				m.fail(func(_ context.Context, _, key string, _ []byte) (bool, error) {
					return key != broken, map[bool]error{true: errFault}[key == broken]
				})
				if changes, _, err := f.Poll(t.Context()); err == nil || len(changes) > 0 {
					t.Errorf("%s cannot be read: got %v, %v", broken, changes, err)
				}
			}
			m.fail(nil)
			wantPoll(t, f, "acme/a:a-1 bolt/a:b-1")
		},
		"a follower that fell behind says so": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 700, Dropped: 600, Changes: []entry{{Folder: "acme/a", Seq: 700, Last: 3}}})
			ring(t, v)
			wantPoll(t, f, "acme/a:a-3 incomplete")
			saveList(t, v, writerA, changeList{Seq: 800, Dropped: 700, Changes: []entry{{Folder: "acme/a", Seq: 800, Last: 4}}})
			ring(t, v)
			wantPoll(t, f, "acme/a:a-4")
		},
		"a bell that vanished means that the storage went back": func(t *testing.T, m *memory, v *Vault) {
			ring(t, v)
			f := begun(t, v)
			m.set(bellKey, nil)
			wantPoll(t, f, "incomplete")
			wantPoll(t, f, "")
		},
		"what is about to be changed is told, and again when it is": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{{Folder: "acme/a", Seq: 1, Last: 1, Pending: true}}})
			ring(t, v)
			wantPoll(t, f, "acme/a:a-1?")
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{{Folder: "acme/a", Seq: 2, Last: 1}}})
			ring(t, v)
			wantPoll(t, f, "acme/a:a-1")
		},
		"a list that is damaged, newer, or of strange content makes nothing fail": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			for text, want := range map[string]string{
				`{`: "incomplete", `null`: "incomplete", `[]`: "incomplete", `{"format":2,"seq":9}`: "incomplete",
				`{"format":1,"seq":1,"changes":[null]}`: "", `{"format":1,"seq":2,"changes":null}`: "",
				`{"format":1,"seq":3,"changes":[{"folder":"../../x","seq":3,"last":18446744073709551615}]}`: "../../x:a-18446744073709551615",
			} {
				f.seen = make(map[string]uint64)
				if err := v.Save(t.Context(), path.Join(writersFolder, writerA), []byte(text)); err != nil {
					t.Fatal(err)
				}
				ring(t, v)
				t.Log(text)
				wantPoll(t, f, want)
				if _, err := v.IsPending(t.Context(), Key{"acme/a", writerA, 1}); err != nil {
					t.Error(err)
				}
				if err := f.Tidy(t.Context()); err != nil {
					t.Error(err)
				}
			}
			m.set(path.Join(writersFolder, writerA), []byte("not sealed"))
			m.set(bellKey, []byte("not sealed"))
			wantPoll(t, f, "incomplete")
		},
		"foreign names are left alone": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			for _, name := range []string{"2734522345234523", "3719283746", "README", "lost+found", "note", writerA + "x", writerA + ".bak"} {
				m.set(path.Join(writersFolder, name), []byte("something else"))
			}
			ring(t, v)
			wantPoll(t, f, "")
		},
		"a list that the storage denies is read again with the next poll": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			ring(t, v)
			m.denied = path.Join(writersFolder, writerA)
			wantPoll(t, f, "")
			m.denied = ""
			wantPoll(t, f, "bolt/a:a-1")
		},
		"a list that was removed and comes back is read as a new one": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 5, Changes: []entry{acme}})
			f := begun(t, v)
			m.set(path.Join(writersFolder, writerA), nil)
			ring(t, v)
			wantPoll(t, f, "")
			saveList(t, v, writerA, changeList{Seq: 5, Dropped: 3, Changes: []entry{acme}})
			ring(t, v)
			wantPoll(t, f, "acme/a:a-1 incomplete")
		},
		"the own list is not told": func(t *testing.T, m *memory, v *Vault) {
			f := NewFollower(v, writerA)
			if err := f.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			ring(t, v)
			wantPoll(t, f, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			v, _ := newNode(t, m)
			test(t, m, v)
		})
	}
}

func wantPoll(t *testing.T, f *Follower, want string) {
	t.Helper()
	if got := polled(t, f); got != want {
		t.Errorf("the follower says %q, want %q", got, want)
	}
}

// The list of a writer is bounded in number and size, names the latest changes, and says what it does not name any more.
// What is about to be written stays in it.
func TestAListIsBounded(t *testing.T) {
	for _, length := range []int{1, 200} {
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
func TestTidyRemovesWhatIsSilent(t *testing.T) {
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

// A storage that ignores its context holds calls for ever. Each caller is told after the timeout, no more calls than maxCalls
// are left running, and when the storage answers again, so does the vault.
func TestCallsThatIgnoreTheirContextAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, _ := newNode(t, m)
		hold := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		m.fail(func(context.Context, string, string, []byte) (bool, error) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-hold
			mu.Lock()
			running--
			mu.Unlock()
			return true, nil
		})
		began := time.Now()
		var all sync.WaitGroup
		for i := range maxCalls + 100 {
			all.Go(func() {
				if _, err := v.Load(t.Context(), fmt.Sprint("messenger/m", i)); !errors.Is(err, errTimeout) && !errors.Is(err, errCalls) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != StoreTimeout {
			t.Errorf("the callers were told after %s, want %s", took, StoreTimeout)
		}
		if most != maxCalls {
			t.Errorf("%d calls were running, want %d", most, maxCalls)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := v.Load(ctx, "messenger/x"); err == nil || time.Since(began) != time.Second {
			t.Errorf("the caller's own context: %v after %s", err, time.Since(began))
		}
		close(hold)
		synctest.Wait()
		m.fail(nil)
		if err := v.Save(t.Context(), "messenger/x", []byte("{}")); err != nil {
			t.Errorf("the storage works again: %v", err)
		}
		if running != 0 || len(v.calls) != 0 {
			t.Errorf("%d calls are left, and %d counted", running, len(v.calls))
		}
	})
}

// A storage module that panics ends neither the process nor the vault.
func TestAPanicInTheStorageIsAnError(t *testing.T) {
	synctest.Test(t, panicInTheStorage)
}

func panicInTheStorage(t *testing.T) {
	m := newMemory()
	v, _ := newNode(t, m)
	m.fail(func(context.Context, string, string, []byte) (bool, error) { panic("boom") })
	_, loaded := v.Load(t.Context(), "messenger/x")
	_, listed := v.List(t.Context(), "messenger", true)
	for name, err := range map[string]error{
		"Load": loaded, "List": listed, "Save": v.Save(t.Context(), "messenger/x", nil), "Delete": v.Delete(t.Context(), "messenger/x"),
	} {
		if err == nil || !strings.Contains(err.Error(), "panicked") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	synctest.Wait()
	if len(v.calls) != 0 {
		t.Error("the calls are still counted")
	}
}

// A storage that answers "does not exist" for every failure, as the one of Redis does, is asked for a listing before that is
// believed.
func TestNotThereIsOnlyBelievedOfAStorageThatAnswers(t *testing.T) {
	m := newMemory()
	v, _ := newNode(t, m)
	m.denied = "messenger/x"
	if _, err := v.Load(t.Context(), "messenger/x"); !isNotThere(err) {
		t.Errorf("the listing works: got %v", err)
	}
	m.fail(func(_ context.Context, op, _ string, _ []byte) (bool, error) {
		return true, map[bool]error{true: errFault}[op == "list"]
	})
	if _, err := v.Load(t.Context(), "messenger/x"); err == nil || isNotThere(err) || !errors.Is(err, errFault) {
		t.Errorf("the listing fails: got %v", err)
	}
}

// An error ends the reading of many keys: each could take its timeout.
func TestReadingManyKeysEndsWithTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := make([]string, 1000)
		began := time.Now()
		err := UntilError(t.Context(), keys, func(int, string) error { time.Sleep(StoreTimeout); return errFault })
		if !errors.Is(err, errFault) || time.Since(began) > 2*StoreTimeout {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
		calls := 0
		var mu sync.Mutex
		if err := Each(t.Context(), keys, func(int, string) error { mu.Lock(); defer mu.Unlock(); calls++; return errFault }); !errors.Is(err, errFault) || calls != len(keys) {
			t.Errorf("Each: got %v, and %d of %d keys", err, calls, len(keys))
		}
		seen := make(map[int]bool)
		if err := Each(t.Context(), keys, func(i int, _ string) error { mu.Lock(); defer mu.Unlock(); seen[i] = true; return nil }); err != nil || len(seen) != len(keys) {
			t.Errorf("got %v, and %d of %d keys", err, len(seen), len(keys))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Each(ctx, keys, func(int, string) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("after the context: %v", err)
		}
	})
}
