package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// An import of a configured messenger may end after each of its batches, and come again at any time. Nothing that the file calls revoked
// is valid after any of them, its valid tokens are in one, and when they were revoked they are remembered for as long as that file may
// come again.
func TestImportedTokensAreAddedOnceInOneBatch(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	c := &Copy{Revocations: []CopiedRevocation{{ID: "r", Revocation: revocation.Revocation{Identity: "eve", Before: &now, Created: now}}}}
	for i := range 300 { // more than a batch takes
		token := CopiedToken{KeyID: fmt.Sprint("dead-", i), Token: fmt.Sprintf("c2VjcmV0LW9mLWEtc2l0ZS10aGF0LWlzLWxvbmctZW5vdWdo%04d", i), Created: now, Revoked: true, Imported: true}
		token.Fingerprint = fingerprintOf(token.Token)
		c.Tokens = append(c.Tokens, token)
	}
	end := now.Add(time.Hour)
	for i := range 3 {
		token := CopiedToken{KeyID: fmt.Sprint("valid-", i), Token: fmt.Sprint("token-", i), Created: now, End: &end}
		token.Fingerprint = fingerprintOf(token.Token)
		c.Tokens = append(c.Tokens, token)
	}
	j := New("support", KindRing)
	number := uint64(0)
	add := func(facts []*Fact) {
		t.Helper()
		texts, err := Encode(facts)
		if err != nil {
			t.Fatal(err)
		}
		number++
		if err := j.Add(vault.Key{Folder: j.Folder(ConfigIncarnation), Writer: "w", Number: number}, texts, now); err != nil {
			t.Fatal(err)
		}
	}
	lacking := func(at time.Time) Difference {
		t.Helper()
		d, err := j.Lacking(c, at)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	groups := Batches(lacking(now).Facts)
	if len(groups) < 3 {
		t.Fatalf("there are %d batches", len(groups))
	}
	for i, group := range groups {
		if d := lacking(now); d.Added != 3 || len(d.NotAdded) > 0 {
			t.Errorf("after %d batches the import would add %d tokens, and not %q", i, d.Added, d.NotAdded)
		}
		add(group)
		if n, last := len(j.ActiveTokens(now)), i == len(groups)-1; (n != 0) == !last || last && n != 3 {
			t.Errorf("after %d batches %d tokens are valid", i+1, n)
		}
	}
	if d := lacking(now); len(d.Facts) > 0 {
		t.Errorf("importing it again would add %d facts", len(d.Facts))
	}
	_, _, facts, err := j.ChangeRing(RevokeToken("valid-0", false), now)
	if err != nil {
		t.Fatal(err)
	}
	add(facts)
	later := now.Add(10 * KeepDeletion)
	for _, key := range j.removable(later, func(*batch) time.Duration { return 0 }) {
		if key.Number == uint64(len(groups)) {
			t.Error("the valid tokens are forgotten, and the same file would bring them again")
		}
	}
	if d := lacking(later); d.Added > 0 {
		t.Errorf("a year later the import would add %d tokens", d.Added)
	}
}
