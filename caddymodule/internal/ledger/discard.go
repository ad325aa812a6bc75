package ledger

import (
	"path"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Facts that cannot be read any more, because the store key is lost or a value is damaged, are replaced by facts that revoke at
// least as much. What they said is unknown: any of them may have been the revocation of a shared token or of a contact's tokens,
// the removal of a key from settings, or the deletion of a messenger.

// SetUnreadable notes a batch that cannot be read.
func (j *Journal) SetUnreadable(key vault.Key, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bad[key] = err
}

// IsDeleted reports whether the incarnation was deleted to which a batch belongs, so that nothing depends on it.
func (j *Journal) IsDeleted(key vault.Key) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.isDeleted(path.Base(key.Folder))
}

// Replacement returns the facts that replace those that cannot be read, and the incarnation that they belong to.
//
// Of a configured messenger all shared tokens are revoked, and all tokens of contacts that were issued until now. A stored one is
// deleted: the settings that can still be read may be older than the last ones, and trust a key that was removed because it
// was stolen. There are no facts if nothing depends on what cannot be read.
func (j *Journal) Replacement(now time.Time) (incarnation string, facts []*Fact) {
	if j.Kind == KindStored {
		if f := j.Deletion(now); f != nil {
			facts = append(facts, f)
		}
		return NameFolder, facts
	}
	at := j.stamp(now)
	reset := NewFact(factReset, at)
	reset.Closing = true
	revoke := NewFact(factRevoke, at)
	v := revocation.Revocation{All: true}.Recorded(new(config.Messenger), now.UTC()) // without max_lifetime, so that it is kept for good
	revoke.Revocation = &v
	return ConfigIncarnation, []*Fact{reset, revoke}
}

// IsCarriedOver reports whether the record of an older version was carried over, so that it is of use only for a return to that
// version, and whether it is not of use even for that: the messenger was deleted.
func (j *Journal) IsCarriedOver() (carried, deleted bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for incarnation, l := range j.ledgers {
		if l.carried != nil {
			carried, deleted = true, j.isDeleted(incarnation)
		}
	}
	return carried, deleted
}
