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

	// probing bounds how long one write is tried after that, while the others still fail at once: two announcements, an earlier batch
	// and this one.
	probing = 6 * StoreTimeout

	// maxIdle is how long the last number of a folder is remembered.
	maxIdle = time.Hour
)

// ErrUnknown is the error if it is unknown whether facts were written.
var ErrUnknown = errors.New("the storage did not confirm the change; it may or may not have been made")

var (
	errWaiting = errors.New("too many changes are waiting to be written")
	errOutage  = errors.New("the storage failed at a write a moment ago")
)

// A Writer adds facts. Each start of a process makes one for each store, with a random ID: neither a copy of the machine nor the
// process after a restart has the same.
//
// A key is never written again with other content: the storage's client library may repeat a write, and the first attempt may be the
// last to arrive. After an unknown outcome the same bytes are written again before anything else is written to that folder.
type Writer struct {
	ID string

	// Wrote is called for every batch that was written, before it is acknowledged, also after its callers got ErrUnknown. It returns
	// how many connections the batch has closed; the call whose facts come first reports them.
	Wrote func(key Key, facts []json.RawMessage) (ended int)

	vault     *Vault
	announcer *announcer
	stop      context.Context
	Stop      context.CancelFunc

	breaker breaker
	waiting atomic.Int64 // ordinary calls in all folders
	writing chan struct{}

	// Stats counts writes.
	Stats struct {
		Written, Failed, Unknown atomic.Int64
		Seconds                  func(float64) // observes how long a write took; may be nil
	}

	mu       sync.Mutex
	folders  map[string]*queue
	base     uint64 // numbers of folders that were forgotten are not larger
	retrying bool
}

// A queue has the writes to one folder. One batch is written at a time.
type queue struct {
	last       uint64        // number of the last batch
	unsettled  *pending      // a batch whose write may or may not have happened
	urgent     []*request    // of operators
	ordinary   []*request    // of contacts
	urgentCame chan struct{} // has a value after an urgent call was added
	running    bool
	used       time.Time
}

// A pending batch may have to be written again. It is sealed only once, so that every attempt writes the same bytes.
type pending struct {
	key    Key
	facts  []json.RawMessage
	sealed []byte
	ended  int // the result of Wrote
}

// A request is one call of Append.
type request struct {
	facts []json.RawMessage
	made  time.Time
	probe bool // tried although the storage failed a moment ago
	done  chan outcome
}

// Written is the result of a call of Append.
type Written struct {
	Key   Key // of the batch
	Ended int // the result of Wrote, if the batch begins with the facts of this call
}

// An outcome has the results of a call of Append.
type outcome struct {
	written Written
	err     error
}

// NewWriter makes a writer.
func NewWriter(v *Vault) *Writer {
	w := &Writer{ID: strings.ToLower(rand.Text()[:16]), vault: v, folders: make(map[string]*queue), writing: make(chan struct{}, maxWriting)}
	w.stop, w.Stop = context.WithCancel(context.Background())
	w.announcer = &announcer{vault: v, writer: w.ID, entries: make(map[string]entry), next: newPromise(), idleTicks: repeatTicks[len(repeatTicks)-1] + 1}
	return w
}

// Append adds facts to a folder. When it returns nil, they are in the storage, and other nodes find them. Urgent facts, those
// of operators, go before ordinary ones, are written in a batch of their own, and have a queue that ordinary ones cannot fill.
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
		q = &queue{last: w.base, urgentCame: make(chan struct{}, 1)}
		w.folders[folder] = q
	}
	switch {
	case urgent && len(q.urgent) >= maxUrgent, !urgent && len(q.ordinary) >= maxOrdinary:
		return errWaiting
	case urgent:
		q.urgent = append(q.urgent, r)
		select {
		case q.urgentCame <- struct{}{}:
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
			case <-q.urgentCame: // urgent calls do not wait for ordinary ones of other folders
				continue
			}
		}
		batch := w.take(q, urgent)
		written, err := w.try(folder, q, batch)
		if !urgent {
			<-w.writing
			w.waiting.Add(-int64(len(batch))) // including cancelled callers
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

// confirm returns the error for the caller, which is ErrUnknown for a request older than maxAge. Both clocks are compared: the monotonic
// clock may stop while the machine is suspended.
func (r *request) confirm(err error) error {
	if err == nil && (time.Since(r.made) > maxAge || time.Now().Round(0).Sub(r.made.Round(0)) > maxAge) {
		return ErrUnknown
	}
	return err
}

// write announces a batch, writes it, and announces that it was written.
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
	if err := w.announcer.announce(w.stop, p.key, true); err != nil {
		w.announcer.retract(p.key)
		w.retryUnfinished() // the list may have been written nevertheless
		w.Stats.Failed.Add(1)
		return Written{}, fmt.Errorf("announcing the change: %w", err) // nothing was written
	}
	q.last++
	err = w.finish(q, p)
	return Written{p.key, p.ended}, err
}

// finish writes a batch that was announced, and announces that it was written. It is called again for a batch with an unknown outcome.
func (w *Writer) finish(q *queue, p *pending) error {
	began := time.Now()
	err := w.vault.store(w.stop, p.key.String(), p.sealed)
	if w.Stats.Seconds != nil {
		w.Stats.Seconds(time.Since(began).Seconds())
	}
	if err != nil {
		w.Stats.Unknown.Add(1)
		q.unsettled = p
		w.retryUnfinished()
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	q.unsettled = nil
	w.Stats.Written.Add(1)
	p.ended = w.Wrote(p.key, p.facts)
	err = w.announcer.announce(w.stop, p.key, false)
	w.retryUnfinished() // also after a success, to repeat the notification
	if err != nil {
		return fmt.Errorf("%w: announcing it: %w", ErrUnknown, err)
	}
	return nil
}

// Waiting returns how many ordinary writes wait.
func (w *Writer) Waiting() int64 { return w.waiting.Load() }
