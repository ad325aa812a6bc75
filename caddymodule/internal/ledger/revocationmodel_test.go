package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// A modelToken is a token as the site made it, with the time that the site's clock showed.
type modelToken struct {
	jti, contact  string
	made          time.Time // by the gateway's clock
	issued, exp   time.Time
	revokedBy     map[string]bool // targets of revocations that mean it, and were not undone
	perhapsMeant  map[string]bool // targets of revocations that may cover it, because its iat could be that of an earlier one
	loggedOut     bool            // by its contact alone
	mayBeReplaced bool            // by the revocation that replaced logouts of its contact
}

// A revocationModel knows what each revocation meant. The record beside it is the one under test.
type revocationModel struct {
	t      *testing.T
	rand   *rand.Rand
	now    time.Time
	m      *config.Messenger
	r      *testRevocations
	tokens []*modelToken
	made   int
	joined int // how often logouts were replaced
	steps  []string
}

func (w *revocationModel) skew() time.Duration { return time.Duration(*w.m.ClockSkew) }

// accepted reports whether the gateway accepts tok now, but for its revocations.
func (w *revocationModel) accepted(tok *modelToken) bool {
	skew := w.skew()
	return w.now.Before(tok.exp.Add(skew)) && !w.now.Add(skew).Before(tok.issued) &&
		(w.m.MaxLifetime == 0 || tok.exp.Sub(tok.issued) <= time.Duration(w.m.MaxLifetime))
}

func (w *revocationModel) contactOf(tok *modelToken) *authn.Contact {
	return &authn.Contact{Identity: tok.contact, TokenID: authn.NewTokenID(tok.jti), Issued: tok.issued, Expires: tok.exp, Until: tok.exp.Add(w.skew())}
}

func (w *revocationModel) revocations() *authn.Revocations {
	return authn.NewRevocations(w.r.rules(w.now))
}

func (w *revocationModel) add(v revocation.Revocation) {
	v = v.Recorded(w.m, w.now)
	w.r.bound = time.Duration(w.m.MaxLifetime)
	if err := w.r.revoke(v, w.now); err != nil {
		w.t.Fatalf("%v: %v", w.steps, err)
	}
}

// byTime notes a revocation of all tokens so far for which of is true. It is made for clocks that are ahead by clock_skew,
// and no more.
func (w *revocationModel) byTime(target string, of func(*modelToken) bool) {
	for _, tok := range w.tokens {
		if of(tok) && tok.issued.Before(w.now.Add(w.skew())) {
			tok.revokedBy[target] = true
		}
	}
}

func (w *revocationModel) logOut(tok *modelToken, everywhere bool) {
	w.add(revocation.OfLogout(w.contactOf(tok), w.m, everywhere, w.now))
	if tok.jti == "" || everywhere {
		w.byTime("identity "+tok.contact, func(other *modelToken) bool { return other.contact == tok.contact })
	} else {
		tok.revokedBy["jti "+tok.jti], tok.loggedOut = true, true
	}
	if w.r.logouts[tok.contact] > 0 {
		return
	}
	w.joined++
	for _, other := range w.tokens { // the twenty-first: what was logged out stays so, and nobody can undo it
		if other.contact == tok.contact {
			other.mayBeReplaced = true
			if other.loggedOut {
				other.revokedBy["for good"] = true
			}
		}
	}
}

func (w *revocationModel) undo(v revocation.Revocation, target string) {
	ids := w.r.revocationsOf(v.Target())
	if len(ids) == 0 {
		return
	}
	w.r.add(NewFact(factUndo, w.now, ids...), new(Effect))
	for _, tok := range w.tokens {
		tok.loggedOut = tok.loggedOut && target != "jti "+tok.jti
		delete(tok.revokedBy, target)
		delete(tok.perhapsMeant, target)
	}
}

func (w *revocationModel) step() {
	tok := w.tokens[w.rand.IntN(len(w.tokens))]
	note := func(format string, args ...any) { w.steps = append(w.steps, fmt.Sprintf(format, args...)) }
	switch w.rand.IntN(12) {
	case 0, 1, 2, 3:
		if w.rand.IntN(3) > 0 {
			w.makeToken()
			tok = w.tokens[len(w.tokens)-1]
		}
		if w.accepted(tok) && !w.revocations().Covers(tok.contact, authn.NewTokenID(tok.jti), tok.issued) {
			everywhere := w.rand.IntN(50) == 0
			note("%s logs out with %q, everywhere %t", tok.contact, tok.jti, everywhere)
			w.logOut(tok, everywhere)
		}
	case 4:
		if tok.jti != "" {
			note("revoke %s", tok.jti)
			w.add(revocation.Revocation{TokenID: revocation.TokenID(tok.jti)})
			tok.revokedBy["jti "+tok.jti], tok.loggedOut = true, false
		}
	case 5:
		if w.rand.IntN(10) == 0 {
			note("revoke contact %s", tok.contact)
			w.add(revocation.Revocation{Identity: tok.contact})
			w.byTime("identity "+tok.contact, func(other *modelToken) bool { return other.contact == tok.contact })
		}
	case 6:
		if w.rand.IntN(20) == 0 {
			note("revoke all")
			w.add(revocation.Revocation{All: true})
			w.byTime("all", func(*modelToken) bool { return true })
		}
	case 7:
		switch w.rand.IntN(3) {
		case 0:
			if tok.jti != "" {
				note("undo %s", tok.jti)
				w.undo(revocation.Revocation{TokenID: revocation.TokenID(tok.jti)}, "jti "+tok.jti)
			}
		case 1:
			note("undo contact %s", tok.contact)
			w.undo(revocation.Revocation{Identity: tok.contact}, "identity "+tok.contact)
		case 2:
			note("undo all")
			w.undo(revocation.Revocation{All: true}, "all")
		}
	case 8:
		skew := []time.Duration{0, 30 * time.Second, time.Minute, config.MaxClockSkew}[w.rand.IntN(4)]
		bound := []time.Duration{0, 10 * time.Minute, time.Hour, 48 * time.Hour}[w.rand.IntN(4)]
		note("clock_skew %s, max_lifetime %s", skew, bound)
		w.m.ClockSkew, w.m.MaxLifetime = (*caddy.Duration)(&skew), caddy.Duration(bound)
	case 9:
		if w.rand.IntN(2) == 0 { // what has outlived its use is removed
			var useless []*Fact
			for _, f := range w.r.facts {
				if !w.r.isOfUse(f, w.now) {
					useless = append(useless, f)
				}
			}
			w.r.forget(useless)
		}
		facts := slices.Collect(maps.Values(w.r.facts)) // the gateway starts again: it reads what there is, in any order
		w.r = newTestRevocations(0)
		for _, f := range facts {
			w.r.add(f, new(Effect))
		}
	default:
		w.makeToken()
	}
	pause := 20 * time.Second
	if w.rand.IntN(40) == 0 {
		pause = time.Hour
	}
	w.now = w.now.Add(time.Duration(w.rand.Int64N(int64(pause))))
}

// makeToken is a login: at a site whose clock is ahead by as much as clock_skew allows, or behind.
func (w *revocationModel) makeToken() {
	offset := -time.Duration(w.rand.Int64N(int64(time.Minute)))
	if skew := w.skew(); skew > 0 && w.rand.IntN(2) == 0 {
		offset = time.Duration(w.rand.Int64N(int64(skew)))
	}
	issued := w.now.Add(offset).Truncate(time.Second)
	life := []time.Duration{10 * time.Minute, time.Hour, 24 * time.Hour}[w.rand.IntN(3)]
	tok := &modelToken{contact: fmt.Sprint("contact ", w.rand.IntN(2)), made: w.now, issued: issued, exp: issued.Add(life),
		revokedBy: make(map[string]bool), perhapsMeant: make(map[string]bool)}
	if w.rand.IntN(30) > 0 {
		w.made++
		tok.jti = fmt.Sprint("token ", w.made)
	}
	// Its time of issue may be one at which a revocation by time has to suspect an earlier token of a clock that is ahead.
	for f := range w.r.active() {
		switch v := f.Revocation; {
		case v.Before == nil || !tok.issued.Before(v.Reach()):
		case v.Covers && v.Identity == tok.contact:
			tok.mayBeReplaced = true
		case v.All:
			tok.perhapsMeant["all"] = true
		case v.Identity == tok.contact:
			tok.perhapsMeant["identity "+tok.contact] = true
		}
	}
	w.tokens = append(w.tokens, tok)
}

func (w *revocationModel) check() {
	revoked := w.revocations()
	w.tokens = slices.DeleteFunc(w.tokens, func(tok *modelToken) bool { return w.now.After(tok.exp.Add(config.MaxClockSkew)) })
	if len(w.tokens) == 0 {
		w.makeToken()
	}
	for _, tok := range w.tokens {
		switch accepted, refused := w.accepted(tok), revoked.Covers(tok.contact, authn.NewTokenID(tok.jti), tok.issued); {
		case accepted && !refused && len(tok.revokedBy) > 0:
			w.t.Fatalf("after … %q: the token %q of %s, revoked by %v, is valid again", w.steps[max(0, len(w.steps)-30):], tok.jti, tok.contact, tok.revokedBy)
		case accepted && refused && len(tok.revokedBy) == 0 && len(tok.perhapsMeant) == 0 && !tok.mayBeReplaced:
			w.t.Fatalf("after … %q: the token %q of %s is refused, and no revocation covers it", w.steps[max(0, len(w.steps)-30):], tok.jti, tok.contact)
		}
	}
}

// Tokens are revoked, contacts log out, revocations are undone, settings change, the gateway starts anew, time goes by.
// No order of these makes a revoked token valid again, and none revokes a token that no revocation covers.
func TestNoOrderOfRevocationsMakesATokenValidAgain(t *testing.T) {
	joined, turns := 0, testsize.Of(10, 200)
	for seed := range uint64(turns) {
		skew := time.Minute
		w := &revocationModel{t: t, rand: rand.New(rand.NewPCG(seed, 12)), now: time.Unix(1_800_000_000, 0).UTC(), r: newTestRevocations(0),
			m: &config.Messenger{ClockSkew: (*caddy.Duration)(&skew)}}
		w.makeToken()
		for range 1000 {
			w.step()
			w.check()
		}
		joined += w.joined
	}
	if joined < turns {
		t.Errorf("logouts were replaced %d times in %d turns, which shows little", joined, turns)
	}
}
