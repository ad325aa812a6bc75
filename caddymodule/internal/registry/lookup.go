package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

var (
	errBusy   = errors.New("too many names are looked up in the store at this moment")
	errOutage = errors.New("the storage failed a moment ago")
)

// find returns what is known of a stored messenger. A name that was not asked for before costs one read. Names come from
// requests, so reads are bounded in number and rate; an error means that nobody can say whether there is one.
func (l *Store) find(ctx context.Context, name string) (*storedEntry, error) {
	if e, ok := l.known(name); ok {
		return e, nil
	}
	if config.CheckName(name) != nil {
		return new(storedEntry), nil
	}
	select {
	case l.lookups <- struct{}{}:
		defer func() { <-l.lookups }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	defer l.lock(name)()
	if e, ok := l.known(name); ok {
		return e, nil
	}
	if time.Since(time.Unix(0, l.failed.Load())) < outage {
		return nil, errOutage
	}
	if l.reads.Wait(ctx) != nil {
		return nil, errBusy
	}
	// A client that goes away does not end the read: that would look like a storage that fails.
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxWait)
	defer cancel()
	return l.lookUp(reading, name)
}

// LookUp reads a stored messenger and holds what it finds. The caller holds the lock of name.
func (l *Store) lookUp(ctx context.Context, name string) (*storedEntry, error) {
	r, err := l.Read(ctx, name, KindStored)
	if err != nil {
		if !vault.IsUnreadable(err) { // one bad value says nothing about the others
			l.failed.Store(time.Now().UnixNano())
		}
		return nil, err
	}
	e, _, err := l.hold(name, r)
	return e, err
}

// hold makes r what is known of name, and returns how many connections that has ended. What they were opened under is
// asked of the connections themselves, so that it makes no difference whether the messenger was in memory. The caller holds
// the lock of name.
func (l *Store) hold(name string, r *Record) (e *storedEntry, ended int, err error) {
	held, ok := l.known(name)
	if !ok || held.messenger == nil {
		held = nil
	}
	if r == nil {
		e := new(storedEntry)
		if l.know(name, e); !l.isConfigured(name) {
			ended = EndAll(name, l.log())
		}
		return e, ended, nil
	}
	if held != nil && held.revision == r.Revision {
		held.version.Store(r.Version)
		if added := held.messenger.revoked.Set(r.rules(time.Now())); !l.isConfigured(name) {
			ended = held.messenger.endRevoked(added)
		}
		return held, ended, nil
	}
	m, err := l.newStored(name, r)
	if err != nil {
		return nil, 0, fmt.Errorf("stored messenger %s: %w", name, err)
	}
	m.takeMeter()
	e = newEntry(m, r)
	l.know(name, e)
	rules := r.rules(time.Now())
	if held != nil {
		rules = held.messenger.revoked.Set(rules)
	}
	if !l.isConfigured(name) { // otherwise it is not in force
		ended = m.endRevoked(rules) + m.endWithdrawn()
	}
	return e, ended, nil
}

// isConfigured reports whether a configuration has a messenger of this name, which goes before a stored one. One that is only
// being loaded may never come to run; if it does, endOrphans finds the chats of the stored one.
func (l *Store) isConfigured(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.apps, func(a *Registry) bool { return a.started.Load() && a.Messengers[name] != nil })
}

// Changed puts into force what this node has just written, and returns how many connections of this node that has ended.
func (l *Store) Changed(name, kind string, r *Record) (ended int, err error) {
	defer l.lock(name)()
	if kind == kindRing {
		return l.applyOwned(name, r)
	}
	_, ended, err = l.hold(name, r)
	return ended, err
}

// IsInternal reports whether the operator lets stored key sets be fetched from host, written with or without its port.
func (l *Store) IsInternal(hostname, host string) bool {
	return slices.ContainsFunc(l.internal, func(entry string) bool {
		return ascii.EqualFold(entry, hostname) || ascii.EqualFold(entry, host)
	})
}

// Find returns the messenger of that name, configured or stored, or says why there is none.
func (a *Registry) Find(ctx context.Context, name string) (*Messenger, *authn.Rejection) {
	if m := a.Messengers[name]; m != nil {
		return m, nil
	}
	e, err := a.Store.find(ctx, name)
	if err != nil {
		if c := a.refusals.Check(zap.WarnLevel, "a stored messenger cannot be read"); c != nil {
			c.Write(zap.Error(err))
		}
		return nil, &authn.Rejection{Code: authn.KeysUnavailable, Reason: "the store cannot be asked for this messenger right now"}
	}
	if e.messenger == nil {
		return nil, &authn.Rejection{Code: authn.MessengerUnknown, Reason: "no messenger of this name is configured or stored"}
	}
	return e.messenger, nil
}
