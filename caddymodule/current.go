package caddymodule

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// coming are the registries of configurations that are being loaded. Their servers answer requests before Caddy makes them the
// active one.
var coming struct {
	sync.Mutex
	apps map[*registry]bool
}

// announce makes known that the configuration of a is being loaded, and arrive that it is active, or never will be.
func (a *registry) announce() {
	coming.Lock()
	defer coming.Unlock()
	if coming.apps == nil {
		coming.apps = make(map[*registry]bool)
	}
	coming.apps[a] = true
}

func (a *registry) arrive() {
	coming.Lock()
	defer coming.Unlock()
	delete(coming.apps, a)
}

// currentMessenger returns the messenger that is active at this moment under the name of m, by which a token was verified:
// in the meantime, m may have been changed, deleted, or left out of a new configuration. It is pinned if it is a stored
// one, and so its connection must be known to the tracker already.
func currentMessenger(ctx context.Context, m *messenger) (*messenger, *authn.Rejection) {
	if caddy.ActiveContext().Context == nil {
		return m, nil // the first configuration is being loaded
	}
	waitForDrop(ctx, m)
	rej := &authn.Rejection{Code: authn.MessengerUnknown}
	if active, err := activeRegistry(); err == nil {
		var current *messenger
		if current, rej = active.pinnedMessenger(ctx, m.name); rej == nil {
			return current, nil
		}
	}
	coming.Lock()
	defer coming.Unlock()
	for a := range coming.apps {
		current := a.Messengers[m.name]
		if e, ok := a.live.known(m.name); ok && current == nil {
			current = e.messenger
		}
		if current == m {
			return m, nil // it is from there
		}
	}
	return nil, rej
}

// activeRegistry returns the registry of the running configuration.
func activeRegistry() (*registry, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, adminError(http.StatusServiceUnavailable, "no configuration is loaded")
	}
	app, err := ctx.AppIfConfigured("messenger")
	if err != nil {
		return nil, adminError(http.StatusNotFound, "the running configuration has no messenger")
	}
	return app.(interface{ Registry() *registry }).Registry(), nil
}

// waitForDrop waits while a configuration is being loaded that leaves m out. Its server may answer already; whether it becomes
// the active one, nobody knows yet. One that takes long is not waited for.
func waitForDrop(ctx context.Context, m *messenger) {
	if m.stored || !dropping(m) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	ticker := time.NewTicker(orphanInterval / 5)
	defer ticker.Stop()
	for dropping(m) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func dropping(m *messenger) bool {
	coming.Lock()
	defer coming.Unlock()
	for a := range coming.apps {
		if a.Messengers[m.name] == nil {
			return true
		}
	}
	return false
}

// pinnedMessenger is messenger, and keeps what it finds in memory.
func (a *registry) pinnedMessenger(ctx context.Context, name string) (*messenger, *authn.Rejection) {
	for {
		m, rej := a.messenger(ctx, name)
		if rej != nil || !m.stored || a.live.pin(name) {
			return m, rej
		}
		if ctx.Err() != nil { // it was evicted at this very moment, again and again
			return nil, &authn.Rejection{Code: authn.KeysUnavailable, Reason: "the messenger is not in memory"}
		}
	}
}

// setOrigin says what connections are opened under from now on.
func (m *messenger) setOrigin(o session.Origin) {
	if before := m.origin.Load(); before == nil || *before != o {
		m.origin.Store(&o)
	}
}

// withdrew reports whether s, which was opened under this name, has lost what it rests on, revocations excepted: the
// messenger was deleted and created again, or its key is not active any more and connections were to be closed with it. A
// key that was only replaced, by rotation, in its file or in the settings, ends no connection.
func (m *messenger) withdrew(s session.Subject, active map[string]bool) bool {
	now, then := m.origin.Load(), s.Origin
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

// ended returns how a connection of s has to end at once, and false if it may go on. m is by whose settings its token was
// verified. What happened between that and the beginning of the connection, which can be as long as a backend takes to
// answer, shows only here. If nobody can say what is active now, it may not go on.
func (m *messenger) ended(ctx context.Context, s session.Subject) (session.Ending, bool) {
	current, rej := currentMessenger(ctx, m)
	switch {
	case rej != nil && rej.Code == authn.MessengerUnknown:
		return session.Revoked, true
	case rej != nil, current.revoked.Unknown():
		return session.Ending{Code: tryAgainLater, Reason: string(authn.KeysUnavailable)}, true
	}
	active := current.verifier.Load().Active()
	// A key set that was not fetched yet says nothing, and has its say with the first fetch; see keySetChanged.
	dropped := current.jwks != nil && !active[s.Key] && (len(active) > 0 || current.engine == m.engine)
	return session.Revoked, dropped || current.withdrew(s, active) || current.revoked.Covers(s.Identity, authn.TokenID(s.TokenID), s.Issued)
}
