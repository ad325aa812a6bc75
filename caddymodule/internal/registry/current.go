package registry

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// OrphanInterval is how often the app checks whether its configuration is active: Caddy does not notify apps of that.
const OrphanInterval = 50 * time.Millisecond

// loading has the registries of configurations that are being loaded. Their servers answer requests before Caddy makes the
// configuration active.
var loading = struct {
	sync.Mutex
	registries map[*Registry]bool
}{registries: make(map[*Registry]bool)}

// beginLoading records that the configuration of reg is being loaded.
func (reg *Registry) beginLoading() {
	loading.Lock()
	defer loading.Unlock()
	loading.registries[reg] = true
}

// EndLoading records that the configuration of reg is active, or never will be. It may be called more than once.
func (reg *Registry) EndLoading() {
	loading.Lock()
	defer loading.Unlock()
	delete(loading.registries, reg)
}

// currentMessenger returns the messenger that is active at this moment under the name of m. A token was verified with m, which
// may have been changed, deleted, or left out of a new configuration since. A stored messenger gets pinned, so the tracker
// must have the connection already.
func currentMessenger(ctx context.Context, m *Messenger) (*Messenger, *authn.Rejection) {
	if caddy.ActiveContext().Context == nil {
		return m, nil // the first configuration is being loaded
	}
	waitForRemoval(ctx, m)
	rej := &authn.Rejection{Code: authn.MessengerUnknown}
	if app, err := ActiveApp(); err == nil {
		var current *Messenger
		if current, rej = app.Registry().pinnedMessenger(ctx, m.Name); rej == nil {
			return current, nil
		}
	}
	loading.Lock()
	defer loading.Unlock()
	for reg := range loading.registries {
		current := reg.Messengers[m.Name]
		if e, ok := reg.Store.cached(m.Name); ok && current == nil {
			current = e.messenger
		}
		if current == m {
			return m, nil // m belongs to the configuration that is being loaded
		}
	}
	return nil, rej
}

// ActiveApp returns the app of the running configuration. Its errors are API errors.
func ActiveApp() (interface{ Registry() *Registry }, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, apierror.New(http.StatusServiceUnavailable, "no configuration is loaded")
	}
	app, err := ctx.AppIfConfigured("messenger")
	if err != nil {
		return nil, apierror.New(http.StatusNotFound, "the running configuration has no messenger")
	}
	return app.(interface{ Registry() *Registry }), nil
}

// waitForRemoval waits while a configuration that leaves m out is being loaded. Its server may answer already, although it is
// not yet known whether the configuration becomes active. The wait is bounded by maxWait.
func waitForRemoval(ctx context.Context, m *Messenger) {
	if m.Stored || !isBeingRemoved(m) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	ticker := time.NewTicker(OrphanInterval / 5)
	defer ticker.Stop()
	for isBeingRemoved(m) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// isBeingRemoved reports whether a configuration without m is being loaded.
func isBeingRemoved(m *Messenger) bool {
	loading.Lock()
	defer loading.Unlock()
	for reg := range loading.registries {
		if reg.Messengers[m.Name] == nil {
			return true
		}
	}
	return false
}

// pinnedMessenger is Find for a messenger with connections: a stored messenger stays in memory.
func (reg *Registry) pinnedMessenger(ctx context.Context, name string) (*Messenger, *authn.Rejection) {
	for {
		m, rej := reg.Find(ctx, name)
		if rej != nil || !m.Stored || reg.Store.pin(name) {
			return m, rej
		}
		if ctx.Err() != nil { // it was evicted between Find and pin, again and again
			return nil, &authn.Rejection{Code: authn.KeysUnavailable, Reason: "the messenger is not in memory"}
		}
	}
}

// SetOrigin sets the origin of connections that are opened from now on.
func (m *Messenger) SetOrigin(o session.Origin) {
	if before := m.Origin.Load(); before == nil || *before != o {
		m.Origin.Store(&o)
	}
}

// invalidates reports whether a connection of s, which was opened under the name of m, has to end for another reason than a
// revocation: the messenger was deleted and created again, or the key of s is not active any more and an operator removed
// keys together with their connections. A key that was only replaced, by rotation, in its file or in the settings, ends no
// connection.
func (m *Messenger) invalidates(s session.Subject, active map[string]bool) bool {
	now, then := m.Origin.Load(), s.Origin
	if then == nil {
		return false
	}
	switch another := then.Created.IsZero() != now.Created.IsZero(); {
	case !another && !now.Created.Equal(then.Created):
		return true
	case active[s.Key]:
		return false
	default: // a stored messenger replaced a configured one, or the other way round
		return another || now.Closings != then.Closings
	}
}

// Ended returns how a connection of s has to end at once, or false if it may continue, and what becomes of the end of its key then. m
// is the messenger that verified its token. Between that and the opening of the connection a backend may take long to answer, and
// only this check finds what was revoked or removed in the meantime. If the current state is unknown, the connection has to end.
func (m *Messenger) Ended(ctx context.Context, s session.Subject) (ending session.Ending, bound session.Bound, ended bool) {
	current, rej := currentMessenger(ctx, m)
	switch {
	case rej != nil && rej.Code == authn.MessengerUnknown:
		return session.Revoked, bound, true
	case rej != nil, current.revoked.Unknown():
		return session.Ending{Code: TryAgainLater, Reason: string(authn.KeysUnavailable)}, bound, true
	}
	active := current.Verifier.Load().Active()
	// A new key set that was not fetched yet ends nothing here; its first fetch does. See KeySetChanged.
	dropped := !active[s.Key] && (current.hasDropped(s.Key) || current.KeySet != nil && (len(active) > 0 || current.engine.Key == m.engine.Key))
	bound = session.Bound{Unknown: true}
	if current.former != nil {
		bound = current.keyBounds()(s)
	}
	return session.Revoked, bound, dropped || current.invalidates(s, active) || current.revoked.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued)
}

// TryAgainLater is a WebSocket close code (RFC 6455 section 11.7).
const TryAgainLater = 1013
