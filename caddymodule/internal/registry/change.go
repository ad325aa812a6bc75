package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/namelock"
)

// Where a messenger comes from.
const (
	SourceConfig = "config"
	SourceStored = "stored"
)

// AuditWarning logs that the configuration is valid but probably not intended. What several directives cause alike is logged once.
func (reg *Registry) AuditWarning(warning string, fields ...zap.Field) {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(values)
	}
	if _, logged := reg.warned.LoadOrStore(fmt.Sprint(warning, values.Fields), true); logged {
		return
	}
	reg.Logger.Named("audit").Named("configuration").Warn(warning, append(fields, zap.String("by", "the configuration"))...)
}

// LookUp returns the messenger of that name as it is active on this node.
func (reg *Registry) LookUp(ctx context.Context, name string) (*Messenger, error) {
	m, rej := reg.Find(ctx, name)
	switch {
	case rej == nil:
		return m, nil
	case rej.Code == authn.MessengerUnknown:
		return nil, change.ErrNoMessenger
	}
	return nil, apierror.New(http.StatusServiceUnavailable, rej.Reason)
}

// changeTimeout bounds a change together with waiting for others of the same messenger.
const changeTimeout = 30 * time.Second

// maxChanges is how many changes of one messenger may wait.
const maxChanges = 100

// beginChange waits until no other change of this messenger is made on this node.
func (s *Store) beginChange(ctx context.Context, name string) (context.Context, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	unlock, err := s.changing.LockWithin(ctx, name, maxChanges)
	switch {
	case errors.Is(err, namelock.ErrTooMany):
		cancel()
		return nil, nil, apierror.New(http.StatusServiceUnavailable, "too many changes of this messenger are waiting")
	case err != nil:
		cancel()
		return nil, nil, apierror.New(http.StatusServiceUnavailable, "other changes of this messenger have not ended in time")
	}
	return ctx, func() {
		unlock()
		cancel()
	}, nil
}

// fresh returns the journal of a name with everything that the storage has now. It has no messenger if there is none.
func (s *Store) fresh(ctx context.Context, name, kind string) (*ledger.Journal, error) {
	defer s.lock(name)()
	if j := s.inMemory(name, kind); j != nil {
		return j, s.readMore(ctx, j)
	}
	j, err := s.begin(ctx, name, kind)
	if errors.As(err, new(*unusableError)) {
		err = nil
	}
	return j, err
}

// backed writes back what the storage has lost of a messenger before something is decided with it: what is not done because this node knows
// that it was done already would be acknowledged, and be nowhere.
func (s *Store) backed(ctx context.Context, j *ledger.Journal) error {
	if !lacksOwn(j) {
		return nil
	}
	if s.isAway() { // the next poll drops what others may have forgotten
		return errAway
	}
	_, err := s.writeBack(ctx, j, false)
	if (isOfOneMessenger(err) || errors.As(err, new(*rivalError))) && j.IsCompared() && !lacksOwn(j) {
		return nil // it is about what was not lost
	}
	return apierror.Storage(err)
}

// lacksOwn reports whether a journal has lost batches that can be written back, which those of rivals are not.
func lacksOwn(j *ledger.Journal) bool {
	if !hasLostFacts(j) {
		return false
	}
	rivals := j.Rivals()
	for key := range j.Lost() {
		if _, rival := rivals[path.Base(key.Folder)]; !rival {
			return true
		}
	}
	return false
}

// Again reads what others have written meanwhile, and makes it active together with what this node has written.
func (s *Store) Again(ctx context.Context, j *ledger.Journal) (ended int, err error) {
	defer s.lock(j.Name)()
	failed := s.read(ctx, j)
	if j.Detached {
		return 0, cmp.Or(failed, j.Damage())
	}
	ended, err = s.apply(j, ledger.Effect{}) // also what could be read before it failed
	return ended, cmp.Or(failed, err)
}

// Write adds facts about an incarnation of a messenger. When it returns nil, they are acknowledged, and active on this node.
func (s *Store) Write(ctx context.Context, j *ledger.Journal, incarnation string, urgent bool, facts ...*ledger.Fact) (ended int, err error) {
	if s.isDropped(j) {
		return 0, errDropped
	}
	signFacts(ctx, facts)
	if settlement := j.Settlement(incarnation, Now()); settlement != nil {
		facts = append(facts, settlement)
	}
	texts, err := ledger.Encode(facts)
	if err != nil {
		return 0, err
	}
	written, err := s.writer.Append(ctx, j.Folder(incarnation), urgent, texts)
	return written.Ended, err
}

// ChangeRing changes the shared tokens of a messenger. It returns the token that was made, if any, and how many connections of
// this node were ended.
func (reg *Registry) ChangeRing(ctx context.Context, name, kind string, ring ledger.RingChange, c change.Condition) (made *ledger.NewToken, ended int, err error) {
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	s := reg.Store
	j, err := s.fresh(ctx, name, kind) // all facts, so that a token that another node has made is not missed
	if err != nil {
		return nil, 0, apierror.Storage(err)
	}
	if ring.Makes || ring.Extends { // to revoke a token does not depend on it, and does not wait
		if err := s.backed(ctx, j); err != nil {
			return nil, 0, err
		}
	}
	r := j.Record()
	if err := c.Check(r); err != nil {
		return nil, 0, err
	}
	if r == nil && kind == ledger.KindStored {
		return nil, 0, change.ErrNoMessenger
	}
	if err := c.Confirms(config.Loss{Tokens: ring.Revokes(r)}, "rotate with an overlap, such as 24h"); err != nil {
		return nil, 0, err
	}
	incarnation, made, facts, err := j.ChangeRing(ring, Now())
	if err != nil {
		return nil, 0, change.Error(err)
	}
	keep := func(written []*ledger.Fact) (int, error) { return change.KeepToken(ctx, s, j, incarnation, written) }
	ended, err = change.Commit(ctx, s, j, change.Commitment{Incarnation: incarnation, Groups: [][]*ledger.Fact{facts}, Urgent: true, Looked: true, Between: keep})
	if err != nil {
		return nil, 0, err
	}
	return made, ended, nil
}
