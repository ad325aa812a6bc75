package registry

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

var (
	errBusy   = errors.New("too many names are looked up in the store at this moment")
	errOutage = errors.New("the storage failed at a lookup a moment ago")
	errSlow   = errors.New("the storage has not answered a lookup in time")
)

// find returns the entry of a stored messenger, or nil if there is none. A name that is not in memory costs one listing, and the
// reads of what is listed. Names come from requests, so these are bounded in number, and clients take turns. An error means
// that it is unknown whether the messenger exists.
func (s *Store) find(ctx context.Context, name string) (*storedEntry, error) {
	if e, ok := s.cached(name); ok {
		return e, nil
	}
	if _, absent := s.absent.GetIfPresent(name); absent || config.CheckName(name) != nil {
		return nil, nil
	}
	turn, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	leave, err := s.lookups.Enter(turn, s.clientOf(ctx))
	if err != nil {
		return nil, errBusy
	}
	if at := s.failed.Load(); at != nil && time.Since(*at) < outage {
		leave()
		return nil, errOutage
	}
	f, joined := s.flightOf(ctx, name, leave)
	answer, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case <-f.done:
	case <-answer.Done():
		return nil, errSlow
	}
	if _, absent := s.absent.GetIfPresent(name); joined && f.entry == nil && f.err == nil && !absent {
		return s.find(ctx, name) // it was created after that look-up, and before this request
	}
	return f.entry, f.err
}

// A flight is a look-up in progress, for which all requests for the name wait. It has one place of the turnstile, however many
// these are.
type flight struct {
	done  chan struct{}
	entry *storedEntry
	err   error
}

// flightOf returns the look-up of a name, and begins one if there is none. leave is called when its place is free again.
func (s *Store) flightOf(ctx context.Context, name string, leave func()) (f *flight, joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.flights[name]; f != nil {
		leave()
		return f, true
	}
	f = &flight{done: make(chan struct{})}
	s.flights[name] = f
	// The read continues when the client goes away: cancelling it would look like a failing storage.
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxRead)
	go func() {
		defer leave()
		defer cancel()
		f.entry, f.err = s.lookUp(reading, name)
		s.mu.Lock()
		delete(s.flights, name)
		s.mu.Unlock()
		close(f.done)
	}()
	return f, false
}

// maxRead is how long the reading of one messenger may take. With many facts it takes longer than one call of the storage.
const maxRead = 30 * time.Second

// lookUp returns the entry of a stored messenger, which it reads unless it is in memory, or nil if there is none.
func (s *Store) lookUp(ctx context.Context, name string) (*storedEntry, error) {
	defer s.lock(name)()
	if e, ok := s.cached(name); ok {
		return e, nil
	}
	if _, absent := s.absent.GetIfPresent(name); absent {
		return nil, nil
	}
	j, err := s.readStored(ctx, name)
	if err != nil {
		return nil, err
	}
	if e, ok := s.cached(name); ok {
		return e, nil
	}
	if j == nil {
		return nil, nil
	}
	return s.transient(j)
}

// transient returns an entry for a messenger that was evicted at once, or whose store was released while the request was being
// answered. It is not kept in memory.
func (s *Store) transient(j *ledger.Journal) (*storedEntry, error) {
	r := j.Record()
	if r == nil {
		return nil, nil
	}
	m, err := s.newStored(j.Name, r, j.Rules(Now()))
	if err != nil {
		return nil, &unusableError{err}
	}
	m.acquireMeter()
	e := newEntry(m, j, r.Revision)
	e.release()
	return e, nil
}

// readStored reads a stored messenger into memory. It returns nil if there is none. The caller holds the lock of name.
func (s *Store) readStored(ctx context.Context, name string) (*ledger.Journal, error) {
	j, err := s.begin(ctx, name, ledger.KindStored)
	if err != nil {
		if !isOfOneMessenger(err) {
			now := time.Now()
			s.failed.Store(&now)
		}
		return nil, err
	}
	if j.Record() == nil {
		return nil, nil
	}
	return j, nil
}

// noteChange is called when something about a name was written, before the journals in memory are told: what is known about its
// absence is forgotten, and a journal that is being read is read once more.
func (s *Store) noteChange(name string) {
	s.changes(name).Add(1)
	s.absent.Invalidate(name)
	s.index.Note(name)
	s.summaries.Invalidate(name)
}

// changes returns a counter that noteChange increases.
func (s *Store) changes(name string) *atomic.Uint64 {
	return &s.changed[maphash.String(s.seed, name)%uint64(len(s.changed))]
}

// isConfigured reports whether the running configuration has a messenger of this name, which has precedence over a stored one.
// A configuration that is only being loaded does not count: it may never run. If it does, the app ends the connections of the
// stored messenger then; see EndOrphansOf.
func (s *Store) isConfigured(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.registries, func(reg *Registry) bool { return reg.active.Load() && reg.Messengers[name] != nil })
}

// runs reports whether m is of the running configuration.
func (s *Store) runs(m *Messenger) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.registries, func(reg *Registry) bool { return reg.active.Load() && reg.Messengers[m.Name] == m })
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
	if e == nil {
		return nil, &authn.Rejection{Code: authn.MessengerUnknown, Reason: "no messenger of this name is configured or stored"}
	}
	return e.messenger, nil
}
