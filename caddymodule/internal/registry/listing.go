package registry

import (
	"context"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/nameindex"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// StoredNames returns the names that the storage has anything of. Some may be those of deleted messengers. Callers at about the
// same time share one reading.
func (reg *Registry) StoredNames(ctx context.Context) (nameindex.Index, error) {
	v, err := reg.Store.index.View(ctx)
	return v, apierror.Storage(err)
}

// A Peeked is what the storage has of a name.
type Peeked struct {
	Name    string
	Journal *ledger.Journal
	Record  *ledger.Record // nil if there is no messenger
	Err     error          // why it cannot be read
}

// Peek reads what the storage has of messengers, several at a time, and calls found for each. There may be any number of names, so
// Peek does not load messengers into memory, evict others or fetch key sets. A messenger that is in memory is brought up to date.
// Peek returns an error if the storage cannot be reached, and goes on if one value cannot be read.
func (reg *Registry) Peek(ctx context.Context, names []string, kind string, found func(i int, p Peeked)) error {
	return apierror.Storage(vault.UntilError(ctx, names, func(i int, name string) error {
		j, err := reg.Store.peek(ctx, name, kind)
		p := Peeked{Name: name, Journal: j, Err: apierror.Storage(err)}
		switch {
		case err == nil:
			p.Record = j.Record()
		case !isOfOneMessenger(err):
			return err
		}
		found(i, p)
		return nil
	}))
}

// peek returns the journal of a name with everything that the storage has now. A journal that is not in memory is read
// detached: its facts do not become active.
func (s *Store) peek(ctx context.Context, name, kind string) (*ledger.Journal, error) {
	if s.inMemory(name, kind) != nil {
		return s.fresh(ctx, name, kind)
	}
	j := s.newJournal(name, kind)
	j.Detached = true
	if _, err := j.Read(ctx, s.Vault, false); err != nil {
		return j, err
	}
	return j, j.Damage()
}

// A Summary has the properties by which lists are filtered and sorted.
type Summary struct {
	Name, Method string
	Mode         config.Mode
	Changed      time.Time
	Absent       bool // there is no messenger of this name
	Unreadable   bool

	read time.Time // the cache does not check ages itself, because it would need a goroutine with a timer
}

// summaryAge is how long a summary is used. It is read again earlier if this node changes the messenger, or sees that another node
// has changed it.
const summaryAge = time.Minute

// MaxSorted is how many messengers can be filtered, or sorted other than by name.
const MaxSorted = 10_000

// Summaries returns summaries of stored messengers, in the order of names. It reads those that were not read a moment ago.
func (reg *Registry) Summaries(ctx context.Context, names []string) ([]Summary, error) {
	s := reg.Store
	list := make([]Summary, len(names))
	var unread []string
	var at []int
	before := make(map[string]uint64)
	for i, name := range names {
		if known, ok := s.summaries.GetIfPresent(name); ok && time.Since(known.read) < summaryAge {
			list[i] = known
			continue
		}
		unread, at = append(unread, name), append(at, i)
		before[name] = s.changes(name).Load()
	}
	err := reg.Peek(ctx, unread, ledger.KindStored, func(i int, p Peeked) {
		made := Summary{Name: p.Name, Absent: p.Record == nil && p.Err == nil, Unreadable: p.Err != nil, read: time.Now()}
		if p.Record != nil {
			made.Method, made.Mode, made.Changed = p.Record.Settings.Method(), p.Record.Settings.Mode.Or(config.ModeRequired), p.Record.Changed
		}
		list[at[i]] = made
		if s.changes(p.Name).Load() == before[p.Name] {
			s.summaries.Set(p.Name, made)
		}
	})
	return list, err
}
