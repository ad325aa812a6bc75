package authn

import (
	"context"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// An Explanation is a verification step by step, for people who have to fix a token. It comes from the verifier itself, and not
// from a second implementation that could decide differently.
type Explanation struct {
	Checks    []Check    // those that were made, in order; the last one failed if Rejection is not nil
	Skipped   []Step     // those that were not reached
	Contact   *Contact   // nil if the token was refused
	Rejection *Rejection // nil if the token was accepted
	Findings  []Finding  // likely causes of the refusal, the most likely first
}

// A Finding is a likely cause of a refusal with its fix. It may contain claims, key IDs, issuers and dates of the token, which
// everyone who has the token can read anyway. It never contains a signature or a secret.
type Finding struct {
	Cause string
	Fix   string
}

// Explain verifies text as Verify does, and says why it is refused. others are the verifiers of other messengers by name: a token
// that was sent to the wrong messenger is signed with the key of one of them.
func (v *Verifier) Explain(ctx context.Context, text string, want []string, others map[string]*Verifier) *Explanation {
	var t trace
	e := &Explanation{}
	e.Contact, e.Rejection = v.verify(ctx, text, want, &t)
	e.Checks = t.checks
	for i := len(e.Checks); i < stepCount; i++ {
		e.Skipped = append(e.Skipped, Step(i))
	}
	if e.Rejection != nil {
		e.Findings = v.find(ctx, text, e.Rejection, others)
	}
	return e
}

// Keys describes the keys that verify tokens right now.
func (v *Verifier) Keys() []sigkey.Info {
	var infos []sigkey.Info
	for _, k := range v.keys.active() {
		infos = append(infos, k.Info())
	}
	return infos
}

// A Summary is the number and expiry of the keys that verify tokens right now.
type Summary struct {
	Keys  int
	Until time.Time // when the last of them expires; zero if it does not expire
}

// Summary counts the keys that verify tokens right now.
func (v *Verifier) Summary() Summary {
	var s Summary
	unlimited := false
	for _, k := range v.keys.active() {
		s.Keys++
		unlimited = unlimited || k.End().IsZero()
		if k.End().After(s.Until) {
			s.Until = k.End()
		}
	}
	if unlimited {
		s.Until = time.Time{}
	}
	return s
}
