package vault

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// settle writes the batch with an unknown outcome again, with the same bytes.
func (w *Writer) settle(q *queue) error {
	if q.unsettled == nil {
		return nil
	}
	if err := w.finish(q, q.unsettled); err != nil && q.unsettled != nil {
		return fmt.Errorf("an earlier change of this messenger is not confirmed yet: %v", err) // this one was not tried: not ErrUnknown
	}
	return nil
}

// RetryInterval is how often a writer retries failed writes.
const RetryInterval = 2 * time.Second

// retryUnfinished starts retryLoop, unless it runs.
func (w *Writer) retryUnfinished() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.retrying && w.stop.Err() == nil {
		w.retrying = true
		go w.retryLoop()
	}
}

// retryLoop writes batches with unknown outcomes and lists of changes again, until nothing is left to be done.
func (w *Writer) retryLoop() {
	timer := time.NewTicker(RetryInterval)
	defer timer.Stop()
	for {
		select {
		case <-w.stop.Done():
			return
		case <-timer.C:
		}
		open := w.settleIdle()
		announced := w.announcer.tick(w.stop) == nil
		w.mu.Lock()
		if !open && announced && !w.announcer.unfinished() {
			w.retrying = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// settleIdle tries to write the batches with unknown outcomes in folders to which nothing is written at the moment, forgets
// folders that were not used for long, and reports whether there may still be such batches.
func (w *Writer) settleIdle() (open bool) {
	var unsettled []string
	w.mu.Lock()
	for folder, q := range w.folders {
		switch {
		case q.running:
			open = true // the goroutine that runs may leave one
		case q.unsettled != nil:
			unsettled = append(unsettled, folder)
		case time.Since(q.used) > maxIdle:
			w.base = max(w.base, q.last)
			delete(w.folders, folder)
		}
	}
	w.mu.Unlock()
	var failed atomic.Bool
	_ = Each(w.stop, unsettled, func(_ int, folder string) error { // a folder that fails does not stop the others
		if !w.settleFolder(folder) {
			failed.Store(true)
		}
		return nil
	})
	return open || failed.Load()
}

// settleFolder writes the batch with an unknown outcome of a folder, unless that is being done, and reports whether it succeeded.
func (w *Writer) settleFolder(folder string) bool {
	w.mu.Lock()
	q := w.folders[folder]
	if q.running || q.unsettled == nil {
		w.mu.Unlock()
		return false
	}
	q.running = true // nothing else is written to it meanwhile
	w.mu.Unlock()
	err := w.settle(q)
	if err == nil {
		w.breaker.reset()
	}
	go w.work(q, folder) // the calls that have come meanwhile
	return err == nil
}

// Announce makes other nodes read a folder again, because batches of other writers were written back to it.
func (w *Writer) Announce(ctx context.Context, folder string) error {
	err := w.announcer.announceAgain(ctx, folder)
	w.retryUnfinished() // which repeats the notification
	return err
}

// Republish writes the list of this writer again, sealed with the first key.
func (w *Writer) Republish(ctx context.Context) error {
	w.announcer.mu.Lock()
	return w.announcer.publish(ctx)
}
