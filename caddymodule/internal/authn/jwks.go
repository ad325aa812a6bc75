package authn

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// Defaults and bounds of a JWKS. The key server states the lifetime of a set, within these bounds.
const (
	DefaultRefreshInterval = 10 * time.Minute
	DefaultStaleIfError    = 24 * time.Hour

	MinRefreshInterval = time.Minute
	MaxRefreshInterval = time.Hour
)

// DefaultAlgorithms are the algorithms of public keys unless others are configured.
var DefaultAlgorithms = sigkey.AlgorithmsOf(sigkey.RS256)

// JWKSSettings say where a key set is and how it is kept. Two messengers with equal settings can share one [JWKS].
type JWKSSettings struct {
	URL             string        // see keyserver.CheckURL; of the issuer's metadata if there is an Issuer
	Issuer          string        // the keys are found through it, and verify tokens of it only; "" if URL is that of the set
	RefreshInterval time.Duration // lifetime of a set whose server states none
	StaleIfError    time.Duration // how long a set is used after its last fetch while newer fetches fail
	Timeout         time.Duration // for one whole fetch

	// Access and Scope distinguish requests to one URL with different certificates or headers. They are empty without such settings.
	// Scope does not contain a secret, and may be a part of a name; see config.KeyServerAccess.
	Access, Scope string

	Algorithms sigkey.Algorithms // keys for other algorithms are not used; 0 for DefaultAlgorithms

	// Public is for URLs that the operator of the gateway did not write. Fetches then go only to public addresses and to
	// port 443, and callers see only a reason from a closed list if a fetch fails.
	Public bool

	// SmallKeys is for the same URLs. Keys whose verification costs more than usual are then not used; see [sigkey.Key.CheckSmall].
	SmallKeys bool
}

// A JWKS is a key set that is kept up to date from a URL (RFC 7517 section 5). A verification never waits for the network
// while there is a usable key: it reads an immutable snapshot behind an atomic pointer. A fetch replaces the snapshot, and
// nothing ever changes it. So the request path takes no lock, unless no key fits a token (see renew).
//
// While the key server is down, the last snapshot is used until StaleIfError after it was fetched (see usable). Then the answer is
// [KeysUnavailable], as it is before that for a token with an unknown kid (see checkSignature). The background loop tries again, at
// growing intervals from firstRetry to lastRetry.
//
// A start does not wait for the key server, and succeeds without it. It begins with the set that the store has kept, if that is not
// too old (see Restore). Without one, tokens wait for a fetch that is under way or may be started, at most maxWait (see renew). If it
// fails, or none may be started, the answer is [KeysUnavailable].
//
// Three files start fetches: this one by the clock, jwksrenew.go for tokens, jwksrefresh.go for operators. All of them go
// through beginLocked in jwksfetch.go.
type JWKS struct {
	settings JWKSSettings
	server   keyServer
	report   func(FetchReport)
	snapshot atomic.Pointer[keySnapshot] // nil until the first success, and after a distrust

	ctx    context.Context // cancelled by Close; the fetches' context, so that no request's end cancels a shared fetch
	cancel context.CancelFunc
	start  sync.Once
	wake   chan struct{} // tells the background loop that next has changed

	mu       sync.Mutex       // guards what follows; never held during a fetch or while calling report
	inflight *fetch           // the fetch whose answer counts; nil if there is none
	queued   *fetch           // a refresh that the rate holds back; nil if there is none
	requests *rate.Limiter    // bounds the refreshes that operators request
	renewed  time.Time        // when a token last caused a fetch; set before it begins
	waiting  int              // how many tokens wait for a fetch
	version  uint64           // of the newest snapshot
	failures int              // fetches that failed in a row
	tried    time.Time        // the end of the last fetch
	err      error            // of the last fetch
	omitted  []sigkey.Omitted // from the last set that was read
	next     time.Time        // when the background loop fetches
}

// A keySnapshot is a key set as it was fetched. It never changes.
type keySnapshot struct {
	set        *KeySet
	version    uint64
	fetched    time.Time
	freshUntil time.Time
	validators keyserver.Validators
	raw        []byte
}

// A keyServer is where a set is fetched: at a URL, or at the one that the metadata of an issuer name.
type keyServer interface {
	Fetch(ctx context.Context, known keyserver.Validators) (*keyserver.Answer, error)
	Close()
}

// NewJWKS returns the engine for one URL. It does nothing before Start, or before a token needs a key. access has the certificates and
// headers for requests to the key server, and may be nil. public says which of the hosts in an issuer's metadata must have a public
// address; nil allows any. report is called after every fetch, and may be nil.
func NewJWKS(settings JWKSSettings, access keyserver.AccessFunc, public func(hostname, host string) bool, report func(FetchReport)) *JWKS {
	client := keyserver.NewClient(settings.URL, settings.Public)
	client.Access = access
	j := &JWKS{
		settings: settings,
		server:   client,
		report:   report,
		wake:     make(chan struct{}, 1),
		requests: rate.NewLimiter(rate.Every(refreshInterval), refreshBurst),
	}
	if settings.Issuer != "" {
		j.server = &keyserver.Discovery{Issuer: settings.Issuer, Metadata: client, Public: public}
	}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

// Start begins to keep the set up to date. Calls after the first do nothing.
func (j *JWKS) Start() { j.start.Do(func() { go j.run() }) }

// Close stops what Start, Refresh and tokens have begun.
func (j *JWKS) Close() {
	j.cancel()
	j.server.Close()
}

// run fetches at the time next, again and again, until Close.
func (j *JWKS) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-j.ctx.Done():
			return
		case <-timer.C:
			j.mu.Lock()
			f := j.inflight
			if f == nil {
				f = j.beginLocked(new(fetch))
			}
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

// Restore uses a set that was fetched from the same URL earlier, unless there is one already. It is treated like a set whose
// lifetime has passed: it is used until a newer one is fetched, or stale_if_error is over.
func (j *JWKS) Restore(raw []byte, fetched time.Time) error {
	keys, omitted, err := sigkey.ParseSet(raw, j.algorithms(), j.settings.SmallKeys)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// A time of fetching in the future would keep the set usable for longer than stale_if_error.
	if now := time.Now(); j.snapshot.Load() == nil && !fetched.After(now) && now.Before(fetched.Add(j.settings.StaleIfError)) {
		j.version++
		j.omitted = omitted
		j.snapshot.Store(&keySnapshot{set: j.keySet(keys), version: j.version, fetched: fetched, freshUntil: fetched, raw: raw})
	}
	return nil
}

// lifetime returns how long a set is fresh if the server has stated this lifetime, or -1 if it has not stated one.
func (j *JWKS) lifetime(stated time.Duration) time.Duration {
	if stated < 0 {
		stated = j.settings.RefreshInterval
	}
	return min(max(stated, MinRefreshInterval), MaxRefreshInterval)
}

// jitter returns 80 to 100 % of d, so that gateways that started together do not fetch together.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d/5+1) }

// usable returns the snapshot, or nil if there is none or it is too old to be trusted.
func (j *JWKS) usable(now time.Time) *keySnapshot {
	s := j.snapshot.Load()
	if s == nil || !now.Before(s.freshUntil) && !now.Before(s.fetched.Add(j.settings.StaleIfError)) {
		return nil
	}
	return s
}

func (j *JWKS) algorithms() sigkey.Algorithms {
	return cmp.Or(j.settings.Algorithms, DefaultAlgorithms)
}

func (j *JWKS) active() []*sigkey.Key {
	if s := j.usable(time.Now()); s != nil {
		return s.set.keys
	}
	return nil
}

func (j *JWKS) candidates(h header) (keys []*sigkey.Key, version uint64, rej *Rejection) {
	s := j.usable(time.Now())
	if s == nil {
		return nil, 0, reject(KeysUnavailable, "the key set has not been fetched yet, or the last fetch is older than stale_if_error allows")
	}
	keys, _, rej = s.set.candidates(h)
	return keys, s.version, rej
}

func (j *JWKS) current(now time.Time) (*KeySet, uint64) {
	if s := j.usable(now); s != nil {
		return s.set, s.version
	}
	return nil, 0
}

// A JWKSStatus is the state of a JWKS, for operators.
type JWKSStatus struct {
	URL        string
	Fetched    time.Time // of the current set; zero if there is none
	FreshUntil time.Time
	Tried      time.Time        // the last attempt
	Next       time.Time        // the next attempt
	Err        error            // of the last attempt
	Omitted    []sigkey.Omitted // entries of the set that are not used
}

// Status returns what j knows at this moment.
func (j *JWKS) Status() JWKSStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	status := JWKSStatus{URL: j.settings.URL, Tried: j.tried, Next: j.next, Err: j.shown(j.err), Omitted: j.omitted}
	if s := j.snapshot.Load(); s != nil {
		status.Fetched, status.FreshUntil = s.fetched, s.freshUntil
	}
	return status
}

// shown returns the error of a fetch in the form that callers may see.
func (j *JWKS) shown(err error) error {
	if j.settings.Public || j.settings.SmallKeys && j.settings.Issuer != "" { // an issuer's metadata may name any host
		return keyserver.Reason(err)
	}
	return err
}
