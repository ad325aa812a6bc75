package auth

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/recent"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// ContactLimit limits what one contact may do on one node.
type ContactLimit struct {
	// How many WebSockets and event streams a contact may have open at a time. 0 sets no limit. Default: 0.
	Connections int `json:"connections,omitempty"`

	// How many requests a contact may send in a window; a handshake is one. They may come at once, and are allowed again evenly
	// over the window. 0 sets no limit. Default: 0.
	Requests int `json:"requests,omitempty"`

	// The window of the requests. Required with requests.
	Window caddy.Duration `json:"window,omitempty"`
}

const (
	// maxLimited is how many contacts are remembered. When there are more, those that have sent nothing for the longest time are
	// forgotten, and have their full allowance again.
	maxLimited = 1 << 16

	// connectionRetry is what Retry-After says to a contact with too many connections, in seconds.
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
	case c.Requests > 1_000_000 || time.Duration(c.Window) > 24*time.Hour:
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

// limitedContacts stores what is left of each contact's allowance. It belongs to the process, so that a reload does not renew it.
var limitedContacts = sync.OnceValue(func() *recent.Map[limitedContact, *rate.Limiter] {
	return recent.New[limitedContact, *rate.Limiter](maxLimited)
})

// overLimit counts a verified request, and returns the rejection if its contact has reached a limit. The messenger and the identity
// are those of a valid token, so that a contact is never counted for what another one does.
func (h *Handler) overLimit(m *registry.Messenger, r *http.Request, o *upstream.Outcome) *authn.Rejection {
	if h.ContactLimit == nil || o.Contact == nil || o.Limited {
		return nil
	}
	o.Limited = true
	if h.ContactLimit.Requests > 0 {
		if wait := h.ContactLimit.take(m.Name, o.Contact.Identity, time.Now()); wait > 0 {
			return &authn.Rejection{Code: authn.TooManyRequests, Reason: "the contact has sent more requests than contact_limit allows",
				RetryAfter: int(math.Ceil(wait.Seconds()))}
		}
	}
	if o.Most = h.ContactLimit.Connections; o.Most > 0 && (o.Handshake || asksForEvents(r)) && registry.Connections.Has(m.Name, o.Contact.Identity, o.Most) {
		return &authn.Rejection{Code: authn.TooManyConnections, Reason: "the contact has as many connections open as contact_limit allows",
			RetryAfter: connectionRetry}
	}
	return nil
}

// refuseOver refuses a verified request. An error route must not take it for one that passed.
func (h *Handler) refuseOver(w http.ResponseWriter, r *http.Request, m *registry.Messenger, o *upstream.Outcome, over *authn.Rejection) error {
	o.Contact, o.Rejection = nil, over
	return h.refuse(w, r, m, o, over)
}

// take takes one request out of the allowance of a contact. It returns how long to wait if there is none left.
func (c *ContactLimit) take(messenger, identity string, now time.Time) time.Duration {
	contacts := limitedContacts()
	key := limitedContact{messenger, identity, c.Requests, c.Window}
	limiter, found := contacts.Get(identity, key)
	if !found {
		key.identity = strings.Clone(identity) // it is a part of what the token cache remembers
		limiter = contacts.Add(identity, key, rate.NewLimiter(rate.Every(time.Duration(c.Window)/time.Duration(c.Requests)), c.Requests), 1,
			func(*rate.Limiter) bool { return true })
	}
	if limiter.AllowN(now, 1) {
		return 0
	}
	missing := max(1-limiter.TokensAt(now), 0.001)
	return max(time.Duration(missing/float64(limiter.Limit())*float64(time.Second)), time.Nanosecond)
}
