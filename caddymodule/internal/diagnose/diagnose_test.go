package diagnose

import (
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A code that find does not have would get no finding, although its token may show the mistake.
func TestEveryCodeIsLookedIntoOrNot(t *testing.T) {
	v := secretVerifier(t, rawSecret, authn.Policy{})
	for _, code := range authn.Codes() {
		f := &finder{verifier: v, text: hs(`{"identity":"mark"}`), policy: v.Policy(), now: time.Now()}
		if !f.find(&authn.Rejection{Code: code}) {
			t.Errorf("find in diagnose.go does not have %s: say there what looks for the mistake behind it, or add it to those whose token does not show more", code)
		}
	}
}
