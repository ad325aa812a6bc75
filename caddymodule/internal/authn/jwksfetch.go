package authn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// firstRetry and lastRetry bound the time to the next background fetch after one that failed.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// A fetch is one attempt to get the key set. Any number of requests may wait for it.
type fetch struct {
	done      chan struct{} // closed at its end
	err       error         // valid after done is closed
	successor *fetch        // a later one, whose answer counts in place of this one's; guarded by JWKS.mu
	byToken   bool          // a token caused it; guarded by JWKS.mu
}

// A FetchReport tells the owner of a JWKS how a fetch ended.
type FetchReport struct {
	URL      string
	Err      error // nil if the set was fetched, or confirmed by the server
	Changed  bool  // whether the server sent a set, instead of confirming the one before
	Replaced bool  // whether the active keys have changed
	Keys     int   // how many keys can be used now
	Omitted  []sigkey.Omitted
	Fetched  time.Time // of the active set; Raw is its text
	Raw      []byte
}

// Outcome says in one word of a closed list how the fetch ended, for counting: "changed" or "unchanged" keys, or a class of
// failure.
func (r FetchReport) Outcome() string {
	switch {
	case r.Err != nil:
		return string(keyserver.ClassOf(r.Err))
	case r.Replaced:
		return "changed"
	}
	return "unchanged"
}

// fetchedKeys are the answer of a key server.
type fetchedKeys struct {
	*keyserver.Answer
	set     *KeySet
	omitted []sigkey.Omitted
}

// beginLocked begins f, and returns it. The answer of a fetch under way no longer counts: those who wait for it get f's. The
// caller holds j.mu.
func (j *JWKS) beginLocked(f *fetch) *fetch {
	if f.done == nil {
		f.done = make(chan struct{})
	}
	if j.inflight != nil {
		j.inflight.successor = f
	}
	j.inflight = f
	// Without validators the server sends the set in full. It has to send it if the current one is too old to be trusted.
	var known keyserver.Validators
	if s := j.usable(time.Now()); s != nil {
		known = s.validators
	}
	go func() {
		defer close(f.done)
		answer, err := j.fetch(known)
		j.apply(f, answer, err)
	}()
	return f
}

// fetch asks the key server once. With an error the answer has at most the entries that were left out. It
// recovers from panics, which would end the whole process, because it reads data of another server.
func (j *JWKS) fetch(known keyserver.Validators) (answer *fetchedKeys, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, fmt.Errorf("%w: reading it panicked: %v", sigkey.ErrNoSet, p)
		}
	}()
	ctx, cancel := context.WithTimeout(j.ctx, j.settings.Timeout)
	defer cancel()
	received, err := j.server.Fetch(ctx, known)
	if err != nil {
		return nil, err
	}
	answer = &fetchedKeys{Answer: received}
	if !received.NotModified {
		var keys []*sigkey.Key
		keys, answer.omitted, err = sigkey.ParseSet(received.Body, j.algorithms(), j.settings.SmallKeys)
		switch {
		case err == nil:
			answer.set = j.keySet(keys)
		case !received.Confidential && (errors.Is(err, sigkey.ErrNoSet) || errors.Is(err, sigkey.ErrWebPage)):
			err = fmt.Errorf("%w (its content type is %.80q)", err, received.ContentType)
		}
	}
	return answer, err
}

// keySet returns the set of the keys that were fetched. Keys that were found through an issuer verify its tokens only.
func (j *JWKS) keySet(keys []*sigkey.Key) *KeySet {
	if j.settings.Issuer != "" {
		for i, k := range keys {
			keys[i] = k.IssuedBy(j.settings.Issuer)
		}
	}
	return newKeySet(keys)
}

// apply makes the answer of f the snapshot. A failure changes only the schedule: it never replaces keys that are usable.
func (j *JWKS) apply(f *fetch, answer *fetchedKeys, err error) {
	now := time.Now()
	j.mu.Lock()
	if next := f.successor; next != nil {
		j.mu.Unlock()
		<-next.done // those who wait for f want to know how the later one ends
		f.err = next.err
		return
	}
	j.inflight = nil
	j.tried, j.err, f.err = now, err, err
	if answer != nil && !answer.NotModified {
		j.omitted = answer.omitted
	}
	report := FetchReport{URL: j.settings.URL, Err: err, Omitted: j.omitted}
	if err != nil {
		j.failures++
		j.next = now.Add(jitter(min(firstRetry<<min(j.failures-1, 8), lastRetry)))
	} else {
		j.failures = 0
		lifetime := j.lifetime(answer.Lifetime)
		version := j.version
		s := j.snapshotLocked(answer, now)
		report.Replaced = j.version != version
		s.freshUntil = now.Add(lifetime)
		j.next = now.Add(jitter(lifetime * 9 / 10)) // before the set is stale
		report.Changed, report.Fetched, report.Raw = !answer.NotModified, s.fetched, s.raw
		j.snapshot.Store(s)
	}
	report.Keys = len(j.active())
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default: // the loop has not seen the last wake yet, and will read next anyway
	}
	if j.report != nil && j.ctx.Err() == nil {
		j.report(report)
	}
}

// snapshotLocked returns the snapshot for answer. A server that answers "not modified", or sends the same keys again, extends
// the snapshot that we have. Its version stays then, so that the tokens that were verified with it stay in the cache. The
// caller holds j.mu.
func (j *JWKS) snapshotLocked(answer *fetchedKeys, now time.Time) *keySnapshot {
	if s := j.snapshot.Load(); s != nil && (answer.NotModified || s.set.equal(answer.set)) {
		confirmed := *s
		confirmed.fetched = now
		if !answer.NotModified {
			confirmed.validators = answer.Validators
		}
		return &confirmed
	}
	j.version++
	return &keySnapshot{set: answer.set, version: j.version, fetched: now, validators: answer.Validators, raw: answer.Body}
}
