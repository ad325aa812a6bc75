package transfer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// Whatever a messenger may have, its line can be imported. One that is too long would keep all others of its file from that.
func TestLargestLineCanBeImported(t *testing.T) {
	seal, err := NewSealer("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	longest := 0
	for _, letter := range []string{"ж", "x", "<", "\u200b", "😀"}[:testsize.Of(5, 5)] {
		c := &ledger.Copy{Created: &now, Settings: &config.Messenger{IdentityKey: "sub", SharedToken: &config.SharedToken{}}}
		long := strings.Repeat(letter, 250/len(letter))
		for range 32 {
			c.Settings.Issuer, c.Settings.Audience = append(c.Settings.Issuer, long), append(c.Settings.Audience, long)
		}
		for size, i := 0, 0; size < ledger.MaxRevocationText; i++ {
			identity := fmt.Sprintf("%05d", i) + long
			c.Revocations = append(c.Revocations, ledger.CopiedRevocation{ID: strings.Repeat("I", 26), Revocation: revocation.Revocation{
				Identity: identity, Contact: identity, Before: &now, Until: &now, Issued: &now, Created: now, Exact: true}})
			written, err := json.Marshal(identity)
			if err != nil {
				t.Fatal(err)
			}
			size += 256 + 2*len(written)
		}
		for i := range 32 {
			token := ledger.CopiedToken{KeyID: fmt.Sprint(i), Token: strings.Repeat("t", 1500), Created: now, End: &now, Imported: i%2 == 0, Label: strings.Repeat("ж", 32)}
			token.Fingerprint = (&ledger.Token{Secret: []byte(token.Token)}).Fingerprint()
			c.Tokens = append(c.Tokens, token)
		}
		text, err := Encode("acme", c, seal)
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, len(text))
		line, err := Parse(text[:len(text)-1])
		if err != nil {
			t.Errorf("%q: a line of %d bytes: %v", letter, len(text), err)
			continue
		}
		if again, err := line.Copy(seal); err != nil || len(again.Tokens) != len(c.Tokens) || len(again.Revocations) != len(c.Revocations) {
			t.Errorf("%q: what is read again: %v", letter, err)
		}
	}
	if longest < MaxLine/2 {
		t.Errorf("the longest line has %d bytes: the test is too small to say anything about %d", longest, MaxLine)
	}
}
