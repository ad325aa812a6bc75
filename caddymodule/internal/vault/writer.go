package vault

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBatch is how many facts one batch has, and maxBatchText how many bytes.
	maxBatch     = 256
	maxBatchText = MaxValue / 2

	// maxUrgent and maxOrdinary are how many calls of Append may wait in one folder. maxWaiting bounds the ordinary ones of all
	// folders, and maxWriting how many of these folders are written at a time, so that urgent ones always find room.
	maxUrgent   = 100
	maxOrdinary = 1000
	maxWaiting  = 10_000
	maxWriting  = 32

	// maxAge is how old a fact may be when its write is acknowledged. After a longer time, such as a suspension of the machine,
	// others may have acted on its absence.
	maxAge = 10 * time.Minute

	// outage is how long writes fail at once after one has failed slowly. One that fails fast costs its caller nothing, and may
	// concern a single messenger.
	outage = time.Second

	// probing bounds how long one write is tried after that, while the others go on failing at once: telling of it, twice, and
	// writing an earlier batch and this one.
	probing = 6 * StoreTimeout

	// maxIdle is how long the last number of a folder is remembered.
	maxIdle = time.Hour
)

// ErrUnknown is the error for facts of which it is unknown whether they were written.
var ErrUnknown = errors.New("the storage did not confirm the change; it may or may not have been made")

var (
	errWaiting = errors.New("too many changes are waiting to be written")
	errOutage  = errors.New("the storage failed at a write a moment ago")
)

// A Writer adds facts. There is one for each start of a process and store, with an ID that nothing else has: not a copy of the
// machine, and not the same process after a restart.
//
// A batch that was written is never written again with other content: the storage's client library may repeat a write, and the
// first attempt may be the last to arrive. After an unknown outcome the same bytes are written again before anything else is
// written to that folder.
type Writer struct {
	ID string

	// Wrote is called for every batch that was written, before it is acknowledged, also for one whose callers have been told
	// that the outcome is unknown. It returns how many connections that has ended, for the call whose facts come first.
	Wrote func(key Key, facts []json.RawMessage) (ended int)

	vault  *Vault
	teller *teller
	stop   context.Context
	Stop   context.CancelFunc

	breaker breaker
	waiting atomic.Int64 // ordinary calls in all folders
	writing chan struct{}

	// Stats counts writes.
	Stats struct {
		Written, Failed, Unknown atomic.Int64
		Seconds                  func(float64) // observes how long a write took; may be nil
	}

	mu      sync.Mutex
	folders map[string]*queue
	base    uint64 // numbers of folders that were forgotten are not larger
	tending bool
}

// A queue has the writes of one folder. One batch is written at a time.
type queue struct {
	last      uint64        // number of the last batch
	unsettled *pending      // a batch whose write may or may not have happened
	urgent    []*request    // of operators
	ordinary  []*request    // of contacts
	hurry     chan struct{} // has a value when an urgent call has come
	running   bool
	used      time.Time
}

// A pending batch was sealed for its key once.
type pending struct {
	key    Key
	facts  []json.RawMessage
	sealed []byte
	ended  int // what Wrote has returned
}

// A request is one call of Append.
type request struct {
	facts []json.RawMessage
	made  time.Time
	probe bool // tried although the storage failed a moment ago
	done  chan outcome
}

// Written is what a call of Append has written.
type Written struct {
	Key   Key // of the batch
	Ended int // what Wrote has returned, if the batch begins with the facts of this call
}

// An outcome is what a call of Append returns.
type outcome struct {
	written Written
	err     error
}

// NewWriter makes a writer.
func NewWriter(v *Vault) *Writer {
	w := &Writer{ID: strings.ToLower(rand.Text()[:16]), vault: v, folders: make(map[string]*queue), writing: make(chan struct{}, maxWriting)}
	w.stop, w.Stop = context.WithCancel(context.Background())
	w.teller = &teller{vault: v, writer: w.ID, entries: make(map[string]entry), next: newPromise(), quiet: ringAgain[len(ringAgain)-1] + 1}
	return w
}

// Append adds facts to a folder. When it returns nil, they are in the storage, and other nodes find them. Urgent facts, those
// of operators, go before ordinary ones, are written in a batch of their own, and have room that ordinary ones never take.
// ErrUnknown means that the facts may or may not be written; after any other error they are not.
func (w *Writer) Append(ctx context.Context, folder string, urgent bool, facts []json.RawMessage) (Written, error) {
	if err := w.vault.CheckWritable(); err != nil {
		return Written{}, err
	}
	size := 0
	for _, f := range facts {
		size += len(f)
	}
	if size > maxBatchText {
		return Written{}, fmt.Errorf("the change has %d bytes, and at most %d can be written at a time", size, maxBatchText)
	}
	probe, ok := w.breaker.admit()
	if !ok {
		w.Stats.Failed.Add(1)
		return Written{}, errOutage
	}
	r := &request{facts: facts, made: time.Now(), probe: probe, done: make(chan outcome, 1)}
	if err := w.enqueue(folder, urgent, r); err != nil {
		if probe {
			w.breaker.trip()
		}
		w.Stats.Failed.Add(1)
		return Written{}, err
	}
	select {
	case o := <-r.done:
		return o.written, o.err
	case <-ctx.Done():
		return Written{}, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

func (w *Writer) enqueue(folder string, urgent bool, r *request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.folders[folder]
	if q == nil {
		q = &queue{last: w.base, hurry: make(chan struct{}, 1)}
		w.folders[folder] = q
	}
	switch {
	case urgent && len(q.urgent) >= maxUrgent, !urgent && len(q.ordinary) >= maxOrdinary:
		return errWaiting
	case urgent:
		q.urgent = append(q.urgent, r)
		select {
		case q.hurry <- struct{}{}:
		default:
		}
	case w.waiting.Add(1) > maxWaiting:
		w.waiting.Add(-1)
		return errWaiting
	default:
		q.ordinary = append(q.ordinary, r)
	}
	if !q.running {
		q.running = true
		go w.work(q, folder)
	}
	return nil
}

// next reports whether the next calls to be written are urgent, and whether there are any.
func (w *Writer) next(q *queue) (urgent, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q.used = time.Now()
	if len(q.urgent) > 0 {
		return true, true
	}
	q.running = len(q.ordinary) > 0
	return false, q.running
}

// take returns the next calls whose facts make one batch.
func (w *Writer) take(q *queue, urgent bool) (batch []*request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if urgent {
		batch = q.urgent[:1]
		q.urgent = q.urgent[1:]
		return batch
	}
	facts, size := 0, 0
	for _, r := range q.ordinary {
		facts += len(r.facts)
		for _, f := range r.facts {
			size += len(f)
		}
		if len(batch) > 0 && (facts > maxBatch || size > maxBatchText) {
			break
		}
		batch = append(batch, r)
	}
	q.ordinary = q.ordinary[len(batch):]
	return batch
}

// work writes the batches of one folder until there are none.
func (w *Writer) work(q *queue, folder string) {
	for {
		urgent, more := w.next(q)
		if !more {
			return
		}
		if !urgent {
			select {
			case w.writing <- struct{}{}:
			case <-q.hurry: // an urgent call does not wait until ordinary ones of other folders are written
				continue
			}
		}
		batch := w.take(q, urgent)
		written, err := w.try(folder, q, batch)
		if !urgent {
			<-w.writing
			w.waiting.Add(-int64(len(batch))) // also of callers that have gone away
		}
		for _, r := range batch {
			r.done <- outcome{written, r.confirm(err)}
			written.Ended = 0 // no connection is counted twice
		}
	}
}

// try writes one batch, unless the storage failed a moment ago: then the calls that have waited fail at once, too.
func (w *Writer) try(folder string, q *queue, batch []*request) (Written, error) {
	probe := slices.ContainsFunc(batch, func(r *request) bool { return r.probe })
	if !probe && w.breaker.refuses() {
		w.Stats.Failed.Add(int64(len(batch)))
		return Written{}, errOutage
	}
	began := time.Now()
	err := w.settle(q)
	var written Written
	if err == nil {
		written, err = w.write(folder, q, batch)
	}
	switch {
	case err == nil:
		w.breaker.reset()
	case probe, time.Since(began) >= outage:
		w.breaker.trip()
	}
	return written, err
}

// confirm returns the error for the caller. A machine may have been suspended meanwhile: the monotonic clock may stop then, and
// the wall clock goes on.
func (r *request) confirm(err error) error {
	if err == nil && (time.Since(r.made) > maxAge || time.Now().Round(0).Sub(r.made.Round(0)) > maxAge) {
		return ErrUnknown
	}
	return err
}

// write writes one batch: it announces the folder, writes the batch, announces that it is done, and rings.
func (w *Writer) write(folder string, q *queue, batch []*request) (Written, error) {
	var facts []json.RawMessage
	for _, r := range batch {
		facts = append(facts, r.facts...)
	}
	text, err := encodeBatch(facts)
	if err != nil {
		return Written{}, err
	}
	p := &pending{key: Key{folder, w.ID, q.last + 1}, facts: facts}
	p.sealed = w.vault.Seal.Seal(p.key.String(), text)
	if err := w.teller.announce(w.stop, p.key, true); err != nil {
		w.teller.retract(p.key)
		w.tend() // the list may have been written nevertheless
		w.Stats.Failed.Add(1)
		return Written{}, fmt.Errorf("announcing the change: %w", err) // nothing was written
	}
	q.last++
	err = w.finish(q, p)
	return Written{p.key, p.ended}, err
}

// finish writes a batch that was announced, and announces that it is there. It is called again for a batch with an unknown outcome.
func (w *Writer) finish(q *queue, p *pending) error {
	began := time.Now()
	err := w.vault.store(w.stop, p.key.String(), p.sealed)
	if w.Stats.Seconds != nil {
		w.Stats.Seconds(time.Since(began).Seconds())
	}
	if err != nil {
		w.Stats.Unknown.Add(1)
		q.unsettled = p
		w.tend()
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	q.unsettled = nil
	w.Stats.Written.Add(1)
	p.ended = w.Wrote(p.key, p.facts)
	err = w.teller.announce(w.stop, p.key, false)
	w.tend() // also after a success: the bell is rung once more
	if err != nil {
		return fmt.Errorf("%w: announcing it: %w", ErrUnknown, err)
	}
	return nil
}

// Waiting returns how many ordinary writes wait.
func (w *Writer) Waiting() int64 { return w.waiting.Load() }
