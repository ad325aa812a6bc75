package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A messenger is copied from one store into another by what its facts say, and not by the facts themselves: their IDs come from a
// file, and two facts with one ID would be read differently by different nodes. What is imported gets an ID that depends on its
// content only, so that importing it twice adds it once. Three rules follow from what a copy must never do:
//
//   - Nothing that is revoked here becomes valid: a copy adds revocations and ends of tokens, and undoes none.
//   - A token is added only to a messenger that this copy creates, and to one of the configuration that never had one. A
//     store forgets revoked tokens after a while, so that it cannot tell a token that is new to it from one that was revoked long ago.
//   - Nothing ends that was not meant: what was undone here since is not revoked again, and tokens are told apart by their text.

// A Copy is what a file says about one messenger.
type Copy struct {
	Created     *time.Time         // of a stored messenger
	Settings    *config.Messenger  // nil for a configured one
	Tokens      []CopiedToken      // the oldest first
	Revocations []CopiedRevocation // the oldest first
}

// A CopiedToken is a shared token in a copy.
type CopiedToken struct {
	KeyID       string     `json:"kid"`
	Fingerprint string     `json:"fingerprint"`
	Created     time.Time  `json:"created"`
	End         *time.Time `json:"end,omitempty"`
	Revoked     bool       `json:"revoked,omitempty"`
	Label       string     `json:"label,omitempty"`
	Token       string     `json:"-"` // "" if the secrets were not copied

	// A secret that the site brought may be one that can be guessed: nothing about it is in a file but what is sealed, not even its
	// fingerprint, which would say who has guessed it.
	Imported bool `json:"-"`
	Any      bool `json:"-"` // JWTs with any kid and without one are verified with it
}

// A CopiedRevocation is a revocation in a copy, with the ID that it had in its store.
type CopiedRevocation struct {
	ID string `json:"id"`
	revocation.Revocation
}

// Copy returns what the journal says, or nil if there is nothing. The copy has secrets.
func (j *Journal) Copy(now time.Time) (c *Copy) {
	j.view(func(_ string, l *ledger) {
		if len(l.facts) == 0 {
			return
		}
		c = new(Copy)
		if v := l.version(); v != nil {
			created := v.Created.UTC()
			c.Created = &created
			c.Settings, _ = l.settings(v)
		}
		ends := l.endings()
		for f := range l.allTokens() {
			t := CopiedToken{KeyID: f.KeyID, Token: f.Token, Created: f.At.UTC(), Revoked: ends.isRevoked(f), End: ends.end(f), Label: f.Label,
				Fingerprint: fingerprintOf(f.Token), Imported: f.Kind == factImported, Any: f.Any}
			c.Tokens = append(c.Tokens, t)
		}
		slices.SortFunc(c.Tokens, func(a, b CopiedToken) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.KeyID, b.KeyID))
		})
		c.Tokens = firstOfEach(c.Tokens, func(t CopiedToken) [2]string { return [2]string{t.KeyID, t.Fingerprint} }) // a token of two incarnations is copied once
		for _, f := range l.revocationsToCopy(now) {
			c.Revocations = append(c.Revocations, CopiedRevocation{f.ID, *f.Revocation})
		}
		slices.SortFunc(c.Revocations, func(a, b CopiedRevocation) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Value(), b.Value()), strings.Compare(a.ID, b.ID)) // the same for every store
		})
	})
	return c
}

func fingerprintOf(token string) string { return (&Token{Secret: []byte(token)}).Fingerprint() }

// Check returns why a copy cannot have been made by a gateway.
func (c *Copy) Check() error {
	isTime := func(t time.Time) bool { return t.Unix() > 0 && t.UTC().Year() < 10_000 } // JSON has no others
	if c.Created != nil && !isTime(*c.Created) {
		return errors.New(`"created" is not a time at which a messenger can have been created`)
	}
	if len(c.Tokens) > 1000 || len(c.Revocations) > 2*MaxRevocations {
		return errors.New("it has more shared tokens or revocations than a messenger can have")
	}
	for i := range c.Tokens {
		t := &c.Tokens[i]
		if t.KeyID == "" || len(t.KeyID) > config.MaxKeyID || t.Fingerprint == "" || !isTime(t.Created) || t.Token != "" && fingerprintOf(t.Token) != t.Fingerprint {
			return fmt.Errorf("shared token number %d is incomplete, or does not have this fingerprint", i+1)
		}
		if err := CheckLabel(t.Label); err != nil {
			return fmt.Errorf("the label of shared token number %d %w", i+1, err)
		}
	}
	for i := range c.Revocations {
		v := &c.Revocations[i].Revocation
		if err := v.Check(); err != nil {
			return fmt.Errorf("revocation number %d: %w", i+1, err)
		}
		skew := time.Duration(v.Skew)
		if (v.Before == nil) != v.IsToken() || !isTime(v.Created) || skew < 0 || skew > config.MaxClockSkew || len(v.Contact) > authn.MaxIdentity || c.Revocations[i].ID == "" || len(c.Revocations[i].ID) > 4*idLength {
			return fmt.Errorf("revocation number %d is incomplete, or has a time or clock_skew that it cannot have", i+1)
		}
	}
	return nil
}

// IsAhead reports whether a copy has times that are far ahead. It cannot be imported before they have come: facts of this store would
// have to follow them.
func (c *Copy) IsAhead(now time.Time) bool {
	latest := now.Add(maxAhead)
	return c.Created != nil && c.Created.After(latest) ||
		slices.ContainsFunc(c.Tokens, func(t CopiedToken) bool { return t.Created.After(latest) }) ||
		slices.ContainsFunc(c.Revocations, func(v CopiedRevocation) bool { return v.Created.After(latest) })
}

// copiedID returns the ID of what is imported from a copy.
func (j *Journal) copiedID(what, id string, content any) string {
	text, _ := json.Marshal(content) // strings and times
	return hashOf(fmt.Sprintf("imported\x00%s\x00%s\x00%s\x00%s", j.Name, what, id, text), idLength)
}

// Batches divides facts into groups that can be written at a time, in their order. Valid tokens begin a group, because an import adds all
// of a messenger or none.
func Batches(facts []*Fact) [][]*Fact {
	before := WithoutValid(facts)
	return append(grouped(before, factOverhead), grouped(facts[len(before):], factOverhead)...)
}

// factOverhead is enough for what a fact has besides its settings, token or revocation, such as who made it, in bytes.
const factOverhead = 512

// WithoutValid returns the facts before the first valid token.
func WithoutValid(facts []*Fact) []*Fact {
	revoked := make(map[string]bool)
	for _, f := range facts {
		if f.Kind == factRevoked {
			addAll(revoked, f.Of)
		}
	}
	valid := slices.IndexFunc(facts, func(f *Fact) bool { return f.isToken() && !revoked[f.ID] })
	if valid < 0 {
		return facts
	}
	return facts[:valid]
}

// grouped divides facts into groups. each is how many bytes a fact has besides its settings, token or revocation. The groups of an old
// record must be the same on all nodes; see carry.go.
func grouped(facts []*Fact, each int) (groups [][]*Fact) {
	size := 0
	for _, f := range facts {
		more := len(f.Settings) + len(f.Token) + each
		if f.Revocation != nil {
			more += f.Revocation.Size()
		}
		if size += more; len(groups) == 0 || size > maxGroup || len(groups[len(groups)-1]) >= 256 {
			groups, size = append(groups, nil), more
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], f)
	}
	return groups
}

// maxGroup is how many bytes the facts of one group have.
const maxGroup = 256 << 10

// IsUnfinished reports whether the journal has nothing wrong except that a messenger has facts and no settings: an import ended in
// between.
func (j *Journal) IsUnfinished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.recordErr == nil && len(j.bad) == 0 && j.current() == ""
}

// Current returns the incarnation that counts, or "".
func (j *Journal) Current() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current()
}
