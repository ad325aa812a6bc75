package integration

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// earlier are commits whose gateways know less than this one.
var earlier = map[string]struct {
	commit string
	plain  bool // it understands what this version writes about messengers that have nothing new
}{
	"before the algorithms":      {"46d602dea613c875e4296673261ca44996c84c0e", false}, // nor that a creation counts, which is written down with the next change
	"before the previous method": {"f4d84f698dc173d71f8417697ffa43323870ecff", true},
}

// An upgrade is two nodes on one Redis, of which one is still the version before.
type upgrade struct {
	t             *testing.T
	before, after *node
	plain         bool
	newer         map[string]bool // messengers that have what the version before may not know
	set           map[string]any  // settings that were changed
	expected      []expectation
	decided       int // how often the version before has decided as it should
	undecided     int // and how often it has said that it cannot
}

// An expectation is what has to be decided about a token from now on.
type expectation struct{ messenger, what, token, verdict string }

func (u *upgrade) expect(messenger, what, token, verdict string) {
	u.expected = slices.DeleteFunc(u.expected, func(e expectation) bool { return e.messenger == messenger && e.what == what })
	u.expected = append(u.expected, expectation{messenger, what, token, verdict})
}

func pathTo(messenger string) string {
	if messenger == "support" {
		return "/"
	}
	return "/m/" + messenger + "/x"
}

// check waits until the node decides as expected. The version before may refuse, and never accept, what it does not understand. It says
// 401 in place of 503 for the tokens of a key that it cannot read, as gateways did then.
func (u *upgrade) check(step string, n *node) {
	u.t.Helper()
	for _, e := range u.expected {
		may := n.binary != u.after.binary && (u.newer[e.messenger] || !u.plain)
		last := ""
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if last = n.verdict(pathTo(e.messenger), e.token); last == e.verdict || may && last != "200" {
				break
			}
		}
		switch {
		case last != e.verdict && (!may || last == "200"):
			u.t.Errorf("%s: %s, %s: got %s, want %s", step, e.messenger, e.what, last, e.verdict)
		case n.binary == u.after.binary:
		case last == e.verdict:
			u.decided++
		default:
			u.undecided++
		}
	}
}

// both checks both versions.
func (u *upgrade) both(step string) {
	u.t.Helper()
	u.check(step+", this version", u.after)
	u.check(step+", the version before", u.before)
}

// change makes a change by the admin API of a node of either version, and returns the answer. The document of the API describes the
// new one alone, so that the answers are not compared with it.
func (u *upgrade) change(n *node, method, path string, body any, headers ...string) outcome {
	u.t.Helper()
	return n.operator.call(changeLimit, method, path, body, headers...)
}

// try makes a change that another node's may have to reach first, and reports whether it was acknowledged. The version before may
// refuse it where it does not understand what is there.
func (u *upgrade) try(n *node, method, path string, body any, headers ...string) bool {
	u.t.Helper()
	var last outcome
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = u.change(n, method, path, body, headers...); last.acknowledged() {
			return true
		}
		if n == u.before && !u.plain && last.err == nil && last.status == http.StatusServiceUnavailable {
			return false
		}
	}
	u.t.Fatalf("%s %s: %s", method, path, last)
	return false
}

// token makes a shared token by generate or rotate.
func (u *upgrade) token(n *node, action, messenger string) (made sharedToken) {
	u.t.Helper()
	o := u.change(n, http.MethodPost, "messengers/"+messenger+"/tokens/"+action, map[string]any{})
	if json.Unmarshal([]byte(o.body), &made) != nil || made.Token == "" {
		u.t.Fatalf("%s of %s: got %d and no token", action, messenger, o.status)
	}
	search.secret(made.Token)
	return made
}

// replace changes one setting of a messenger on a node as a person does: what the node shows, with the change.
func (u *upgrade) replace(n *node, messenger, setting string, value any) {
	u.t.Helper()
	var last outcome
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var d described
		if last = u.change(n, http.MethodGet, "messengers/"+messenger, nil); last.acknowledged() {
			decode(u.t, last.body, &d)
			d.Settings[setting] = value
			last = u.change(n, http.MethodPut, "messengers/"+messenger, d.Settings, "If-Match: "+last.header.Get("ETag"))
		}
		if last.acknowledged() {
			decode(u.t, last.body, &d)
			u.set[messenger+" "+setting] = d.Settings[setting]
			return
		}
		if n == u.before && !u.plain && last.err == nil && last.status == http.StatusServiceUnavailable {
			return
		}
	}
	u.t.Fatalf("%s of %s: %s", setting, messenger, last)
}

// checkSettings compares the settings that were acknowledged with what the node shows.
func (u *upgrade) checkSettings(n *node) {
	u.t.Helper()
	for which, want := range u.set {
		messenger, setting, _ := strings.Cut(which, " ")
		patiently(u.t, which+" is there", func() bool {
			var d described
			o := u.change(n, http.MethodGet, "messengers/"+messenger, nil)
			if !o.acknowledged() {
				return n == u.before && !u.plain && o.status == http.StatusServiceUnavailable
			}
			decode(u.t, o.body, &d)
			return mustJSON(d.Settings[setting]) == mustJSON(want)
		})
	}
}

func plainKey(which int) map[string]any {
	return map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(which)))}}}
}

// Nodes are replaced one after the other. While one still has the version before, messengers of both kinds are changed on either: what
// only this version knows makes the one before say that it cannot decide, and it neither overwrites nor drops anything. When it has
// been replaced, everything is there.
func TestRollingUpgradeLosesNoChanges(t *testing.T) {
	if !soaking() {
		t.Skip("not run: gateways of earlier commits are built for this test; MESSENGER_SOAK=1 runs it")
	}
	if !alone(t) {
		return
	}
	for name, version := range earlier {
		t.Run(name, func(t *testing.T) {
			options := clusterOptions("storage redis {\n address "+startRedis(t).addr+"\n}", storeKeyFile(t))
			u := &upgrade{t: t, plain: version.plain, newer: make(map[string]bool), set: make(map[string]any)}
			u.before, u.after = newNode(t, caddyOf(t, version.commit), nil, options, clusterSite), newNode(t, caddyBinary(t), nil, options, clusterSite)
			u.before.run()
			u.after.run()
			u.changePlain()
			u.changeNewer()
			if u.undecided == 0 || u.decided == 0 {
				t.Errorf("the version before has decided %d times, and could not %d times", u.decided, u.undecided)
			}
			u.before.kill()
			u.before.binary, u.plain, u.newer = u.after.binary, true, nil
			u.before.run()
			u.both("after the upgrade")
			u.checkSettings(u.before)
		})
	}
}

// changePlain changes messengers that have nothing new, on either version.
func (u *upgrade) changePlain() {
	u.t.Helper()
	u.expect("support", "its first token", u.token(u.before, "generate", "support").signed(), "200")
	first := make(map[string]sharedToken)
	for name, n := range map[string]*node{"shared-before": u.before, "shared-after": u.after} {
		u.try(n, http.MethodPut, "messengers/"+name, generated)
		first[name] = u.token(n, "generate", name)
		u.expect(name, "its first token", first[name].signed(), "200")
	}
	for name, n := range map[string]*node{"key-before": u.before, "key-after": u.after} {
		u.try(n, http.MethodPut, "messengers/"+name, plainKey(0))
		u.expect(name, "its key", sign(rsaKey(0), valid("mark")), "200")
		u.expect(name, "another key", sign(rsaKey(1), valid("mark")), "401 signature_invalid")
	}
	u.both("new messengers")
	for _, name := range []string{"key-before", "key-after"} {
		revoke := func(n *node, body map[string]any, token string) {
			if u.try(n, http.MethodPost, "messengers/"+name+"/revocations", body) {
				u.expect(name, "a token revoked with "+mustJSON(body), token, "401 token_revoked")
			}
		}
		revoke(u.before, map[string]any{"jti": "e-1"}, sign(rsaKey(0), contact("eve", "e-1")))
		u.replace(u.before, name, "max_session", "1h0m0s")
		revoke(u.after, map[string]any{"identity": "mallory"}, sign(rsaKey(0), contact("mallory", "m-1")))
		u.replace(u.after, name, "clock_skew", "2m0s")
		u.replace(u.before, name, "require_claims", []any{"identity"})
		revoke(u.before, map[string]any{"jti": "e-2"}, sign(rsaKey(0), contact("eve", "e-2")))
	}
	for name, token := range first {
		if u.plain || name == "shared-before" {
			second := u.token(u.before, "rotate", name)
			u.expect(name, "a token of the version before", second.signed(), "200")
			patiently(u.t, "the other node has the token", func() bool { return u.after.verdict(pathTo(name), second.signed()) == "200" })
			u.try(u.after, http.MethodPost, "messengers/"+name+"/tokens/extend", map[string]any{"kid": token.KID, "overlap": "48h"})
		}
		u.expect(name, "a token of this version", u.token(u.after, "rotate", name).signed(), "200")
		if u.try(u.before, http.MethodPost, "messengers/"+name+"/tokens/revoke", map[string]any{"kid": token.KID}) {
			u.expect(name, "its first token", token.signed(), "401 signature_invalid")
		}
	}
	u.both("changes on either version")
	u.checkSettings(u.after)
	u.checkSettings(u.before)
}

// changeNewer makes what only this version knows, and lets the version before try to change it.
func (u *upgrade) changeNewer() {
	t := u.t
	t.Helper()
	padded, err := jwt.NewWithClaims(jwt.SigningMethodPS256, valid("mark")).SignedString(rsaKey(2))
	if err != nil {
		t.Fatal(err)
	}
	search.secret(padded)
	for name, settings := range map[string]map[string]any{
		"pss":    {"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(2))), "alg": "PS256"}}},
		"strong": {"identity_key": "identity", "shared_token": map[string]any{"alg": "HS512"}},
		"nested": {"identity_path": "/user/id", "public_key": plainKey(0)["public_key"]},
		"moved":  plainKey(0), "over": plainKey(0), "imports": generated,
	} {
		u.try(u.after, http.MethodPut, "messengers/"+name, settings)
		u.newer[name] = true
	}
	u.expect("pss", "a token of PS256", padded, "200")
	u.expect("pss", "a token of the same key and RS256", sign(rsaKey(2), valid("mark")), "401 algorithm_not_allowed")
	u.expect("nested", "a nested identity", sign(rsaKey(0), claims{"user": map[string]any{"id": "mark"}, "exp": valid("")["exp"]}), "200")
	u.expect("nested", "an identity elsewhere", sign(rsaKey(0), valid("mark")), "401 identity_missing")
	u.expect("moved", "its first key", sign(rsaKey(0), valid("mark")), "200")
	u.expect("over", "its first key", sign(rsaKey(0), valid("mark")), "200")
	u.both("messengers that are new in some way")

	u.try(u.after, http.MethodPut, "messengers/moved?keep_previous=1h", plainKey(1), "If-Match: *")
	u.try(u.after, http.MethodPut, "messengers/over?keep_previous=1s", plainKey(1), "If-Match: *")
	u.expect("over", "its first key", sign(rsaKey(0), valid("mark")), "401 signature_invalid")
	for _, name := range []string{"moved", "over"} {
		u.expect(name, "its second key", sign(rsaKey(1), valid("mark")), "200")
	}
	u.newer["support"] = true
	for _, name := range []string{"imports", "support"} {
		secret, kept, leaked := newSecret(), u.token(u.after, "generate", name), u.token(u.after, "generate", name)
		u.try(u.after, http.MethodPost, "messengers/"+name+"/tokens/import", map[string]any{"secret": secret})
		u.try(u.after, http.MethodPost, "messengers/"+name+"/tokens/revoke", map[string]any{"kid": leaked.KID})
		u.expect(name, "an imported secret", sign(secret, valid("mark")), "200")
		u.expect(name, "a generated token", kept.signed(), "200")
		u.expect(name, "a generated token that was revoked", leaked.signed(), "401 signature_invalid")
	}
	u.both("what only this version knows")

	for name := range u.newer {
		if u.plain && (name == "pss" || name == "strong") {
			continue // it knows algorithms
		}
		if o := u.change(u.before, http.MethodPut, "messengers/"+name, plainKey(2), "If-Match: *"); o.acknowledged() {
			t.Errorf("%s: the version before has replaced settings that it does not understand: %s", name, o)
		}
		if o := u.change(u.before, http.MethodPost, "messengers/"+name+"/tokens/reset", map[string]any{}); o.acknowledged() {
			t.Errorf("%s: the version before has reset tokens of which it knows a part: %s", name, o)
		}
	}
	u.both("what the version before was not to change")
}
