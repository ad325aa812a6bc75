package authn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"golang.org/x/time/rate"
)

// Defaults and bounds of a JWKS. A set lives as long as its server says, within bounds.
const (
	DefaultRefreshInterval = 10 * time.Minute
	DefaultStaleIfError    = 24 * time.Hour
	DefaultFetchTimeout    = 5 * time.Second

	MinRefreshInterval = time.Minute
	MaxRefreshInterval = time.Hour

	// firstRetry and lastRetry bound the time between background attempts that fail.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// JWKSSettings say where a key set is and how it is kept. Two messengers with equal settings can share one [JWKS].
type JWKSSettings struct {
	URL             string        // see CheckJWKSURL
	RefreshInterval time.Duration // lifetime of a set whose server names none
	StaleIfError    time.Duration // how long a set serves after its last fetch while newer ones fail
	Timeout         time.Duration // for one whole fetch

	// Public is for URLs that were not written by the operator of the gateway: it keeps fetches from addresses that are not
	// public and from ports other than 443, and tells of a failure no more than a reason from a closed list.
	Public bool

	// SmallKeys is for the same URLs: it leaves out keys that cost more than usual ones.
	SmallKeys bool
}

// A JWKS is a key set that is kept up to date from a URL (RFC 7517 section 5). A verification never waits for the
// network while a usable key is there: it reads an immutable set behind an atomic pointer, and one goroutine replaces
// that in the background.
type JWKS struct {
	settings JWKSSettings
	client   *http.Client
	report   func(FetchReport)
	current  atomic.Pointer[keySnapshot] // nil until the first success, and after a distrust

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	start  sync.Once
	wake   chan struct{} // tells the background loop that the time of the next fetch changed

	mu       sync.Mutex
	inflight *fetch
	queued   *fetch // a requested fetch that has not begun yet
	asks     *rate.Limiter
	asked    time.Time // when a request last caused a fetch; stamped before the fetch
	waiting  int       // requests that wait for a fetch
	version  uint64    // of the newest snapshot
	failures int       // fetches that failed in a row
	tried    time.Time
	err      error     // of the last fetch
	omitted  []Omitted // from the last set that was read
	next     time.Time
}

// A keySnapshot is a key set as it was fetched. It never changes.
type keySnapshot struct {
	set        *KeySet
	version    uint64
	fetched    time.Time
	freshUntil time.Time
	validators validators
	raw        []byte
}

// A fetch is one attempt that any number of requests may wait for.
type fetch struct {
	done      chan struct{} // closed at its end
	err       error         // valid then
	successor *fetch        // a later one that makes this one's answer worthless
	asked     bool          // a token caused it
}

// A FetchReport tells the owner of a JWKS how a fetch ended.
type FetchReport struct {
	URL      string
	Err      error // nil if the set was fetched, or confirmed by the server
	Changed  bool  // whether the server sent a set, and not that the one before is still right
	Replaced bool  // whether the active keys have changed
	Keys     int   // that can be used now
	Omitted  []Omitted
	Fetched  time.Time // of the active set; Raw is its text
	Raw      []byte
}

// NewJWKS returns the engine for one URL. It does nothing before Start, or before a token needs a key. report is called
// after every fetch, and may be nil.
func NewJWKS(settings JWKSSettings, report func(FetchReport)) *JWKS {
	j := &JWKS{
		settings: settings,
		client:   newFetchClient(settings.Public),
		report:   report,
		wake:     make(chan struct{}, 1),
		asks:     rate.NewLimiter(rate.Every(askInterval), askBurst),
	}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

// Start begins to keep the set up to date. Calls after the first do nothing.
func (j *JWKS) Start() { j.start.Do(func() { go j.run() }) }

// Close ends all that Start and Refresh began.
func (j *JWKS) Close() {
	j.cancel()
	j.client.CloseIdleConnections()
}

func (j *JWKS) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-j.ctx.Done():
			return
		case <-timer.C:
			j.mu.Lock()
			f := j.fetchLocked(false)
			j.mu.Unlock()
			<-f.done
		case <-j.wake:
		}
		j.mu.Lock()
		next := j.next
		j.mu.Unlock()
		timer.Reset(time.Until(next))
	}
}

// fetchLocked returns the fetch that is under way, or begins one. With anew it begins one in any case, and what the
// earlier one brings is thrown away. The caller holds j.mu.
func (j *JWKS) fetchLocked(anew bool) *fetch {
	if j.inflight != nil && !anew {
		return j.inflight
	}
	f := &fetch{done: make(chan struct{})}
	j.beginLocked(f)
	return f
}

// beginLocked begins f. What an earlier one brings is thrown away. The caller holds j.mu.
func (j *JWKS) beginLocked(f *fetch) {
	if j.inflight != nil {
		j.inflight.successor = f
	}
	j.inflight = f
	var known validators
	if s := j.usable(time.Now()); s != nil {
		known = s.validators
	}
	go func() {
		defer close(f.done)
		answer, err := j.fetch(known)
		j.apply(f, answer, err)
	}()
}

// fetch asks the key server once. A panic would end the whole process, and what is read here comes from outside.
func (j *JWKS) fetch(known validators) (answer *fetchedKeys, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, fmt.Errorf("%w: reading it panicked: %v", errNoKeySet, p)
		}
	}()
	ctx, cancel := context.WithTimeout(j.ctx, j.settings.Timeout)
	defer cancel()
	return fetchKeys(ctx, j.client, j.settings.URL, known, j.settings.SmallKeys)
}

// apply makes what f brought the current set. A failure changes nothing but the schedule.
func (j *JWKS) apply(f *fetch, answer *fetchedKeys, err error) {
	now := time.Now()
	j.mu.Lock()
	if f.successor != nil {
		j.mu.Unlock()
		<-f.successor.done // what it brings is what those who wait for f want to know
		f.err = f.successor.err
		return
	}
	j.inflight = nil
	j.tried, j.err, f.err = now, err, err
	if answer != nil && !answer.notModified {
		j.omitted = answer.omitted
	}
	report := FetchReport{URL: j.settings.URL, Err: err, Omitted: j.omitted}
	if err != nil {
		j.failures++
		j.next = now.Add(jitter(min(firstRetry<<min(j.failures-1, 8), lastRetry)))
	} else {
		j.failures = 0
		lifetime := j.lifetime(answer.lifetime)
		version := j.version
		s := j.snapshotLocked(answer, now)
		report.Replaced = j.version != version
		s.freshUntil = now.Add(lifetime)
		j.next = now.Add(jitter(lifetime * 9 / 10))
		report.Changed, report.Fetched, report.Raw = !answer.notModified, s.fetched, s.raw
		j.current.Store(s)
	}
	report.Keys = len(j.active())
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	if j.report != nil && j.ctx.Err() == nil {
		j.report(report)
	}
}

// snapshotLocked returns the snapshot for answer; a server that says "not modified", or sends the same keys again, extends
// the one we have. Its version stays, so that nothing that was verified with it is verified again.
func (j *JWKS) snapshotLocked(answer *fetchedKeys, now time.Time) *keySnapshot {
	if s := j.current.Load(); s != nil && (answer.notModified || s.set.equal(answer.set)) {
		confirmed := *s
		confirmed.fetched = now
		if !answer.notModified {
			confirmed.validators = answer.validators
		}
		return &confirmed
	}
	j.version++
	return &keySnapshot{set: answer.set, version: j.version, fetched: now, validators: answer.validators, raw: answer.raw}
}

// Restore takes a set that was fetched from the same URL earlier, where none is there yet. It serves like a set whose
// lifetime has passed: until a newer one is fetched, or stale_if_error is over.
func (j *JWKS) Restore(raw []byte, fetched time.Time) error {
	set, omitted, err := parseKeySet(raw, j.settings.SmallKeys)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if now := time.Now(); j.current.Load() == nil && !fetched.After(now) && now.Before(fetched.Add(j.settings.StaleIfError)) {
		j.version++
		j.omitted = omitted
		j.current.Store(&keySnapshot{set: set, version: j.version, fetched: fetched, freshUntil: fetched, raw: raw})
	}
	return nil
}

func (j *JWKS) lifetime(named time.Duration) time.Duration {
	if named < 0 {
		named = j.settings.RefreshInterval
	}
	return min(max(named, MinRefreshInterval), MaxRefreshInterval)
}

// jitter returns 80 to 100 % of d, so that gateways that started together do not ask together.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d/5+1) }

// usable returns the current set, or nil if there is none or it is too old to be trusted.
func (j *JWKS) usable(now time.Time) *keySnapshot {
	s := j.current.Load()
	if s == nil || !now.Before(s.freshUntil) && !now.Before(s.fetched.Add(j.settings.StaleIfError)) {
		return nil
	}
	return s
}

func (j *JWKS) algorithm() string { return jwa.RS256.String() }

func (j *JWKS) active() []*Key {
	if s := j.usable(time.Now()); s != nil {
		return s.set.keys
	}
	return nil
}

// candidates never waits: it answers from the set that is there.
func (j *JWKS) candidates(h header) (keys []*Key, version uint64, rej *Rejection) {
	s := j.usable(time.Now())
	if s == nil {
		return nil, 0, reject(KeysUnavailable, "the key set could not be fetched yet, or not for longer than stale_if_error")
	}
	keys, _ = s.set.match(h)
	keys, rej = limitCandidates(keys)
	return keys, s.version, rej
}

func (j *JWKS) standing(now time.Time) (*KeySet, uint64) {
	if s := j.usable(now); s != nil {
		return s.set, s.version
	}
	return nil, 0
}

// A JWKSStatus tells operators what a JWKS knows.
type JWKSStatus struct {
	URL        string
	Fetched    time.Time // of the current set; zero if there is none
	FreshUntil time.Time
	Tried      time.Time // the last attempt
	Next       time.Time // the next attempt
	Err        error     // of the last attempt
	Usable     bool      // whether tokens can be verified with the set
	Omitted    []Omitted // entries of the set that are not used
}

// Status returns what j knows at this moment.
func (j *JWKS) Status() JWKSStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	status := JWKSStatus{URL: j.settings.URL, Tried: j.tried, Next: j.next, Err: j.err, Omitted: j.omitted}
	if j.settings.Public {
		status.Err = closed(j.err)
	}
	if s := j.current.Load(); s != nil {
		status.Fetched, status.FreshUntil = s.fetched, s.freshUntil
		status.Usable = j.usable(time.Now()) != nil
	}
	return status
}
