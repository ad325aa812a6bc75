package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"
)

const (
	// writersFolder has the list of each writer.
	writersFolder = StoreRoot + "/_writers"

	// NotificationKey has a random value. A writer that has changed something replaces it, and the followers of other nodes poll it. It
	// has a folder of its own, because a file system may leave temporary files next to it.
	NotificationKey = StoreRoot + "/_bell/bell"

	// maxListed and maxListText bound the list of one writer. Only pending changes, of which there are at most maxPending, may
	// exceed them. maxListText has room for maxListed names. If the list were full earlier, 200 changes a second at different messengers
	// would be enough to make other nodes read everything again.
	maxListed   = 500
	maxListText = 64 << 10
	maxPending  = 500

	// repeatFor is for how long every tick writes the list again after a write of it has failed. The failed write may still
	// arrive, and replace a later list.
	repeatFor = time.Minute
)

// A changeList has the folders that one writer has changed last. Only that writer writes it.
type changeList struct {
	Format  int       `json:"format"`
	Seq     uint64    `json:"seq"`               // of the last change; a list with a smaller one is a late duplicate
	Dropped uint64    `json:"dropped,omitempty"` // changes up to this one are not listed any more
	At      time.Time `json:"at"`
	Changes []entry   `json:"changes"`
}

// An entry is one folder in a list.
type entry struct {
	Folder  string `json:"folder"`
	Seq     uint64 `json:"seq"`
	Last    uint64 `json:"last"`              // number of the last batch
	Pending bool   `json:"pending,omitempty"` // the last batch is about to be written
	Again   bool   `json:"again,omitempty"`   // batches of other writers were written back: all batches have to be read again
}

// An announcer announces what a writer changes to other nodes: it writes the list, and renews the notification. Changes that
// come during a write share the next list.
type announcer struct {
	vault  *Vault
	writer string

	mu          sync.Mutex
	seq         uint64
	confirmed   uint64 // the sequence number of the last list that the storage has confirmed
	dropped     uint64
	entries     map[string]entry
	pending     int       // how many entries are pending
	next        *promise  // of the list that is written next
	wanted      bool      // whether a caller waits for next
	running     bool      // whether run is active
	dirty       bool      // whether the list in the storage may be out of date
	notify      bool      // whether to renew the notification after the next list
	notifyNew   bool      // whether that notification is for a new change, and not a repetition
	idleTicks   int       // ticks since the last change
	repeatUntil time.Time // until then, every tick writes the list again
	lost        bool      // whether a tick has found that the storage lost a list that it had confirmed
}

// repeatTicks are the ticks after the last change at which the list and the notification are written again, because a late
// duplicate of an earlier list may have replaced it. The first tick may come at once.
var repeatTicks = [...]int{1, 15}

// A promise is the result of a write that callers wait for. It is fulfilled once, by closing done after err is set.
type promise struct {
	done chan struct{}
	err  error
}

func newPromise() *promise { return &promise{done: make(chan struct{})} }

// announce announces that the batch at key is about to be written, or was written. It returns when other nodes can see that.
func (t *announcer) announce(ctx context.Context, key Key, about bool) error {
	t.mu.Lock()
	if about && t.pending >= maxPending && !t.entries[key.Folder].Pending {
		t.mu.Unlock()
		return errWaiting
	}
	t.seq++
	t.put(entry{Folder: key.Folder, Seq: t.seq, Last: key.Number, Pending: about, Again: t.entries[key.Folder].Again})
	t.notify, t.notifyNew = t.notify || !about, t.notifyNew || !about
	return t.publish(ctx)
}

// announceAgain announces that all batches of a folder have to be read again.
func (t *announcer) announceAgain(ctx context.Context, folder string) error {
	t.mu.Lock()
	t.seq++
	before := t.entries[folder]
	t.put(entry{Folder: folder, Seq: t.seq, Last: before.Last, Pending: before.Pending, Again: true})
	t.notify, t.notifyNew = true, true
	return t.publish(ctx)
}

// retract cancels the announcement of a batch that will not be written. The list in the storage may still name it: other nodes
// then look for the batch until the next list.
func (t *announcer) retract(key Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key.Folder]; e.Last == key.Number && e.Pending {
		e.Last, e.Pending = key.Number-1, false
		t.put(e)
	}
}

// put replaces the entry of a folder. The caller holds mu.
func (t *announcer) put(e entry) {
	if t.entries[e.Folder].Pending {
		t.pending--
	}
	if e.Pending {
		t.pending++
	}
	t.entries[e.Folder] = e
}

// tick is called every RetryInterval. If that is due, it writes the list and the notification again.
func (t *announcer) tick(ctx context.Context) error {
	t.mu.Lock()
	due := t.dirty || time.Now().Before(t.repeatUntil) || slices.Contains(repeatTicks[:], t.idleTicks)
	t.idleTicks++
	confirmed := t.confirmed
	t.mu.Unlock()
	if !due {
		return nil
	}
	lost := t.hasLost(ctx, confirmed)
	t.mu.Lock()
	t.notify, t.lost = true, t.lost || lost
	return t.publish(ctx)
}

// hasLost reports whether the storage has an older list than the one that it has confirmed, or none. The next write of the list hides
// that from hasLostOwn, the same check by the follower of this node.
func (t *announcer) hasLost(ctx context.Context, confirmed uint64) bool {
	if confirmed == 0 {
		return false
	}
	text, err := t.vault.Load(ctx, path.Join(writersFolder, t.writer))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	var list changeList
	return json.Unmarshal(text, &list) == nil && list.Format <= Format && list.Seq < confirmed
}

// Confirmed returns the sequence number of the last list of changes that the storage has confirmed; 0 before the first.
func (w *Writer) Confirmed() uint64 {
	w.announcer.mu.Lock()
	defer w.announcer.mu.Unlock()
	return w.announcer.confirmed
}

// HasLostList reports whether the storage has lost a list of changes that it had confirmed. Each loss is reported once.
func (w *Writer) HasLostList() bool {
	w.announcer.mu.Lock()
	defer w.announcer.mu.Unlock()
	lost := w.announcer.lost
	w.announcer.lost = false
	return lost
}

func (t *announcer) unfinished() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.idleTicks <= repeatTicks[len(repeatTicks)-1] || t.dirty || time.Now().Before(t.repeatUntil)
}

// publish writes the list as it is now, and returns when the list is written. The caller holds mu, which publish releases.
func (t *announcer) publish(ctx context.Context) error {
	t.dirty, t.wanted = true, true
	wait := t.next
	if !t.running {
		t.running = true
		go t.run(ctx)
	}
	t.mu.Unlock()
	select {
	case <-wait.done:
		return wait.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes lists as long as callers wait for one. After a failure the list stays dirty, and the next caller tries again.
func (t *announcer) run(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.wanted {
		current, notify, notifyNew := t.next, t.notify, t.notifyNew
		t.next, t.wanted, t.notify, t.notifyNew, t.dirty = newPromise(), false, false, false, false
		text, seq := t.render(), t.seq
		t.mu.Unlock()

		err := t.vault.Save(ctx, path.Join(writersFolder, t.writer), text)
		saved := err == nil
		if saved && notify {
			_, err = t.vault.Renew(ctx, NotificationKey)
		}

		t.mu.Lock()
		if saved {
			t.confirmed = seq
		}
		if err != nil {
			t.dirty, t.notify, t.notifyNew = true, t.notify || notify, t.notifyNew || notifyNew
			t.repeatUntil = time.Now().Add(repeatFor)
		} else if notifyNew {
			t.idleTicks = 0
		}
		current.err = err
		close(current.done)
	}
	t.running = false
}

// render returns the text of the list. It drops the oldest changes if there are too many, but no pending ones.
func (t *announcer) render() []byte {
	list := changeList{Format: Format, Seq: t.seq, At: Now().UTC().Round(0)}
	for _, e := range t.entries {
		list.Changes = append(list.Changes, e)
	}
	slices.SortFunc(list.Changes, func(a, b entry) int { return cmp.Compare(a.Seq, b.Seq) })
	for {
		list.Dropped = t.dropped
		text, _ := json.Marshal(list) // cannot fail: the list has strings, numbers and a time
		if len(list.Changes) <= maxListed && len(text) <= maxListText {
			return text
		}
		i := slices.IndexFunc(list.Changes, func(e entry) bool { return !e.Pending })
		if i < 0 {
			return text
		}
		// A tenth at a time, so that marshalling is not repeated for each entry.
		for n := max(1, len(list.Changes)/10); n > 0 && i < len(list.Changes); n-- {
			if e := list.Changes[i]; !e.Pending {
				delete(t.entries, e.Folder)
				t.dropped = max(t.dropped, e.Seq)
				list.Changes = slices.Delete(list.Changes, i, i+1)
				continue
			}
			i++
		}
	}
}
