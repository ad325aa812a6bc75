package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A testRevocations is the revocations of one messenger, changed directly.
type testRevocations struct {
	*ledger
	bound time.Duration // max_lifetime
}

func newTestRevocations(bound time.Duration) *testRevocations {
	return &testRevocations{newLedger(), bound}
}

func (r *testRevocations) revoke(v revocation.Revocation, now time.Time) error {
	facts, err := r.revocationFacts(v, now, now, r.bound)
	for _, f := range facts {
		r.add(f, new(Effect))
	}
	return err
}

// put adds a revocation without looking whether there is room.
func (r *testRevocations) put(v revocation.Revocation, now time.Time) {
	f := NewFact(factRevoke, now)
	f.Revocation = &v
	r.add(f, new(Effect))
}

func newRevokable(skew, bound time.Duration) *config.Messenger {
	return &config.Messenger{ClockSkew: (*caddy.Duration)(&skew), MaxLifetime: caddy.Duration(bound)}
}

// In an emergency the list is full, and everything has to be revoked. That takes nothing from the list, so that it can be
// undone.
func TestRevokeAllFitsIntoAFullList(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for what, filler := range map[string]func(i int) revocation.Revocation{
		"short ones": func(i int) revocation.Revocation {
			return revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", i))}
		},
		"long ones": func(i int) revocation.Revocation {
			return revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint(i, strings.Repeat("<", 1000)))}
		},
	} {
		m, r := newRevokable(time.Minute, 0), newTestRevocations(0)
		for i := range MaxRevocations + 1 {
			if i < MaxRevocations-50 { // adding each looks through all
				r.put(filler(i).Recorded(m, now), now)
			} else if r.revoke(filler(i).Recorded(m, now), now) != nil {
				break
			}
		}
		full := len(r.revocations)
		for _, v := range []revocation.Revocation{filler(MaxRevocations + 1), {Identity: "mark"}} {
			if err := r.revoke(v.Recorded(m, now), now); err == nil && v.Size() > revocation.Overhead+100 || err == nil && full == MaxRevocations {
				t.Errorf("%s: %d are not full", what, full)
			}
		}
		for range 3 {
			if err := r.revoke(revocation.Revocation{All: true}.Recorded(m, now), now); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			now = now.Add(time.Hour)
		}
		for _, f := range r.facts {
			if text, err := json.Marshal(f); err != nil || len(text) > f.Revocation.Size()+len(f.ID)+200 || f.check() != nil {
				t.Fatalf("%s: a fact of %d bytes: %v, %v", what, len(text), err, f.check())
			}
		}
		index := authn.NewRevocations(r.rules(now))
		if !index.Covers("zoe", "", now.Add(-time.Hour)) || !index.Covers("zoe", authn.NewTokenID(string(filler(0).TokenID)), now.Add(time.Hour)) {
			t.Errorf("%s: not everything is revoked", what)
		}
	}
}

// A list of short-lived tokens is full of those that have expired. They make room, and stay revoked if max_lifetime is
// raised afterwards.
func TestTokensRemovedFromAFullListStayRevoked(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	m, r := newRevokable(time.Minute, 10*time.Minute), newTestRevocations(10*time.Minute)
	for i := range MaxRevocations {
		r.put(revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", i))}.Recorded(m, now), now)
	}
	if err := r.revoke(revocation.Revocation{TokenID: "more"}.Recorded(m, now), now); err == nil {
		t.Fatal("revocations of tokens that can be valid were forgotten")
	}
	later := now.Add(time.Hour)
	if err := r.revoke(revocation.Revocation{TokenID: "more"}.Recorded(m, later), later); err != nil || len(r.revocations) != 2 {
		t.Fatalf("%d are left, %v", len(r.revocations), err)
	}
	index := authn.NewRevocations(r.rules(later))
	if !index.Covers("zoe", authn.NewTokenID("token 7"), now.Add(time.Minute)) { // a day's token, which max_lifetime 48h would let in
		t.Error("a revoked token would be valid again")
	}
	if index.Covers("zoe", "new", later.Add(-12*time.Minute)) {
		t.Error("a token that max_lifetime allows is refused")
	}
	if ids := r.revocationsOf(revocation.Target{All: true}); len(ids) > 0 {
		t.Error("what replaced the others can be undone")
	}
	longer := revocation.Revocation{TokenID: "token"}.Recorded(m, now)
	if until := longer.KeptUntil(48 * time.Hour); until == nil || until.Before(now.Add(48*time.Hour)) {
		t.Errorf("under a longer max_lifetime it is kept until %v", until)
	}
	if until := longer.KeptUntil(0); until != nil {
		t.Errorf("without max_lifetime it is kept until %v", until)
	}
}

// An operator's ban of one token outlives the logouts of its contact, and can be undone alone.
func TestLogoutsDoNotReplaceOperatorRevocations(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m, r := newRevokable(time.Minute, 0), newTestRevocations(0)
	add := func(v revocation.Revocation) {
		if err := r.revoke(v.Recorded(m, now), now); err != nil {
			t.Fatal(err)
		}
	}
	until, issued := now.Add(time.Hour), now.Add(40*time.Second)
	logout := func(i int) revocation.Revocation {
		return revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", i)), Contact: "mark", Issued: &issued, Until: &until}
	}
	add(revocation.Revocation{Identity: "mark"})
	add(logout(0))
	add(revocation.Revocation{TokenID: "token 0"})
	add(logout(0))
	for i := range 2 * maxLogouts {
		add(logout(i + 1))
	}
	var banned, contact, replaced bool
	for _, v := range r.activeRevocations(now) {
		banned = banned || v.TokenID == "token 0"
		contact = contact || v.Identity == "mark" && !v.Covers
		replaced = replaced || v.Identity == "mark" && v.Covers
	}
	if !banned || !contact || !replaced {
		t.Errorf("the token %t, the contact %t, the logouts %t are revoked", banned, contact, replaced)
	}
}

// A site gives two contacts tokens with one jti, and both log out at once, on two nodes. What one of them does afterwards
// makes the other's token valid in no case.
func TestLogoutsOfTwoContactsWithOneTokenID(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	m, r := newRevokable(time.Minute, time.Hour), newTestRevocations(time.Hour)
	logOut := func(contact, jti string, issued time.Time) {
		c := &authn.Contact{Identity: contact, TokenID: authn.NewTokenID(jti), Issued: issued}
		if err := r.revoke(revocation.OfLogout(c, m, false, now).Recorded(m, now), now); err != nil {
			t.Fatal(err)
		}
	}
	latest := now.Add(-time.Minute)
	logOut("mark", "both", latest)
	logOut("zoe", "both", now.Add(-time.Hour))
	for i := range 2 * maxLogouts {
		logOut("zoe", fmt.Sprint("token ", i), now.Add(-time.Hour))
	}
	if !authn.NewRevocations(r.rules(now)).Covers("mark", authn.NewTokenID("both"), latest) {
		t.Error("the other contact's logouts made the token valid again")
	}
	now = now.Add(24 * time.Hour)
	floor, freed, _ := r.floor(now, time.Hour)
	if r.put(floor, now); freed == 0 || len(r.activeRevocations(now)) != 1 {
		t.Errorf("%d are left, %d were covered", len(r.activeRevocations(now)), freed)
	}
	if !authn.NewRevocations(r.rules(now)).Covers("mark", authn.NewTokenID("both"), latest) {
		t.Error("when room was made the token became valid again")
	}
}

// A token's key ends before the token, in the overlap of a rotation, say. With the same key in other settings, the token that
// was logged out is revoked still.
func TestLogoutOutlivesTheKey(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	m, r := newRevokable(time.Minute, 0), newTestRevocations(0)
	c := &authn.Contact{Identity: "mark", TokenID: authn.NewTokenID("token"), Issued: now, Expires: now.Add(24 * time.Hour), Until: now.Add(time.Hour)}
	if err := r.revoke(revocation.OfLogout(c, m, false, now).Recorded(m, now), now); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, 2 * time.Hour, 24*time.Hour + config.MaxClockSkew - 1} {
		if !authn.NewRevocations(r.rules(now.Add(later))).Covers("mark", c.TokenID, c.Issued) {
			t.Errorf("after %v it is valid again", later)
		}
	}
	gone := now.Add(24*time.Hour + config.MaxClockSkew)
	if left := r.activeRevocations(gone); len(left) > 0 {
		t.Error("it is listed although its token has expired")
	}
	if left := r.rules(gone.Add(KeepUseless)); len(left) > 0 { // a clock that was ahead has been set back by then
		t.Error("it is kept for longer than a day after its token has expired")
	}
}

// The clock of a node jumps ahead by hours, and room is needed meanwhile. Then it is set back. What was revoked is revoked: also
// for a node that has read the messenger while the clock was ahead.
func TestClockSetBackKeepsTokensRevoked(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	m, r := newRevokable(time.Minute, 0), newTestRevocations(0)
	until := now.Add(time.Hour)
	for i := range MaxRevocations {
		r.put(revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", i)), Until: &until}.Recorded(m, now), now)
	}
	ahead := now.Add(5 * time.Hour)
	if err := r.revoke(revocation.Revocation{TokenID: "more"}.Recorded(m, ahead), ahead); err != nil {
		t.Fatalf("revocations of expired tokens take room: %v", err)
	}
	for what, rules := range map[string][]authn.Revocation{"read while the clock was ahead": r.rules(ahead), "read afterwards": r.rules(now)} {
		if !authn.NewRevocations(rules).Covers("mark", authn.NewTokenID("token 7"), now) {
			t.Errorf("%s: a revoked token is valid", what)
		}
	}
	if len(r.activeRevocations(now)) != MaxRevocations+1 {
		t.Errorf("%d are listed", len(r.activeRevocations(now)))
	}
}

// A contact logs out again and again, more often than logouts of one contact are stored, but from tokens that have expired
// meanwhile. A session elsewhere does not end because of that.
func TestLogoutsOfExpiredTokensAreNotReplaced(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	m, r := newRevokable(time.Minute, 0), newTestRevocations(0)
	elsewhere := now
	for i := range 3 * maxLogouts {
		now = now.Add(time.Hour)
		c := &authn.Contact{Identity: "mark", TokenID: authn.NewTokenID(fmt.Sprint("token ", i)), Issued: now, Expires: now.Add(time.Minute)}
		if err := r.revoke(revocation.OfLogout(c, m, false, now).Recorded(m, now), now); err != nil {
			t.Fatal(err)
		}
	}
	if authn.NewRevocations(r.rules(now)).Covers("mark", authn.NewTokenID("elsewhere"), elsewhere) {
		t.Error("the session elsewhere has ended")
	}
}
