package reseal

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/assertion"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/lastuse"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A kind is the purpose of a value. lost describes the loss if such a value is discarded.
type kind struct {
	name string
	fact bool // it is written once, and never by a node that only starts
	lost string
}

// The kinds of values. Their names are part of the output, and do not change. Discarded values that the nodes need are written again by them.
var (
	configured   = &kind{"configured", true, "all shared tokens of the messenger, and all tokens of its contacts that were issued until now, are revoked"}
	stored       = &kind{"stored", true, "the messenger is deleted, with its settings, shared tokens and revocations"}
	record       = &kind{"record", true, ""} // of an older version; see lostWith
	signing      = &kind{"assertion_key", false, "a key that signs assertions: backends refuse what it has signed, and the nodes make another one"}
	distrust     = &kind{"distrust", true, "the key set of this URL is distrusted once more, and fetched again by all nodes"}
	keySet       = &kind{"key_set", false, "the copy of the key set, for a start while the key server is unavailable"}
	lastUse      = &kind{"last_use", false, "when the shared tokens of the messenger were last used"}
	list         = &kind{"changes", false, "nothing: the nodes read everything again, once"}
	notification = &kind{"bell", false, list.lost}
	origin       = &kind{"origin", false, list.lost}
	foreign      = &kind{name: "foreign"}
)

// The loss with a value whose messenger was deleted, and with a record that was migrated.
const (
	lostNothing  = "nothing: the messenger was deleted"
	lostRollback = "nothing, unless you return to the first version"
)

// kindOf returns the kind of the value at key. Only keys below the name of a messenger are values of a messenger: an attacker who can
// write to the storage chooses its keys.
func kindOf(key string) *kind {
	below := strings.TrimPrefix(key, vault.StoreRoot+"/")
	first, _, _ := strings.Cut(below, "/")
	batch, isBatch := vault.ParseKey(key)
	switch {
	case key == vault.NotificationKey:
		return notification
	case key == vault.OriginKey:
		return origin
	case vault.IsList(key):
		return list
	case isBatch && first == keysets.Folder:
		return distrust
	case isBatch && first == assertion.Folder:
		return signing
	case keysets.IsCopy(key):
		return keySet
	case !isName(first):
		return foreign
	case isBatch && path.Base(batch.Folder) == ledger.ConfigIncarnation:
		return configured
	case isBatch:
		return stored
	case !isOurs(key):
		return foreign
	case strings.HasPrefix(path.Base(key), lastuse.Prefix):
		return lastUse
	}
	return record
}

// isOurs reports whether the gateway writes a key of a messenger that is not a batch: it may be a temporary file of the storage.
func isOurs(key string) bool {
	parts := strings.Split(key, "/")
	return len(parts) == 3 && slices.Contains([]string{ledger.KindStored, ledger.KindRing}, strings.TrimPrefix(parts[2], lastuse.Prefix))
}

// lostWith describes the loss if v is discarded.
func (c *content) lostWith(v *value) string {
	switch {
	case v.kind == record:
		if carried, _ := c.journalOf(v.Key).IsCarriedOver(); carried {
			return lostRollback
		}
		if v.Key == c.ring.RecordKey() {
			return configured.lost
		}
		return stored.lost
	case v.kind == stored && c.stored.IsDeleted(v.batch):
		return lostNothing
	}
	return v.kind.lost
}

// name adds a value to those that the step names. The caller holds mu.
func (r *run) name(v *value, lost string, discarded bool) {
	if len(r.step.Named) >= 2*maxNamed {
		return // they are counted
	}
	named := Value{Kind: v.kind.name, Key: v.Key, Lost: lost, Discarded: discarded, Reason: "it was not written by the gateway"}
	if v.err != nil {
		named.Reason = reasonOf(v)
	}
	if below := strings.TrimPrefix(v.Key, vault.StoreRoot+"/"); v.kind != foreign && !strings.HasPrefix(below, "_") {
		named.Messenger, _, _ = strings.Cut(below, "/")
	}
	r.step.Named = append(r.step.Named, named)
}

// reasonOf returns why a value cannot be opened, without its key.
func reasonOf(v *value) string {
	for _, known := range vault.Unreadable() {
		if errors.Is(v.err, known) {
			return known.Error()
		}
	}
	return strings.TrimPrefix(v.err.Error(), v.Key+": ")
}
