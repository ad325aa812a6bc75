package auth

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/recent"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// ContactLimit limits what one contact may do on one node.
type ContactLimit struct {
	// How many WebSockets and event streams a contact may have open at a time. 0 sets no limit. Default: 0.
	Connections int `json:"connections,omitempty"`

	// How many requests a contact may send in a window; a handshake is one. They may come all at once; then the contact gets them
	// back evenly over the window. 0 sets no limit. Default: 0.
	Requests int `json:"requests,omitempty"`

	// The window of the requests. Required with requests.
	Window caddy.Duration `json:"window,omitempty"`
}

const (
	// maxLimited is how many contacts are remembered at most. A contact is forgotten, and has its full allowance again, if it sends
	// nothing while about half as many other contacts do.
	maxLimited = 1 << 16

	// connectionRetry is the value of Retry-After for a contact with too many connections, in seconds.
	connectionRetry = 15
)

func (c *ContactLimit) check() error {
	switch {
	case c == nil:
		return nil
	case c.Connections < 0 || c.Requests < 0 || c.Window < 0:
		return errors.New("contact_limit has a negative value; remove it to set no limit")
	case c.Connections == 0 && c.Requests == 0:
		return errors.New("contact_limit limits nothing; add connections, such as 5, or requests, such as 60/1m")
	case (c.Requests == 0) != (c.Window == 0):
		return errors.New("contact_limit: requests needs a number and a duration above 0, such as 60/1m")
	case config.CheckUnit(time.Duration(c.Window), "") != nil:
		return fmt.Errorf("contact_limit: window %w", config.CheckUnit(time.Duration(c.Window), "1m"))
	case config.RateTooLarge(c.Requests, c.Window):
		return errors.New("contact_limit: requests is more than 1000000 or 24h; write a limit such as 60/1m")
	}
	return nil
}

// A limitedContact is a contact with one limit: counting starts again when the limit changes, and two directives with the same
// limit count together.
type limitedContact struct {
	messenger, identity string
	requests            int
	window              caddy.Duration
}

// An allowance says how many requests a contact may still send: it has the instant at which all are allowed again, in nanoseconds
// after limitedSince. One number is enough, because every request moves that instant by the same interval (the generic cell rate
// algorithm). So it needs no lock.
type allowance struct{ full atomic.Int64 }

// limitedSince is the instant from which the nanoseconds of allowances count. It has a monotonic reading, so that a change of the
// wall clock does not renew or use up an allowance.
var limitedSince = time.Now()

// limitedContacts has the remaining allowance of each contact. It belongs to the process, so that a reload does not renew it.
var limitedContacts = sync.OnceValue(func() *recent.Map[limitedContact, *allowance] {
	return recent.New[limitedContact, *allowance](maxLimited)
})

// admit counts a verified request in contact_limit, and returns the assertion about its contact, or why it is refused.
func (h *Handler) admit(r *http.Request, d decision) (asserted string, over *authn.Rejection) {
	over = h.overLimit(d.messenger, r, d.outcome)
	if over != nil && d.mode != config.ModeReport {
		return "", over
	}
	asserted, failed := h.assert(d.messenger, d.outcome)
	return asserted, cmp.Or(over, failed)
}

// overLimit counts a verified request, and returns the rejection if its contact has reached a limit. The messenger and the identity
// are those of a valid token, so that a contact is never counted for what another one does.
func (h *Handler) overLimit(m *registry.Messenger, r *http.Request, o *upstream.Outcome) *authn.Rejection {
	if h.ContactLimit == nil || o.Contact == nil {
		return nil
	}
	if h.ContactLimit.Requests > 0 && o.Counts(upstream.Rate{Requests: h.ContactLimit.Requests, Window: time.Duration(h.ContactLimit.Window)}) {
		now := o.Began
		if o.Cache != authn.CacheHit {
			now = time.Now() // the verification may have waited for a key
		}
		if wait := h.ContactLimit.take(m.Name, o.Contact.Identity, now); wait > 0 {
			return &authn.Rejection{Code: authn.TooManyRequests, Reason: "the contact has sent more requests than contact_limit allows",
				RetryAfter: int(math.Ceil(wait.Seconds()))}
		}
	}
	if limit := h.ContactLimit.Connections; limit > 0 && (o.MaxConnections == 0 || limit < o.MaxConnections) {
		o.MaxConnections = limit
	}
	if o.MaxConnections > 0 && (o.Handshake || asksForEvents(r)) && hasConnections(m, o) {
		return &authn.Rejection{Code: authn.TooManyConnections, Reason: "the contact has as many connections open as contact_limit allows",
			RetryAfter: connectionRetry}
	}
	return nil
}

// hasConnections reports whether the contact has as many connections as it may. If an earlier handler tracks the connection of this
// request already, it is not counted.
func hasConnections(m *registry.Messenger, o *upstream.Outcome) bool {
	if o.Session != nil {
		return o.Session.IsBeyond(o.MaxConnections)
	}
	return registry.Connections.Has(m.Name, o.Contact.Identity, o.MaxConnections)
}

// take subtracts one request from the allowance of a contact. If the allowance is used up, it returns how long to wait.
func (c *ContactLimit) take(messenger, identity string, now time.Time) time.Duration {
	contacts := limitedContacts()
	key := limitedContact{messenger, identity, c.Requests, c.Window}
	instant := int64(now.Sub(limitedSince))
	left, found := contacts.Get(identity, key)
	if !found {
		key.identity = strings.Clone(identity) // the original is a part of an entry of the token cache, and would keep all of it in memory
		whole := new(allowance)
		whole.full.Store(instant)
		left = contacts.Add(identity, key, whole, 1, func(*allowance) bool { return true })
	}
	return left.take(instant, int64(c.Requests), int64(c.Window))
}

// take is [ContactLimit.take] at an instant in nanoseconds.
func (a *allowance) take(now, requests, window int64) time.Duration {
	interval := max(window/requests, 1)
	for {
		full := a.full.Load()
		next := max(full, now) + interval
		if wait := next - now - interval*requests; wait > 0 {
			return time.Duration(wait)
		}
		if a.full.CompareAndSwap(full, next) {
			return 0
		}
	}
}
