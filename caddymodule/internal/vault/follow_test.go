package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	writerA = "aaaaaaaaaaaaaaaa"
	writerB = "bbbbbbbbbbbbbbbb"
)

// saveList stores the list of a writer as that one would, without a notification.
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

var notifications int

func notify(t *testing.T, v *Vault) {
	t.Helper()
	notifications++
	if err := v.Save(t.Context(), NotificationKey, fmt.Appendf(nil, `"%d"`, notifications)); err != nil {
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
	if err := v.Save(t.Context(), OriginKey, []byte(`"origin"`)); err != nil {
		t.Fatal(err)
	}
	f := NewFollower(v, "own")
	if err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// What happens to lists and the notification, and what a follower says after it.
func TestFollowerReportsEveryChange(t *testing.T) {
	acme := entry{Folder: "acme/a", Seq: 1, Last: 1}
	bolt := entry{Folder: "bolt/a", Seq: 2, Last: 1}
	for name, test := range map[string]func(t *testing.T, m *memory, v *Vault){
		"what is there at the beginning is read with everything else": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			notify(t, v)
			f := begun(t, v)
			wantPoll(t, f, "")
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			notify(t, v)
			wantPoll(t, f, "bolt/a:a-1")
			wantPoll(t, f, "")
		},
		"a change between the notification and the lists at the beginning is not missed": func(t *testing.T, m *memory, v *Vault) {
			read := false
			m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
				if op == "list" && key == writersFolder && !read {
					read = true
					saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
					notify(t, v)
				}
				return true, nil
			})
			f := begun(t, v)
			// The messenger is read after this, so that its change may be known; what comes later is reported.
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
		"without a notification, the lists are read after some polls": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			for range listEvery - 1 {
				wantPoll(t, f, "")
			}
			wantPoll(t, f, "acme/a:a-1")
		},
		"at rest, a poll reads the notification and nothing else": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			notify(t, v)
			f := begun(t, v)
			var asked []string
			m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
				asked = append(asked, op+" "+key)
				return true, nil
			})
			for range 5 {
				wantPoll(t, f, "")
			}
			if len(asked) != 5 || asked[0] != "load "+NotificationKey {
				t.Errorf("it asked for %q", asked)
			}
		},
		"a storage that is emptied and written again between two polls went back": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			notify(t, v)
			f := begun(t, v)
			m.set(OriginKey, nil)
			notify(t, v) // the writer's list is there again, too
			wantPoll(t, f, "incomplete")
			other := NewFollower(v, "other")
			if err := other.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 2 * listEvery {
				wantPoll(t, f, "")
				wantPoll(t, other, "")
			}
			m.set(OriginKey, []byte("not sealed"))
			notify(t, v)
			wantPoll(t, f, "incomplete")
			wantPoll(t, f, "")
		},
		"without an origin the first poll writes one, where it can": func(t *testing.T, m *memory, v *Vault) {
			f := NewFollower(v, "own")
			if err := f.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.fail(func(_ context.Context, op, _ string, _ []byte) (bool, error) {
				return op != "store", map[bool]error{true: errFault}[op == "store"]
			})
			wantPoll(t, f, "")
			m.fail(nil)
			for range listEvery {
				wantPoll(t, f, "")
			}
			if m.get(OriginKey) == nil {
				t.Error("there is none")
			}
		},
		"a list that is older than what is known makes a follower read everything, once": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			f := begun(t, v)
			old := m.get(path.Join(writersFolder, writerA))
			for range 2 {
				saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
				notify(t, v)
				polled(t, f)
				m.set(path.Join(writersFolder, writerA), old)
				notify(t, v)
				wantPoll(t, f, "incomplete")
				for range listEvery {
					notify(t, v)
					wantPoll(t, f, "")
				}
			}
		},
		"a late duplicate of the notification is ignored": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			notify(t, v)
			oldBell := m.get(NotificationKey)
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			notify(t, v)
			wantPoll(t, f, "bolt/a:a-1")
			m.set(NotificationKey, oldBell)
			for range listEvery + 1 {
				wantPoll(t, f, "")
			}
		},
		"an error repeats nothing and loses nothing": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			saveList(t, v, writerB, changeList{Seq: 2, Changes: []entry{bolt}})
			notify(t, v)
			for _, broken := range []string{NotificationKey, writersFolder, path.Join(writersFolder, writerA), path.Join(writersFolder, writerB)} {
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
			notify(t, v)
			wantPoll(t, f, "acme/a:a-3 incomplete")
			saveList(t, v, writerA, changeList{Seq: 800, Dropped: 700, Changes: []entry{{Folder: "acme/a", Seq: 800, Last: 4}}})
			notify(t, v)
			wantPoll(t, f, "acme/a:a-4")
		},
		"a missing notification means that the storage went back": func(t *testing.T, m *memory, v *Vault) {
			notify(t, v)
			f := begun(t, v)
			m.set(NotificationKey, nil)
			wantPoll(t, f, "incomplete")
			wantPoll(t, f, "")
		},
		"what is about to be changed is reported, and again when it is": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{{Folder: "acme/a", Seq: 1, Last: 1, Pending: true}}})
			notify(t, v)
			wantPoll(t, f, "acme/a:a-1?")
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{{Folder: "acme/a", Seq: 2, Last: 1}}})
			notify(t, v)
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
				notify(t, v)
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
			m.set(NotificationKey, []byte("not sealed"))
			wantPoll(t, f, "incomplete")
		},
		"a list whose key is lost makes everything be read again once, and once more when it changes": func(t *testing.T, m *memory, v *Vault) {
			lost := New(mustSealer(t, sealKeyBytes(9)), func() {})
			lost.Use(m)
			f := begun(t, v)
			for i := range uint64(3) {
				saveList(t, lost, writerA, changeList{Seq: i + 1, Changes: []entry{acme}})
				notify(t, lost) // the notification, too
				wantPoll(t, f, "incomplete")
				for range 3 * listEvery {
					wantPoll(t, f, "")
				}
			}
			saveList(t, v, writerA, changeList{Seq: 9, Changes: []entry{bolt}})
			notify(t, v)
			wantPoll(t, f, "bolt/a:a-1")
		},
		"foreign names are left alone": func(t *testing.T, m *memory, v *Vault) {
			f := begun(t, v)
			for _, name := range []string{"2734522345234523", "3719283746", "README", "lost+found", "note", writerA + "x", writerA + ".bak"} {
				m.set(path.Join(writersFolder, name), []byte("something else"))
			}
			notify(t, v)
			wantPoll(t, f, "")
		},
		"a list that the storage denies is read again with the next poll": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			f := begun(t, v)
			saveList(t, v, writerA, changeList{Seq: 2, Changes: []entry{acme, bolt}})
			notify(t, v)
			m.denied = path.Join(writersFolder, writerA)
			wantPoll(t, f, "")
			m.denied = ""
			wantPoll(t, f, "bolt/a:a-1")
		},
		"a list that was removed and comes back is read as a new one": func(t *testing.T, m *memory, v *Vault) {
			saveList(t, v, writerA, changeList{Seq: 5, Changes: []entry{acme}})
			f := begun(t, v)
			m.set(path.Join(writersFolder, writerA), nil)
			notify(t, v)
			wantPoll(t, f, "")
			saveList(t, v, writerA, changeList{Seq: 5, Dropped: 3, Changes: []entry{acme}})
			notify(t, v)
			wantPoll(t, f, "acme/a:a-1 incomplete")
		},
		"the own list is not reported": func(t *testing.T, m *memory, v *Vault) {
			f := NewFollower(v, writerA)
			if err := f.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			saveList(t, v, writerA, changeList{Seq: 1, Changes: []entry{acme}})
			notify(t, v)
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
