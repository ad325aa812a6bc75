package admin

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// actorOf returns who sent r: the address, and the name in the client certificate at the remote admin endpoint.
func actorOf(r *http.Request) registry.Actor {
	who := r.RemoteAddr
	if who == "" || who == "@" {
		who = "unix socket"
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		who += " " + r.TLS.PeerCertificates[0].Subject.String()
	}
	return registry.Actor("admin API, " + who)
}

// conditionOf reads If-Match and If-None-Match (RFC 9110 section 13.1). It understands one revision or "*", and no lists. What it does
// not understand must not make a change unconditional.
func conditionOf(r *http.Request) (change.Condition, error) {
	var c change.Condition
	match, err := onlyValue(r.Header, "If-Match")
	if err != nil {
		return c, err
	}
	switch {
	case match == "":
	case match == "*":
		c.Present = true
	case len(match) > 2 && match[0] == '"' && match[len(match)-1] == '"' && !strings.Contains(match[1:len(match)-1], `"`):
		c.Revision = match[1 : len(match)-1]
	default:
		return c, apierror.New(http.StatusBadRequest, `If-Match takes one revision in quotes, as in the header ETag, or *`)
	}
	none, err := onlyValue(r.Header, "If-None-Match")
	if err == nil && none != "" && none != "*" {
		err = apierror.New(http.StatusBadRequest, "If-None-Match takes * only")
	}
	c.Absent = none == "*"
	return c, err
}

// onlyValue returns the value of a header that a request has once, or "" if it is not there.
func onlyValue(header http.Header, name string) (string, error) {
	values := header[http.CanonicalHeaderKey(name)]
	if len(values) > 1 || len(values) == 1 && values[0] == "" {
		return "", apierror.New(http.StatusBadRequest, name+" is empty, or there more than once")
	}
	return strings.Join(values, ""), nil
}

// putConditionOf is conditionOf for a change of settings. It also reads confirm and keep_previous from the query.
func putConditionOf(r *http.Request) (change.Condition, error) {
	c, err := conditionOf(r)
	if err != nil {
		return c, err
	}
	query := r.URL.Query() // which checkQuery has checked
	if confirm := query.Get("confirm"); confirm != "" {
		if c.Confirm, err = strconv.Atoi(confirm); err != nil || c.Confirm < 0 {
			return c, apierror.New(http.StatusBadRequest, "confirm is not a number")
		}
	}
	if keep := query.Get("keep_previous"); keep != "" {
		d, err := caddy.ParseDuration(keep)
		if err != nil {
			return c, apierror.New(http.StatusBadRequest, "keep_previous is not a duration such as 24h or 7d")
		}
		c.KeepPrevious = &d
	}
	return c, nil
}

// An endpoint has a function for each method that it supports.
type endpoint map[string]func() (any, error)

// withStatus is an answer with a status other than 200.
type withStatus struct {
	status int
	body   any
}

// answer calls the function of the request's method, and sends its result as JSON.
func answer(w http.ResponseWriter, r *http.Request, methods endpoint) error {
	defer upstream.ReadRest(w, r, r.Body, maxLargeBody)
	f := methods[r.Method]
	if f == nil {
		allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
		w.Header().Set("Allow", allowed)
		return apierror.New(http.StatusMethodNotAllowed, "method not allowed; use "+allowed)
	}
	body, err := f()
	if err != nil {
		return err
	}
	status := http.StatusOK
	if s, ok := body.(withStatus); ok {
		status, body = s.status, s.body
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(text, '\n'))
	return err
}

// Limits for expensive operations that clients of the admin API and users of the panel can start in parallel. A few run at a
// time. The others wait, and are refused after slotWait or listTime.
var (
	explaining = make(slots, 8) // a refused signature is tried with the keys of all messengers
	listing    = make(slots, 2) // a list may need thousands of reads of the storage
)

// slotWait is how long a request waits for a slot, except for lists and transfers.
const slotWait = 5 * time.Second

// slots is a semaphore.
type slots chan struct{}

var errNoSlot = apierror.New(http.StatusTooManyRequests, "the gateway is busy with other requests of this kind; try again in a moment")

// take waits for a slot, but not longer than limit. The caller returns the slot with release.
func (s slots) take(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errNoSlot
	}
}

func (s slots) release() { <-s }
