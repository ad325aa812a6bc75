package registry

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// OrphanInterval is how often endOrphans looks whether its configuration is in force: Caddy tells nobody.
const OrphanInterval = 50 * time.Millisecond

// coming are the registries of configurations that are being loaded. Their servers answer requests before Caddy makes them the
// active one.
var coming struct {
	sync.Mutex
	apps map[*Registry]bool
}

// announce makes known that the configuration of a is being loaded, and arrive that it is active, or never will be.
func (a *Registry) announce() {
	coming.Lock()
	defer coming.Unlock()
	if coming.apps == nil {
		coming.apps = make(map[*Registry]bool)
	}
	coming.apps[a] = true
}

func (a *Registry) Arrive() {
	coming.Lock()
	defer coming.Unlock()
	delete(coming.apps, a)
}

// currentMessenger returns the messenger that is active at this moment under the name of m, by which a token was verified:
// in the meantime, m may have been changed, deleted, or left out of a new configuration. It is pinned if it is a stored
// one, and so its connection must be known to the tracker already.
func currentMessenger(ctx context.Context, m *Messenger) (*Messenger, *authn.Rejection) {
	if caddy.ActiveContext().Context == nil {
		return m, nil // the first configuration is being loaded
	}
	waitForDrop(ctx, m)
	rej := &authn.Rejection{Code: authn.MessengerUnknown}
	if active, err := activeRegistry(); err == nil {
		var current *Messenger
		if current, rej = active.pinnedMessenger(ctx, m.Name); rej == nil {
			return current, nil
		}
	}
	coming.Lock()
	defer coming.Unlock()
	for a := range coming.apps {
		current := a.Messengers[m.Name]
		if e, ok := a.Store.known(m.Name); ok && current == nil {
			current = e.messenger
		}
		if current == m {
			return m, nil // it is from there
		}
	}
	return nil, rej
}

// activeRegistry returns the registry of the running configuration.
func activeRegistry() (*Registry, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, StatusError(http.StatusServiceUnavailable, "no configuration is loaded")
	}
	app, err := ctx.AppIfConfigured("messenger")
	if err != nil {
		return nil, StatusError(http.StatusNotFound, "the running configuration has no messenger")
	}
	return app.(interface{ Registry() *Registry }).Registry(), nil
}

// waitForDrop waits while a configuration is being loaded that leaves m out. Its server may answer already; whether it becomes
// the active one, nobody knows yet. One that takes long is not waited for.
func waitForDrop(ctx context.Context, m *Messenger) {
	if m.Stored || !dropping(m) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	ticker := time.NewTicker(OrphanInterval / 5)
	defer ticker.Stop()
	for dropping(m) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func dropping(m *Messenger) bool {
	coming.Lock()
	defer coming.Unlock()
	for a := range coming.apps {
		if a.Messengers[m.Name] == nil {
			return true
		}
	}
	return false
}

// pinnedMessenger is messenger, and keeps what it finds in memory.
func (a *Registry) pinnedMessenger(ctx context.Context, name string) (*Messenger, *authn.Rejection) {
	for {
		m, rej := a.Find(ctx, name)
		if rej != nil || !m.Stored || a.Store.pin(name) {
			return m, rej
		}
		if ctx.Err() != nil { // it was evicted at this very moment, again and again
			return nil, &authn.Rejection{Code: authn.KeysUnavailable, Reason: "the messenger is not in memory"}
		}
	}
}

// SetOrigin says what connections are opened under from now on.
func (m *Messenger) SetOrigin(o session.Origin) {
	if before := m.Origin.Load(); before == nil || *before != o {
		m.Origin.Store(&o)
	}
}

// withdrew reports whether s, which was opened under this name, has lost what it rests on, revocations excepted: the
// messenger was deleted and created again, or its key is not active any more and connections were to be closed with it. A
// key that was only replaced, by rotation, in its file or in the settings, ends no connection.
func (m *Messenger) withdrew(s session.Subject, active map[string]bool) bool {
	now, then := m.Origin.Load(), s.Origin
	if then == nil {
		return false
	}
	switch another := then.Created.IsZero() != now.Created.IsZero(); {
	case !another && !now.Created.Equal(then.Created):
		return true
	case active[s.Key]:
		return false
	default: // a stored messenger took the place of a configured one, or the other way round
		return another || now.Closings != then.Closings
	}
}

// Ended returns how a connection of s has to end at once, and false if it may go on. m is by whose settings its token was
// verified. What happened between that and the beginning of the connection, which can be as long as a backend takes to
// answer, shows only here. If nobody can say what is active now, it may not go on.
func (m *Messenger) Ended(ctx context.Context, s session.Subject) (session.Ending, bool) {
	current, rej := currentMessenger(ctx, m)
	switch {
	case rej != nil && rej.Code == authn.MessengerUnknown:
		return session.Revoked, true
	case rej != nil, current.revoked.Unknown():
		return session.Ending{Code: TryAgainLater, Reason: string(authn.KeysUnavailable)}, true
	}
	active := current.Verifier.Load().Active()
	// A key set that was not fetched yet says nothing, and has its say with the first fetch; see KeySetChanged.
	dropped := current.KeySet != nil && !active[s.Key] && (len(active) > 0 || current.Engine == m.Engine)
	return session.Revoked, dropped || current.withdrew(s, active) || current.revoked.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued)
}

const TryAgainLater = 1013 // of the registry of close codes (RFC 6455 section 11.7)
