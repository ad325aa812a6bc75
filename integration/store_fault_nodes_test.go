package integration

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Row 12. A key was stolen from the site. The operator says refresh --distrust to one node while the key server does not
// answer: no node trusts a key that it fetched before, neither for a configured messenger nor for a stored one.
func TestDistrustReachesEveryNode(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		keys := newKeyServer(t, publicJWK(rsaKey(0), "stolen"))
		host := strings.TrimSuffix(strings.TrimPrefix(keys.url, "http://"), "/jwks.json")
		c := newFaultCluster(t, storage, clusterSettings{options: "messenger {\n jwks_internal_hosts " + host + "\n}\n" +
			"messenger billing {\n identity_key identity\n jwks " + keys.url + "\n}"})
		a := c.nodes[0]
		a.mustCall("creating it", http.MethodPut, "messengers/tenant", map[string]any{"identity_key": "identity", "jwks": map[string]any{"url": keys.url}})
		stolen, renewed := signWithKID(rsaKey(0), "stolen", contact("mark", "a")), signWithKID(rsaKey(1), "renewed", contact("mark", "a"))
		everywhere := func(what, want, token string) {
			t.Helper()
			for _, name := range []string{"billing", "tenant"} {
				c.everywhere(what+": "+name, want, "/m/"+name+"/x", token)
			}
		}
		everywhere("before", "200", stolen)
		keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		for _, name := range []string{"billing", "tenant"} {
			a.call(changeLimit, http.MethodPost, "messengers/"+name+"/refresh", map[string]any{"distrust": true}) // says that nothing was fetched
		}
		everywhere("distrusted", "503 keys_unavailable", stolen)
		keys.publish(publicJWK(rsaKey(1), "renewed"))
		for _, name := range []string{"billing", "tenant"} {
			a.mustCall("fetching the new key", http.MethodPost, "messengers/"+name+"/refresh", map[string]any{})
		}
		everywhere("the new key", "200", renewed)
		everywhere("the stolen key afterwards", "401 key_unknown", stolen)
	})
}

// addSetting adds a setting that this version does not know to every value in a folder that holds settings as JSON, and
// returns how many these are. It is all that is assumed of the format: that settings have the names of the admin API, and
// that values are not sealed without a store key.
func addSetting(t *testing.T, folder string) (count int) {
	t.Helper()
	for file, text := range files(t, folder) {
		for _, quote := range []string{`"`, `\"`} { // as JSON, or in a string of JSON
			name := quote + "identity_key" + quote
			added := quote + "only_on_sundays" + quote + ":true," + name
			if !bytes.Contains(text, []byte(name)) {
				continue
			}
			if err := os.WriteFile(filepath.Join(folder, file), bytes.ReplaceAll(text, []byte(name), []byte(added)), 0o600); err != nil {
				t.Fatal(err)
			}
			count++
		}
	}
	return count
}

// Row 13. A newer version of the gateway has stored a messenger with a setting that this one does not know: it may be a
// restriction. The messenger answers keys_unavailable and says why. Nothing is damaged: the value stays as it is, others are
// served, and so is this one by the newer version.
func TestSettingOfANewerVersion(t *testing.T) {
	if !alone(t) {
		return
	}
	folder := t.TempDir()
	n := newNode(t, caddyBinary(t), nil, "storage file_system "+folder+"\nmessenger {\n poll_interval 500ms\n}\nmessenger support {\n identity_key identity\n shared_token\n}", faultSite())
	n.run()
	n.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
	acme, support := n.generate("acme"), n.generate("support")
	n.kill()
	before := files(t, folder)
	if addSetting(t, folder) == 0 {
		t.Fatalf("none of %d values holds settings as JSON: adjust addSetting to the format", len(before))
	}
	n.run()
	n.expect("503 keys_unavailable", "/m/acme/x", sign(acme.Token, contact("mark", "a")))
	n.expect("200", "/", sign(support.Token, contact("mark", "a")))
	shown := n.operator.call(changeLimit, http.MethodGet, "messengers/acme", nil).String()
	for what, text := range map[string]string{"the log": n.logs(), "the admin API": shown} {
		if !strings.Contains(text, expected.newerVersion) {
			t.Errorf("%s does not say %q", what, expected.newerVersion)
		}
	}
	if strings.Contains(shown, "damaged") {
		t.Errorf("the admin API says %s", shown)
	}
	// What is done with it meanwhile does not take the setting away.
	n.operator.call(changeLimit, http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "b"})
	n.kill()
	kept := 0
	for _, text := range files(t, folder) {
		kept += bytes.Count(text, []byte("only_on_sundays"))
	}
	if kept == 0 {
		t.Error("the setting was taken away")
	}
	restoreFiles(t, folder, before)
	n.run()
	n.expect("200", "/m/acme/x", sign(acme.Token, contact("mark", "a")))
}

// Row 14. The node is told to end. A guarded connection gets a close frame with 1001, so that the page connects again, also
// where the proxy would keep it over a reload.
func TestSIGTERMEndsConnectionsWithGoingAway(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	c := newFaultCluster(t, onFolder, clusterSettings{nodes: 1, up: up, options: "grace_period 10s",
		site: "messenger_auth support\nreverse_proxy UPSTREAM {\n stream_close_delay 5m\n}"})
	n := c.nodes[0]
	token := sign(n.generate("support").Token, contact("mark", "a"))
	s, status := protocols[0].open(n.gateway, "/echo", bearer(token))
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered with %d", status)
	}
	s.lives(t, "mark")
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := s.ended(); !strings.HasPrefix(got, "1001") {
		t.Errorf("the connection ended with %q, want 1001", got)
	}
	<-n.exited
}
