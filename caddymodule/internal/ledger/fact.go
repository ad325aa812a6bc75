// Package ledger knows what the facts of the store say about one messenger: its settings, its shared tokens, and what was revoked.
//
// The words:
//
//   - A fact is something that was done: a token was made, a token was revoked, settings have this version. Facts are only ever
//     added, and a messenger is the union of its facts, in whatever order a node reads them.
//   - A batch is the facts that one writer has written to one key of the storage.
//   - An incarnation is one life of a stored messenger, from its creation to its deletion. Facts of another incarnation of the same
//     name mean nothing to it. A configured messenger has one incarnation.
//   - A journal has all batches of one name that this node has read. A ledger has the facts of one incarnation, and answers what
//     follows from them. A record is that answer at one moment.
//
// It does not know messengers that run, requests, or how other nodes notice a change; that is the registry's concern. How a batch
// gets into the storage is vault's.
//
// Begin reading with the kinds of facts in this file, then ledger.go and [Journal]. What people do becomes facts in operations.go.
package ledger

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What the store knows are facts. A fact is only ever added, and what it says stays true: the state of a messenger is the union
// of its facts, in whatever order a node reads them. A write that is late, repeated or lost can delay a fact, and never undo
// one. What each kind means is in ledger.go.
const (
	factSettings  = "settings"           // a version of a stored messenger's settings; it names its parent
	factConfirmed = "settings_confirmed" // its writer has looked again, and has found no other version with that parent
	factWithdrawn = "settings_withdrawn" // its writer has found a rival version, and has reported that to its caller
	factSettled   = "creation_settled"   // its writer has looked after the creation was confirmed: no other creation of the name counts
	factDropped   = "key_dropped"        // a key or the URL of a key set is not trusted any more
	factToken     = "token"              // a shared token
	factImported  = "token_imported"     // a shared token that the site had before; a version that does not know it must not decide
	factKept      = "token_kept"         // a token that was made at the same instant as a reset, and is not revoked by it
	factExpiry    = "token_expiry"       // when tokens expire; the latest one counts
	factRevoked   = "token_revoked"      // final
	factReset     = "tokens_reset"       // revokes every token that does not name it; of one made with settings, unless these are withdrawn
	factRevoke    = "revocation"         // of contacts' tokens
	factUndo      = "revocation_undone"  // names the revocations that it undoes
	factDeletion  = "messenger_deleted"  // names the incarnation; it is in the folder of the name
	factCarried   = "record_carried"     // all facts of an old record are there; see carry.go
	FactDistrust  = "key_set_distrusted" // key sets that were fetched earlier are not used any more
)

// A Fact is one fact of the store.
type Fact struct {
	ID   string    `json:"id"`
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
	By   string    `json:"by,omitempty"` // who made it; nothing depends on it

	Of    []string    `json:"of,omitempty"`    // the facts, or the incarnations, that this one is about; of an imported revocation that which it was in another store
	Knows []string    `json:"knows,omitempty"` // the resets that a token outlives; the dropped keys that settings name again
	Times []time.Time `json:"times,omitempty"` // when the messengers were created that were deleted

	Undoes []string `json:"undoes,omitempty"` // deletions of a messenger that these settings, or those before them, have brought back

	Parent   string          `json:"parent,omitempty"` // of settings
	Number   uint64          `json:"number,omitempty"` // one more than the parent's; of a dropped key, a token and a reset that of the settings with which they were made
	Created  *time.Time      `json:"created,omitempty"`
	Settings json.RawMessage `json:"settings,omitempty"`

	KeyID string     `json:"kid,omitempty"`
	Token string     `json:"token,omitempty"`
	End   *time.Time `json:"end,omitempty"`
	Any   bool       `json:"any_kid,omitempty"` // the imported token verifies JWTs with any kid
	Label string     `json:"label,omitempty"`   // of a shared token; nothing depends on it
	Keep  bool       `json:"keep,omitempty"`    // it is never removed, because a file from which it was imported may come again

	Closing bool   `json:"closing,omitempty"` // connections of the revoked tokens end, too
	Named   bool   `json:"named,omitempty"`   // of a reset: another fact ends the tokens by their names that its writer knew
	Key     string `json:"key,omitempty"`     // hash of a dropped key

	Fingerprints []string `json:"fingerprints,omitempty"` // of the tokens that an end is about, which may come back under other IDs

	Revocation *revocation.Revocation `json:"revocation,omitempty"`
}

// isToken reports whether f makes a shared token.
func (f *Fact) isToken() bool { return f.Kind == factToken || f.Kind == factImported }

// idLength is how many characters of base32 the ID of a fact or incarnation has.
const idLength = 16

// newID returns an ID that nothing else has.
func newID() string { return strings.ToLower(rand.Text()[:idLength]) }

// NewFact makes a fact of this moment.
func NewFact(kind string, at time.Time, of ...string) *Fact {
	return &Fact{ID: newID(), Kind: kind, At: at, Of: of}
}

// Encode returns the facts as the vault writes them.
func Encode(facts []*Fact) ([]json.RawMessage, error) {
	texts := make([]json.RawMessage, len(facts))
	for i, f := range facts {
		var err error
		if texts[i], err = json.Marshal(f); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// Decode reads facts. Members that this version does not know are ignored: a newer version that writes something which must
// not be ignored gives it a kind of its own, or another format. Settings are different, because each may be a restriction;
// they are checked when they are used.
func Decode(texts []json.RawMessage) ([]*Fact, error) {
	facts := make([]*Fact, len(texts))
	for i, text := range texts {
		f := new(Fact)
		if json.Unmarshal(text, f) != nil { // the error could quote a secret
			return nil, vault.ErrDamaged
		}
		if err := f.check(); err != nil {
			return nil, err
		}
		facts[i] = f
	}
	return facts, nil
}

// check returns an error for a fact that the gateway cannot have written, so that no command, page or request fails half-way.
func (f *Fact) check() error {
	complete := f.ID != "" && !f.At.IsZero()
	switch f.Kind {
	case factSettings:
		complete = complete && f.Number > 0 && f.Created != nil && len(f.Settings) > 0
	case factConfirmed, factWithdrawn, factKept, factRevoked, factUndo, factDeletion:
		complete = complete && len(f.Of) > 0
	case factExpiry:
		complete = complete && len(f.Of) > 0 && f.End != nil
	case factDropped, factCarried:
		complete = complete && f.Key != ""
	case factToken:
		complete = complete && f.KeyID != "" && f.Token != ""
	case factImported:
		complete = complete && f.KeyID != "" && f.isSecret()
	case factRevoke:
		v := f.Revocation
		complete = complete && v != nil && v.Targets() == 1 && (v.Before == nil) == v.IsToken() && !(v.Covers && v.IsToken())
	case factReset, factSettled, FactDistrust:
	default:
		return vault.ErrNewer
	}
	if !complete {
		return vault.ErrDamaged
	}
	return nil
}
