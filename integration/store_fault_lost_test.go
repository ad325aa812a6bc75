package integration

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// empty makes the storage lose everything, as a Redis without persistence does, or a folder that is not mounted.
func (c *cluster) empty() {
	c.t.Helper()
	if c.redis != nil {
		if got := c.redis.ask("FLUSHALL\r\n"); got != "+OK" {
			c.t.Fatalf("emptying Redis: %s", got)
		}
		return
	}
	if err := os.RemoveAll(filepath.Join(c.folder, "messenger")); err != nil {
		c.t.Fatal(err)
	}
}

// passes lets a node read its storage that many times more, so that it has seen what is there.
func (w *wire) passes(t testing.TB, reads int) {
	t.Helper()
	seen := make(chan bool, reads)
	off := w.on(func(s step) fate {
		if !s.writes {
			select {
			case seen <- true:
			default:
			}
		}
		return forward
	})
	defer off()
	for range reads {
		<-seen
	}
}

// Row 9. The storage comes back empty. What a node has read stays active: a revoked token is refused, a stored messenger is
// served. The node says so, in its log, metrics and health. "caddy messenger repair" writes back what it knows, and a node
// that starts after that knows all of it.
func TestEmptiedStorage(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		a, b := c.nodes[0], c.nodes[1]
		a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
		secret, old := a.generate("acme"), a.generate("acme")
		support := a.generate("support")
		stolen, valid := sign(secret.Token, contact("mark", "stolen")), sign(secret.Token, contact("zoe", "valid"))
		a.mustCall("revoking", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "stolen"})
		a.mustCall("revoking", http.MethodPost, "messengers/support/revocations", map[string]any{"jti": "stolen"})
		a.mustCall("revoking a shared token", http.MethodPost, "messengers/acme/tokens/revoke", map[string]any{"kid": old.KID})
		verdicts := []struct{ what, want, path, token string }{
			{"a valid token", "200", "/m/acme/x", valid},
			{"a revoked token", "401 token_revoked", "/m/acme/x", stolen},
			{"a token of a revoked shared token", "401 signature_invalid", "/m/acme/x", sign(old.Token, contact("zoe", "valid"))},
			{"a valid token of a configured messenger", "200", "/", sign(support.Token, contact("zoe", "valid"))},
			{"a revoked token of a configured messenger", "401 token_revoked", "/", sign(support.Token, contact("mark", "stolen"))},
		}
		check := func(when string) {
			t.Helper()
			for _, v := range verdicts {
				c.everywhere(when+": "+v.what, v.want, v.path, v.token)
			}
		}
		check("before")
		c.empty()
		for _, w := range c.wires {
			w.passes(t, 12)
		}
		for i, n := range c.nodes {
			for _, v := range verdicts {
				if got := n.verdict(v.path, v.token); got != v.want {
					t.Errorf("the storage is empty: %s: node %d says %s, want %s", v.what, i, got, v.want)
				}
			}
		}
		if t.Failed() {
			return
		}
		for _, n := range c.nodes {
			n.checkWentBack(t)
			if exported := n.operator.want(200, http.MethodPost, "export", map[string]any{}).body; strings.Count(exported, `"messenger":"acme"`) != 1 || strings.Count(exported, `"revocations"`) != 2 {
				t.Errorf("what the storage has lost is not in the export: %s", exported)
			}
		}
		newShell(t).must("", expected.repairCommand, "--address", "unix/"+a.gateway.sock)
		for _, n := range c.nodes {
			patiently(t, "the metric says that nothing is missing", func() bool { return n.families().value(expected.lost) == 0 })
			patiently(t, "health is well", func() bool { return n.get("/healthz").status == http.StatusOK })
		}
		c.add(clusterSettings{}).run()
		check("after the repair")
		b.mustCall("revoking afterwards", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "valid"})
		c.everywhere("what is revoked afterwards", "401 token_revoked", "/m/acme/x", valid)
	})
}

// backup copies the storage, and returns what restores that.
func (c *cluster) backup() (restore func()) {
	folder, backup := filepath.Join(c.folder, "messenger"), c.t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(folder)); err != nil {
		c.t.Fatal(err)
	}
	return func() {
		c.t.Helper()
		if err := errors.Join(os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(backup))); err != nil {
			c.t.Fatal(err)
		}
	}
}

// A storage is restored from a backup that lacks nothing but the last change of one node, which no other node has seen. The node notices
// within some polls, although its other values and the lists of others are as they were, and repairs it.
func TestStorageRestoredWithoutTheLastChange(t *testing.T) {
	if !alone(t) {
		return
	}
	c := newFaultCluster(t, onFolder, clusterSettings{nodes: 1})
	a := c.nodes[0]
	a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
	a.generate("support") // without which health is never well
	token := sign(a.generate("acme").Token, contact("mark", "stolen"))
	c.everywhere("before", "200", "/m/acme/x", token)
	restore := c.backup()
	a.mustCall("revoking", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "stolen"})
	restore()
	a.checkWentBack(t)
	c.everywhere("while the storage lacks it", "401 token_revoked", "/m/acme/x", token)
	newShell(t).must("", expected.repairCommand, "--address", "unix/"+a.gateway.sock)
	patiently(t, "health is well", func() bool { return a.get("/healthz").status == http.StatusOK })
	c.add(clusterSettings{}).run()
	c.everywhere("after the repair", "401 token_revoked", "/m/acme/x", token)
}

// A storage is restored from a backup from before a key set was distrusted, while its key server is away: a node that knows of it says
// so, and writes it back. A node that starts then does not use the copy that has the stolen key.
func TestRepairKeepsAKeySetDistrusted(t *testing.T) {
	if !alone(t) {
		return
	}
	keys := newKeyServer(t, publicJWK(rsaKey(0), "stolen"))
	settings := clusterSettings{nodes: 1, options: "messenger billing {\n identity_key identity\n jwks " + keys.url + "\n}"}
	c := newFaultCluster(t, onFolder, settings)
	a := c.nodes[0]
	a.generate("support") // without which health is never well
	stolen := signWithKID(rsaKey(0), "stolen", contact("mark", "a"))
	c.everywhere("before", "200", "/m/billing/x", stolen)
	patiently(t, "the set is stored", func() bool {
		copies, _ := filepath.Glob(filepath.Join(c.folder, "messenger", "_sets", "*", "copy*"))
		return len(copies) > 0
	})
	restore := c.backup()
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	a.call(changeLimit, http.MethodPost, "messengers/billing/refresh", map[string]any{"distrust": true})
	c.everywhere("afterwards", "503 keys_unavailable", "/m/billing/x", stolen)
	restore()
	a.checkWentBack(t)
	if out := newShell(t).must("", expected.repairCommand, "--address", "unix/"+a.gateway.sock); !strings.Contains(out, "1 key set distrusted again") {
		t.Errorf("the command says %q", out)
	}
	patiently(t, "the metric says that nothing is missing", func() bool { return a.families().value(expected.lost) == 0 })
	c.add(settings).run()
	c.everywhere("on a node that starts then", "503 keys_unavailable", "/m/billing/x", stolen)
	if out := newShell(t).must("", expected.repairCommand, "--address", "unix/"+a.gateway.sock); strings.Contains(out, "key set") {
		t.Errorf("once more, the command says %q", out)
	}
}

// checkWentBack checks that the node says that its storage has lost something: in the log, in the metrics and in health.
func (n *node) checkWentBack(t *testing.T) {
	t.Helper()
	n.waitForLog(expected.wentBackLog)
	if !slices.ContainsFunc(strings.Split(n.logs(), "\n"), func(line string) bool {
		return strings.Contains(line, expected.wentBackLog) && strings.Contains(line, `"level":"error"`)
	}) {
		t.Error("that the storage went back is not an error in the log")
	}
	if got := n.families().value(expected.lost); got == 0 {
		t.Errorf("%s%s is 0", metricPrefix, expected.lost)
	}
	patiently(t, "health says so", func() bool { return strings.Contains(n.get("/healthz").body, expected.wentBackHealth) })
}

// Every node tells how the store does: the one that writes how long that takes, and the one that reads how late it hears.
func TestStoreMetrics(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		l := c.newLateChange("acme")
		c.nodes[0].mustCall("revoking", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "stolen"})
		c.everywhere("it", "401 token_revoked", l.path, l.stolen)
		for i, n := range c.nodes {
			f := n.families()
			for _, name := range []string{expected.writes, expected.writeSeconds, expected.waiting, expected.lag, expected.facts, expected.lost} {
				if f[metricPrefix+name] == nil {
					t.Errorf("node %d has no %s%s", i, metricPrefix, name)
				}
			}
			if got := f.value(expected.facts); got < 3 {
				t.Errorf("node %d knows %v facts: the messenger has settings, a token and a revocation", i, got)
			}
		}
		if got := c.nodes[0].families().value(expected.writeSeconds); got < 3 {
			t.Errorf("%v writes are timed, and three changes were made", got)
		}
	})
}

// readOnly makes the storage refuse every write: a Redis that follows another one, a folder that is mounted read-only.
func (c *cluster) readOnly() (writable func()) {
	c.t.Helper()
	if c.redis == nil {
		var offs []func()
		for _, w := range c.wires {
			offs = append(offs, w.on(func(s step) fate {
				if s.writes {
					return refuse
				}
				return forward
			}))
		}
		return func() {
			for _, off := range offs {
				off()
			}
		}
	}
	if got := c.redis.ask("REPLICAOF 127.0.0.1 1\r\n"); got != "+OK" {
		c.t.Fatal(got)
	}
	return func() {
		if got := c.redis.ask("REPLICAOF NO ONE\r\n"); got != "+OK" {
			c.t.Error(got)
		}
	}
}

// Row 10. The storage is read-only. Logouts are refused, and counted as what they are; a metric of failed writes moves.
// Verification goes on, and once the storage can be written again, so do logouts.
func TestLogoutsThatCannotBeWrittenAreCounted(t *testing.T) {
	const logouts = 5
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{names: []string{"acme"}})
		a := c.nodes[0]
		a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
		secret := a.generate("acme")
		token := sign(secret.Token, contact("mark", "a"))
		c.everywhere("before", "200", "/m/acme/x", token)
		before := a.families()
		writable := c.readOnly()
		for range logouts {
			if got := a.logout(changeLimit, "acme", token); got.err != nil || got.status != http.StatusServiceUnavailable || got.code(t) != "store_unavailable" {
				t.Errorf("a logout: got %s, want 503 store_unavailable", got)
			}
		}
		after := a.families()
		grown := func(name string, pairs ...string) float64 {
			return after.value(name, pairs...) - before.value(name, pairs...)
		}
		if got := grown("requests_total", `code="store_unavailable"`); got != logouts {
			t.Errorf("%v requests are counted as store_unavailable, want %d", got, logouts)
		}
		if got := grown("requests_total", `code="verified"`); got != 0 {
			t.Errorf("%v refused logouts are counted as verified", got)
		}
		var failed float64
		for _, outcome := range expected.notWritten {
			failed += grown(expected.writes, fmt.Sprintf("outcome=%q", outcome))
		}
		if failed == 0 {
			t.Errorf("%s%s counts no failed write", metricPrefix, expected.writes)
		}
		a.expect("200", "/m/acme/x", token)
		writable()
		patiently(t, "logouts work again", func() bool { return a.logout(changeLimit, "acme", token).acknowledged() })
		c.everywhere("it", "401 token_revoked", "/m/acme/x", token)
	})
}
