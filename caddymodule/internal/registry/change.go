package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Where a messenger comes from.
const (
	SourceConfig = "config"
	SourceStored = "stored"
)

// An Actor is who makes a change, for the audit log.
type Actor string

// A Condition is what must be true of the record of a messenger for a change to be made.
type Condition struct {
	Revision string // if not empty, the record must have this revision
	Absent   bool   // there must not be a record
	Present  bool   // there must be a record
}

// Check returns an error with status 412 if old, which is nil if there is no record, does not meet the condition.
func (c Condition) Check(old *Record) error {
	switch {
	case c.Absent && old != nil:
		return StatusError(http.StatusPreconditionFailed, "there is a stored messenger of this name already")
	case c.Present && old == nil:
		return StatusError(http.StatusPreconditionFailed, "there is nothing yet that could be changed")
	case c.Revision != "" && (old == nil || old.Revision != c.Revision):
		return StatusError(http.StatusPreconditionFailed, "it was changed meanwhile; look at it again, and repeat the change if it still makes sense")
	}
	return nil
}

var (
	// ErrNoMessenger is the error for a name without a messenger.
	ErrNoMessenger = StatusError(http.StatusNotFound, "there is no messenger of this name, neither configured nor stored; list shows those that there are")

	// ErrNotRevoked is the error for undoing what was not revoked.
	ErrNotRevoked = StatusError(http.StatusNotFound, "no such revocation exists")

	// ErrCovers is the error for undoing a revocation that replaced others.
	ErrCovers = StatusError(http.StatusConflict, "this revocation replaced others, such as the logouts of one contact, and cannot be undone: it is not known any more which tokens these were")

	errNewerSettings = StatusError(http.StatusConflict, "these settings were made by a newer version of the gateway, and this one would lose what it does not know; change them with that version, or delete the messenger")

	errTwoWriters = StatusError(http.StatusConflict, "another change of this messenger was made at the same moment, and this one was not; look at it again, and repeat the change if it still makes sense")
)

// StatusError makes an API error with an HTTP status.
func StatusError(status int, message string) error {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}

// StorageError makes an API error from err, which says why the storage cannot be read or written.
func StorageError(err error) error {
	if err == nil || errors.As(err, new(caddy.APIError)) {
		return err
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, vault.ErrNotSealed) {
		status = http.StatusConflict
	}
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("the storage: %w", err)}
}

// IsUnreadable reports whether an error of this package means that a value exists and cannot be trusted.
func IsUnreadable(err error) bool {
	var answer caddy.APIError
	if errors.As(err, &answer) {
		err = answer.Err
	}
	return vault.IsUnreadable(err)
}

// Audit logs a change and who made it.
func (reg *Registry) Audit(action, name string, by Actor, fields ...zap.Field) {
	reg.Logger.Named("audit").Info(action, append([]zap.Field{zap.String("messenger", name), zap.String("by", string(by))}, fields...)...)
}

// AuditWarning logs that the configuration is valid but probably not intended.
func (reg *Registry) AuditWarning(warning string, fields ...zap.Field) {
	reg.Logger.Named("audit").Named("configuration").Warn(warning, append(fields, zap.String("by", "the configuration"))...)
}

// LookUp returns the messenger of that name as it is active on this node.
func (reg *Registry) LookUp(ctx context.Context, name string) (*Messenger, error) {
	m, rej := reg.Find(ctx, name)
	switch {
	case rej == nil:
		return m, nil
	case rej.Code == authn.MessengerUnknown:
		return nil, ErrNoMessenger
	}
	return nil, StatusError(http.StatusServiceUnavailable, rej.Reason)
}

// changeTimeout bounds a change together with waiting for others of the same messenger.
const changeTimeout = 30 * time.Second

// A nameLock lets one change of a messenger be made at a time on this node.
type nameLock struct {
	taken chan struct{}
	users int
}

// maxChanges is how many changes of one messenger may wait.
const maxChanges = 100

// beginChange waits until no other change of this messenger is made on this node.
func (s *Store) beginChange(ctx context.Context, name string) (context.Context, func(), error) {
	s.mu.Lock()
	l := s.changing[name]
	if l == nil {
		l = &nameLock{taken: make(chan struct{}, 1)}
		s.changing[name] = l
	}
	if l.users > maxChanges {
		s.mu.Unlock()
		return nil, nil, StatusError(http.StatusServiceUnavailable, "too many changes of this messenger are waiting")
	}
	l.users++
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	leave := func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.changing, name)
		}
	}
	select {
	case l.taken <- struct{}{}:
		return ctx, func() { <-l.taken; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, nil, StatusError(http.StatusServiceUnavailable, "other changes of this messenger have not ended in time")
	}
}

// fresh returns the journal of a name with everything that the storage has now. It has no messenger if there is none.
func (s *Store) fresh(ctx context.Context, name, kind string) (*journal, error) {
	defer s.lock(name)()
	var j *journal
	for _, held := range s.held(name) {
		if held.kind == kind {
			j = held
		}
	}
	if j != nil {
		return j, s.readMore(ctx, j)
	}
	j, err := s.begin(ctx, name, kind)
	if errors.As(err, new(*unusableError)) {
		err = nil
	}
	return j, err
}

// again reads what others have written meanwhile, and makes it active together with what this node has written.
func (s *Store) again(ctx context.Context, j *journal) (ended int, err error) {
	defer s.lock(j.name)()
	failed := s.read(ctx, j)
	ended, err = s.apply(j, effect{}) // also what could be read before it failed
	return ended, cmp.Or(failed, err)
}

// write adds facts about an incarnation of a messenger. When it returns nil, they are acknowledged, and active on this node.
func (s *Store) write(ctx context.Context, j *journal, incarnation string, urgent bool, facts ...*fact) (ended int, err error) {
	texts, err := encode(facts)
	if err != nil {
		return 0, err
	}
	s.countEnded(facts[0])
	_, err = s.writer.Append(ctx, folder(j.name, incarnation), urgent, texts)
	ended = s.endedBy(facts[0])
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// Record returns what the store has of a messenger, or nil if there is nothing.
func (reg *Registry) Record(ctx context.Context, name, kind string) (*Record, error) {
	if config.CheckName(name) != nil {
		return nil, nil
	}
	j, err := reg.Store.fresh(ctx, name, kind)
	if err != nil {
		return nil, StorageError(err)
	}
	return j.record(), nil
}

// StoredRecord returns what the store has of a stored messenger. It returns ErrNoMessenger if there is none.
func (reg *Registry) StoredRecord(ctx context.Context, name string) (*Record, error) {
	r, err := reg.Record(ctx, name, KindStored)
	if err == nil && r == nil {
		return nil, ErrNoMessenger
	}
	return r, err
}

// RecordKind returns the messenger's settings, and the kind of its record.
func (reg *Registry) RecordKind(ctx context.Context, name string) (*config.Messenger, string, error) {
	if m := reg.Messengers[name]; m != nil {
		return m.Messenger, kindRing, nil
	}
	r, err := reg.StoredRecord(ctx, name)
	if err != nil {
		return nil, "", err
	}
	return r.Settings, KindStored, nil
}

// Put creates a stored messenger, or changes its settings. Its shared tokens stay, unless the validation method changes. Of two
// callers who change the same settings at once, on any nodes, at most one succeeds.
func (reg *Registry) Put(ctx context.Context, name string, settings *config.Messenger, c Condition) (r *Record, created bool, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, false, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, KindStored)
	if err != nil {
		return nil, false, StorageError(err)
	}
	before := j.record()
	if err := c.Check(before); err != nil {
		return nil, false, err
	}
	if before != nil && errors.Is(before.Unusable, vault.ErrNewer) {
		return nil, false, errNewerSettings
	}
	v, incarnation, err := j.nextVersion(settings)
	if err != nil {
		return nil, false, err
	}
	if _, err = s.write(ctx, j, incarnation, true, v); err == nil {
		_, err = s.again(ctx, j)
	}
	if err != nil {
		return nil, false, StorageError(err)
	}
	if j.hasRival(incarnation, v) {
		if err := s.withdraw(ctx, j, incarnation, v, before == nil); err != nil {
			return nil, false, StorageError(err)
		}
		return nil, false, errTwoWriters
	}
	if Now().Round(0).Sub(v.At) > undecided { // the machine was suspended, and others do not wait any more
		return nil, false, StorageError(vault.ErrUnknown)
	}
	if _, err = s.write(ctx, j, incarnation, true, j.confirmation(v, before, settings)...); err == nil {
		_, err = s.again(ctx, j)
	}
	if err != nil {
		return nil, false, StorageError(err)
	}
	if r = j.record(); r == nil {
		return nil, false, errTwoWriters // it was deleted meanwhile
	}
	return r, before == nil, nil
}

// nextVersion returns a version of the settings that follows the current one, and the incarnation that it belongs to.
func (j *journal) nextVersion(settings *config.Messenger) (v *fact, incarnation string, err error) {
	v = newFact(factSettings, j.stamp(Now()))
	if v.Settings, err = json.Marshal(settings); err != nil {
		return nil, "", err
	}
	j.view(func(current string, l *ledger) {
		if l == nil {
			incarnation, v.Number, v.Created = newID(), 1, &v.At
			return
		}
		parent := l.version()
		incarnation = current
		v.Parent, v.Number, v.Created = parent.ID, parent.Number+1, parent.Created
		for _, hash := range keyHashes(settings) {
			for _, f := range l.dropped[hash] {
				v.Knows = append(v.Knows, f.ID)
			}
		}
	})
	return v, incarnation, nil
}

// undecided is how long a version that is neither confirmed nor withdrawn may still be: its writer may have been stopped. A write
// that took longer is not acknowledged.
const undecided = 10 * time.Minute

// hasRival reports whether another node has made a version with the same parent, or created a messenger of the same name. The
// same holds for what v builds upon, as long as that is not decided: the version that v follows may be withdrawn, and its rival
// confirmed, by writers that were stopped.
func (j *journal) hasRival(incarnation string, v *fact) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.ledger(incarnation)
	if j.rivals(incarnation, v, time.Time{}) {
		return true
	}
	for p := l.versions[v.Parent]; p != nil && !l.confirmed[p.ID]; p = l.versions[p.Parent] {
		if j.rivals(incarnation, p, v.At.Add(-undecided-maxAhead)) {
			return true
		}
	}
	return false
}

// rivals reports whether there is a version with the same parent as v, or another messenger, if v has none, that was made after
// a time. The caller holds mu.
func (j *journal) rivals(incarnation string, v *fact, after time.Time) bool {
	l := j.ledger(incarnation)
	if v.Parent != "" {
		return slices.ContainsFunc(l.children(v.Parent), func(id string) bool { return id != v.ID && l.versions[id].At.After(after) })
	}
	for other, l := range j.ledgers {
		if other == incarnation || !j.deleted[other].IsZero() {
			continue
		}
		for _, f := range l.versions {
			if f.At.After(after) {
				return true
			}
		}
	}
	return false
}

// withdraw undoes a version, of which its caller is told that it was not made.
func (s *Store) withdraw(ctx context.Context, j *journal, incarnation string, v *fact, created bool) error {
	if created {
		_, err := s.write(ctx, j, nameFolder, true, newFact(factDeletion, j.stamp(Now()), incarnation))
		return err
	}
	_, err := s.write(ctx, j, incarnation, true, newFact(factWithdrawn, j.stamp(Now()), v.ID))
	return err
}

// confirmation returns the facts by which a version becomes the current one, whatever older versions arrive later. Keys that it
// does not name any more are dropped by facts of their own, so that no late version brings them back.
func (j *journal) confirmation(v *fact, before *Record, settings *config.Messenger) []*fact {
	at := j.stamp(Now())
	facts := []*fact{newFact(factConfirmed, at, v.ID)}
	if before == nil {
		return facts
	}
	kept := keyHashes(settings)
	for _, hash := range keyHashes(before.Settings) {
		if !slices.Contains(kept, hash) {
			f := newFact(factDropped, at, v.ID)
			f.Key, f.Number = hash, v.Number
			facts = append(facts, f)
		}
	}
	if len(before.Tokens) > 0 && !settings.IsGenerated() {
		reset := newFact(factReset, at)
		reset.Number = v.Number
		facts = append(facts, reset)
	}
	return facts
}

// Remove deletes a stored messenger with its shared tokens, and returns how many connections of this node that has ended. A
// messenger that cannot be read can be deleted only without a condition, because none can be checked.
func (reg *Registry) Remove(ctx context.Context, name string, c Condition) (ended int, unreadable bool, err error) {
	if config.CheckName(name) != nil {
		return 0, false, ErrNoMessenger
	}
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return 0, false, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, KindStored)
	unreadable = vault.IsUnreadable(err) && c == (Condition{})
	if err != nil && !unreadable {
		return 0, false, StorageError(err)
	}
	r := j.record()
	if r == nil && !unreadable {
		if reg.Messengers[name] != nil {
			return 0, false, StatusError(http.StatusConflict, "this messenger is in the configuration; remove it there")
		}
		return 0, false, ErrNoMessenger
	}
	if err := c.Check(r); err != nil {
		return 0, false, err
	}
	if gone := j.incarnations(); len(gone) > 0 {
		if ended, err = s.write(ctx, j, nameFolder, true, newFact(factDeletion, j.stamp(Now()), gone...)); err != nil {
			return 0, false, StorageError(err)
		}
	}
	if err := s.Delete(ctx, j.recordKey()); err != nil { // of an older version; there is none as a rule
		return 0, false, StorageError(err)
	}
	more, err := s.again(ctx, j)
	if err != nil {
		return 0, false, StorageError(err)
	}
	s.DropUses(ctx, name)
	if r != nil && r.Settings.JWKS != nil {
		_ = s.ForgetKeySet(ctx, r.Settings.JWKS.URL) // if another messenger uses the URL, its next fetch stores the copy again
	}
	return ended + more, unreadable, nil
}

// incarnations returns the incarnations that were not deleted.
func (j *journal) incarnations() (names []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	add := func(incarnation string) {
		if incarnation != nameFolder && j.deleted[incarnation].IsZero() && !slices.Contains(names, incarnation) {
			names = append(names, incarnation)
		}
	}
	for incarnation := range j.ledgers {
		add(incarnation)
	}
	for key := range j.bad {
		add(path.Base(key.Folder))
	}
	return names
}
