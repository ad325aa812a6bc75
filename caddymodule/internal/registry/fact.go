package registry

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What the store knows are facts. A fact is only ever added, and what it says stays true: the state of a messenger is the union
// of its facts, in whatever order a node reads them. A write that is late, repeated or lost can delay a fact, and never undo
// one. What each kind means is in ledger.go.
const (
	factSettings  = "settings"           // a version of a stored messenger's settings; it names its parent
	factConfirmed = "settings_confirmed" // its writer has looked again, and has found no other version with that parent
	factWithdrawn = "settings_withdrawn" // its writer has found another one, and has told its caller so
	factDropped   = "key_dropped"        // a key or the URL of a key set is not trusted any more
	factToken     = "token"              // a shared token
	factKept      = "token_kept"         // a token that was made at the same instant as a reset, and is not revoked by it
	factExpiry    = "token_expiry"       // when tokens expire; the latest one counts
	factRevoked   = "token_revoked"      // final
	factReset     = "tokens_reset"       // revokes every token that does not name it
	factRevoke    = "revocation"         // of contacts' tokens
	factUndo      = "revocation_undone"  // names the revocations that it undoes
	factDeletion  = "messenger_deleted"  // names the incarnation; it is in the folder of the name
	factCarried   = "record_carried"     // all facts of an old record are there; see carry.go
	factDistrust  = "key_set_distrusted" // key sets that were fetched earlier are not used any more
)

// A fact is one fact of the store.
type fact struct {
	ID   string    `json:"id"`
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`

	Of    []string `json:"of,omitempty"`    // the facts, or the incarnation, that this one is about
	Knows []string `json:"knows,omitempty"` // the resets that a token outlives; the dropped keys that settings name again

	Parent   string          `json:"parent,omitempty"` // of settings
	Number   uint64          `json:"number,omitempty"` // one more than the parent's; of a dropped key, a token and a reset that of the settings with which they were made
	Created  *time.Time      `json:"created,omitempty"`
	Settings json.RawMessage `json:"settings,omitempty"`

	KeyID string     `json:"kid,omitempty"`
	Token string     `json:"token,omitempty"`
	End   *time.Time `json:"end,omitempty"`

	Closing bool   `json:"closing,omitempty"` // connections of the revoked tokens end, too
	Key     string `json:"key,omitempty"`     // hash of a dropped key

	Revocation *Revocation `json:"revocation,omitempty"`
}

// newID returns an ID that nothing else has.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// newFact makes a fact of this moment.
func newFact(kind string, at time.Time, of ...string) *fact {
	return &fact{ID: newID(), Kind: kind, At: at, Of: of}
}

// encode returns the facts as the vault writes them.
func encode(facts []*fact) ([]json.RawMessage, error) {
	texts := make([]json.RawMessage, len(facts))
	for i, f := range facts {
		var err error
		if texts[i], err = json.Marshal(f); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// decode reads facts. Members that this version does not know are ignored: a newer version that writes something which must
// not be ignored gives it a kind of its own, or another format. Settings are different, because each may be a restriction;
// they are checked when they are used.
func decode(texts []json.RawMessage) ([]*fact, error) {
	facts := make([]*fact, len(texts))
	for i, text := range texts {
		f := new(fact)
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
func (f *fact) check() error {
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
	case factRevoke:
		v := f.Revocation
		complete = complete && v != nil && v.targets() == 1 && (v.Before == nil) == v.isToken()
	case factReset, factDistrust:
	default:
		return vault.ErrNewer
	}
	if !complete {
		return vault.ErrDamaged
	}
	return nil
}
