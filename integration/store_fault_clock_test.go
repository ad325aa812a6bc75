package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Row 4. The clocks of two nodes are ten minutes apart, or one of them steps. Nothing that was acknowledged depends on that.

// A contact logs out. The node that hears of it has a clock for which the token has expired already; then its clock is set
// right. The token stays revoked, on both nodes.
func TestLogoutIsKeptIfAClockIsAhead(t *testing.T) {
	if !alone(t) {
		return
	}
	c := newFaultCluster(t, onRedis, clusterSettings{names: []string{"acme"}, clocks: true})
	a, b := c.nodes[0], c.nodes[1]
	a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
	secret := a.generate("acme")
	claims := contact("mark", "a")
	claims["exp"] = time.Now().Add(5 * time.Minute).Unix()
	token, other := sign(secret.Token, claims), sign(secret.Token, contact("zoe", "other"))
	c.everywhere("before", "200", "/m/acme/x", token)
	c.clocks[0].set(30 * time.Minute)
	if got := b.logout(changeLimit, "acme", token); !got.acknowledged() {
		t.Fatalf("the logout: %s", got)
	}
	b.expect("401 token_revoked", "/m/acme/x", token)
	a.mustCall("another revocation, on the node that is ahead", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "other"})
	c.everywhere("the other revocation", "401 token_revoked", "/m/acme/x", other)
	b.expect("401 token_revoked", "/m/acme/x", token)
	c.clocks[0].set(0)
	c.everywhere("after the clock was set right", "401 token_revoked", "/m/acme/x", token)
	if list := b.want(http.StatusOK, http.MethodGet, "messengers/acme/revocations", nil).body; strings.Count(list, `"created"`) != 2 {
		t.Errorf("the node whose clock is right lists %s", list)
	}
}

// A rotation grants the old shared token five minutes. A node that is ten minutes ahead makes another: that does not shorten
// what was granted.
func TestClockAheadDoesNotShortenAnOverlap(t *testing.T) {
	if !alone(t) {
		return
	}
	c := newFaultCluster(t, onRedis, clusterSettings{clocks: true})
	a, b := c.nodes[0], c.nodes[1]
	a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
	old := a.generate("acme")
	c.everywhere("before", "200", "/m/acme/x", sign(old.Token, contact("mark", "a")))
	renewed := a.makeToken("rotate", "acme", map[string]any{"overlap": "5m"})
	c.clocks[1].set(10 * time.Minute)
	third := b.generate("acme")
	for what, token := range map[string]sharedToken{"the renewed one": renewed, "the third one": third} {
		c.everywhere(what, "200", "/m/acme/x", sign(token.Token, contact("mark", "a")))
	}
	a.expect("200", "/m/acme/x", sign(old.Token, contact("mark", "a")))
}

// A node's storage is away for a moment, and its clock is set back meanwhile. Names that it has to look up are not refused
// until the clock catches up.
func TestClockSetBackDoesNotDelayLookUps(t *testing.T) {
	if !alone(t) {
		return
	}
	c := newFaultCluster(t, onRedis, clusterSettings{clocks: true})
	a, b := c.nodes[0], c.nodes[1]
	a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
	token := sign(a.generate("acme").Token, contact("mark", "a"))
	restore := c.wires[1].cut()
	b.expect("503 keys_unavailable", "/m/acme/x", token)
	c.clocks[1].set(-10 * time.Minute)
	restore()
	c.everywhere("the storage is back", "200", "/m/acme/x", token)
}

// A node that is ten minutes behind revokes all tokens of a contact that were issued by now: those of the last ten minutes
// are not among them. It sees from what others have written that the clocks are apart, and its answer says so. Where they are
// not, it says nothing.
func TestRevocationByTimeWarnsOfDifferingClocks(t *testing.T) {
	if !alone(t) {
		return
	}
	c := newFaultCluster(t, onRedis, clusterSettings{clocks: true})
	a, b := c.nodes[0], c.nodes[1]
	a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
	token := sign(a.generate("acme").Token, contact("zoe", "other"))
	c.everywhere("before", "200", "/m/acme/x", token)
	revoke := func(body map[string]any) string {
		t.Helper()
		var said map[string]any
		decode(t, b.mustCall("revoking", http.MethodPost, "messengers/acme/revocations", body).body, &said)
		if said[expected.warning] == nil {
			return ""
		}
		return mustJSON(said[expected.warning])
	}
	if got := revoke(map[string]any{"identity": "tom"}); got != "" {
		t.Errorf("the clocks are right: the answer warns of %s", got)
	}
	c.clocks[1].set(-10 * time.Minute)
	a.mustCall("a change on the node whose clock is right", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "other"})
	c.everywhere("it", "401 token_revoked", "/m/acme/x", token)
	if got := revoke(map[string]any{"identity": "mark"}); !strings.Contains(got, expected.clockWord) {
		t.Errorf("the clocks are ten minutes apart: the answer warns of %q", got)
	}
	if got := revoke(map[string]any{"jti": "a"}); got != "" {
		t.Errorf("a revocation by jti has nothing to do with clocks: the answer warns of %s", got)
	}
}

// A node is suspended for a month. Meanwhile a messenger is deleted, and what tells of that is removed. When the node goes on
// it does not serve the messenger, and its repair does not bring it back.
func TestNodeSuspendedForAMonth(t *testing.T) {
	const away = 31 * 24 * time.Hour
	if !alone(t) {
		return
	}
	c := newFaultCluster(t, onRedis, clusterSettings{clocks: true})
	a, b := c.nodes[0], c.nodes[1]
	tokens := make(map[string]string)
	for _, name := range []string{"acme", "globex"} {
		a.mustCall("creating it", http.MethodPut, "messengers/"+name, generated)
		claims := contact("mark", "a")
		claims["exp"] = time.Now().Add(2 * away).Unix()
		tokens[name] = sign(a.generate(name).Token, claims)
		c.everywhere("before", "200", "/m/"+name+"/x", tokens[name])
	}
	b.stop()
	a.mustCall("deleting it", http.MethodDelete, "messengers/acme", nil)
	c.clocks[0].set(away)
	c.clocks[1].set(away)
	a.mustCall("a change a month later", http.MethodPost, "messengers/globex/revocations", map[string]any{"jti": "other"})
	c.wires[0].passes(t, 12)
	b.resume()
	check := func(when string) {
		t.Helper()
		c.everywhere(when+": the deleted messenger", "404 messenger_unknown", "/m/acme/x", tokens["acme"])
		c.everywhere(when+": the other one", "200", "/m/globex/x", tokens["globex"])
	}
	check("a month later")
	b.mustCall("a repair by the node that was away", http.MethodPost, expected.repairPath, map[string]any{})
	check("after the repair")
}
