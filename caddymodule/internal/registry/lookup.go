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

// find returns the entry of a stored messenger, which says if there is none. A name that is not in memory costs one read.
// Names come from requests, so reads are bounded in number and rate. An error means that it is unknown whether the messenger
// exists.
func (s *Store) find(ctx context.Context, name string) (*storedEntry, error) {
	if e, ok := s.cached(name); ok {
		return e, nil
	}
	if config.CheckName(name) != nil {
		return new(storedEntry), nil
	}
	select {
	case s.lookups <- struct{}{}:
		defer func() { <-s.lookups }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	defer s.lock(name)()
	if e, ok := s.cached(name); ok {
		return e, nil
	}
	if time.Since(time.Unix(0, s.failed.Load())) < outage {
		return nil, errOutage
	}
	if s.reads.Wait(ctx) != nil {
		return nil, errBusy
	}
	// The read continues when the client goes away: cancelling it would look like a failing storage.
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxWait)
	defer cancel()
	return s.lookUp(reading, name)
}

// lookUp reads a stored messenger and caches the result. The caller holds the lock of name.
func (s *Store) lookUp(ctx context.Context, name string) (*storedEntry, error) {
	r, err := s.Read(ctx, name, KindStored)
	if err != nil {
		if !vault.IsUnreadable(err) { // one unreadable value says nothing about the others
			s.failed.Store(time.Now().UnixNano())
		}
		return nil, err
	}
	e, _, err := s.applyStored(name, r)
	return e, err
}

// applyStored makes the record r of a stored messenger active, and returns how many connections that has ended. r is nil if
// there is none. The connections themselves know under what they were opened, so it makes no difference whether the messenger
// was in memory. The caller holds the lock of name.
func (s *Store) applyStored(name string, r *Record) (e *storedEntry, ended int, err error) {
	old, ok := s.cached(name)
	if !ok || old.messenger == nil {
		old = nil
	}
	if r == nil {
		e := new(storedEntry)
		if s.cache(name, e); !s.isConfigured(name) {
			ended = EndAll(name, s.log())
		}
		return e, ended, nil
	}
	if old != nil && old.revision == r.Revision {
		old.version.Store(r.Version)
		if added := old.messenger.revoked.Set(r.rules(time.Now())); !s.isConfigured(name) {
			ended = old.messenger.endRevoked(added)
		}
		return old, ended, nil
	}
	m, err := s.newStored(name, r)
	if err != nil {
		return nil, 0, fmt.Errorf("stored messenger %s: %w", name, err)
	}
	m.acquireMeter()
	e = newEntry(m, r)
	s.cache(name, e)
	rules := r.rules(time.Now())
	if old != nil {
		rules = old.messenger.revoked.Set(rules)
	}
	if !s.isConfigured(name) { // otherwise the stored messenger is not active
		ended = m.endRevoked(rules) + m.endInvalidated()
	}
	return e, ended, nil
}

// isConfigured reports whether a running configuration has a messenger of this name, which has precedence over a stored one.
// A configuration that is only being loaded does not count: it may never run. If it does, the app ends the connections of the
// stored messenger then; see EndOrphansOf.
func (s *Store) isConfigured(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.registries, func(reg *Registry) bool { return reg.started.Load() && reg.Messengers[name] != nil })
}

// Changed makes active what this node has just written, and returns how many connections of this node that has ended.
func (s *Store) Changed(name, kind string, r *Record) (ended int, err error) {
	defer s.lock(name)()
	if kind == kindRing {
		return s.applyOwned(name, r)
	}
	_, ended, err = s.applyStored(name, r)
	return ended, err
}

// IsInternal reports whether the operator allows stored messengers to fetch key sets from host, with or without its port.
func (s *Store) IsInternal(hostname, host string) bool {
	return slices.ContainsFunc(s.internal, func(entry string) bool {
		return ascii.EqualFold(entry, hostname) || ascii.EqualFold(entry, host)
	})
}

// Find returns the messenger of that name, configured or stored. The rejection is messenger_unknown if there is none, and
// keys_unavailable if that cannot be decided.
func (reg *Registry) Find(ctx context.Context, name string) (*Messenger, *authn.Rejection) {
	if m := reg.Messengers[name]; m != nil {
		return m, nil
	}
	e, err := reg.Store.find(ctx, name)
	if err != nil {
		if c := reg.refusals.Check(zap.WarnLevel, "a stored messenger cannot be read"); c != nil {
			c.Write(zap.Error(err))
		}
		return nil, &authn.Rejection{Code: authn.KeysUnavailable, Reason: "the store cannot be asked for this messenger right now"}
	}
	if e.messenger == nil {
		return nil, &authn.Rejection{Code: authn.MessengerUnknown, Reason: "no messenger of this name is configured or stored"}
	}
	return e.messenger, nil
}
