package integration

import (
	"net/url"
	"os"
	"strings"
	"testing"
)

// withAccess are the settings of a stored messenger whose key server wants to see something.
func withAccess(url, ca, value string) map[string]any {
	m := storedJWKS(url)
	set := m["jwks"].(map[string]any)
	if ca != "" {
		set["ca"] = ca
	}
	header := map[string]any{"name": "X-Api-Key"}
	if value != "" {
		header["value"] = value
	}
	set["header"] = []any{header}
	return m
}

// An editor may change the settings of a messenger, and not read the key that a colleague has stored for its key server: not by any
// answer, nor by having the gateway send it to a server of their own.
func TestStoredHeadersAreWriteOnly(t *testing.T) {
	if !alone(t) {
		return
	}
	ca := newPrivateCA(t, rsaKey(0))
	keys, own := newGuardedServer(t, ca.certificate(t), publicJWK(rsaKey(0), "a")), newGuardedServer(t, ca.certificate(t), publicJWK(rsaKey(1), "b"))
	secret, authority := newSecret(), string(ca.pem)
	keys.want("X-Api-Key: " + secret)
	options := "messenger {\n jwks_internal_hosts 127.0.0.1\n poll_interval 50ms\n store {\n key {file." + storeKeyFile(t) + "}\n }\n}"
	g := startPanel(t, newUpstream(t), options)
	o, token := g.operator(), signWithKID(rsaKey(0), "a", forChat("mark"))
	file := write(t, "ca.pem", ca.pem)
	t.Setenv("CHAT_API_KEY", secret)
	for value, says := range map[string]string{"": "no value", "{env.CHAT_API_KEY}": "placeholder", "a\r\nX-Injected: 1": "line break", "a\x00b": "control character", strings.Repeat("x", 9000): "9000 bytes", " x": "blank"} {
		if text := o.refused(400, "PUT", "messengers/acme", withAccess(keys.url, authority, value)); !strings.Contains(text, "X-Api-Key") || !strings.Contains(text, says) {
			t.Errorf("a value of %d bytes: %s", len(value), text)
		}
	}
	for bad, says := range map[string]string{file: "is not PEM", "{file." + file + "}": "is not PEM", string(privatePEM(rsaKey(0))): "private key", strings.Repeat(authority, 11): "at most 10", "/etc/shadow": "is not PEM"} {
		if text := o.refused(400, "PUT", "messengers/acme", withAccess(keys.url, bad, secret)); !strings.Contains(text, "jwks ca") || !strings.Contains(text, says) {
			t.Errorf("an authority of %d bytes: %s", len(bad), text)
		}
	}

	o.put("acme", withAccess(keys.url, authority, secret))
	g.expect("200", "/acme/", token)
	kept := func(when string) {
		t.Helper()
		before := keys.refused
		if o.want(200, "POST", "messengers/acme/refresh", map[string]any{}); keys.refused != before {
			t.Errorf("%s: the header is lost", when)
		}
		for _, text := range []string{o.want(200, "GET", "messengers/acme", nil).body, o.want(200, "GET", "messengers", nil).body, g.panelOperator().get("?messenger=acme").body, g.logs()} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: the secret is shown", when)
			}
		}
	}
	kept("as it was stored")
	o.want(200, "PUT", "messengers/acme?confirm=1", withAccess(keys.url+"?v=2", authority, ""), "If-Match: *")
	kept("after a change of the path without the value")
	g.panelOperator().save("acme", func(form url.Values) { form.Set("identity_key", "sub") })
	kept("after a save in the panel")
	g.panelOperator().save("acme", func(form url.Values) {
		form.Set("identity_key", "identity")
		form.Set("header", form.Get("header")+"\r\nX-Second: second-value-of-the-form")
	})
	kept("after another header was added in the panel")
	if !keys.sent("X-Second") {
		t.Error("the second header is not sent")
	}

	// What an editor tries to have the key sent to a server of their own, or past the authority that is named.
	for name, settings := range map[string]map[string]any{
		"another port": withAccess(own.url, authority, ""), "another host": withAccess(strings.Replace(own.url, "127.0.0.1", "localhost", 1), authority, ""), "another scheme": withAccess(strings.Replace(keys.url, "https:", "http:", 1), authority, ""),
		"any authority": withAccess(keys.url, "", ""), "another authority": withAccess(keys.url, string(newPrivateCA(t, rsaKey(1)).pem), ""),
		"a user name in the URL": withAccess(strings.Replace(own.url, "https://", "https://127.0.0.1@", 1), authority, ""),
	} {
		if text := o.refused(400, "PUT", "messengers/acme?confirm=1", settings, "If-Match: *"); strings.Contains(text, secret) {
			t.Errorf("%s: the answer has the secret", name)
		}
	}
	form := g.panelOperator().get("?messenger=acme").browserForm(t)
	form.Set("url", own.url)
	form.Set("header", "X-Api-Key\r\nX-Third: third-value-of-the-form")
	if a := g.panelOperator().post("?messenger=acme", form); a.status != 422 || !strings.Contains(a.text(), "X-Api-Key has no value") || strings.Contains(a.body, "third-value") {
		t.Errorf("another host in the panel: %d %s", a.status, a.text())
	}
	if own.sent("X-Api-Key") || own.sent("X-Second") {
		t.Error("the key was sent to a server of the editor")
	}
	kept("after all of these")

	// The commands read the value from a file or a variable of their own, and keep it when it is not given.
	s := newShell(t)
	s.env = append(s.env, "CHAT_API_KEY="+secret)
	admin := []string{"--address", "unix/" + g.sock}
	s.must("", append([]string{"create", "made", "--identity-key", "identity", "--audience", "chat", "--jwks", keys.url, "--jwks-ca", file, "--jwks-header", "X-Api-Key: {env.CHAT_API_KEY}"}, admin...)...)
	g.expect("200", "/made/", token)
	s.must("", append([]string{"create", "made", "--replace", "--identity-key", "identity", "--jwks", keys.url}, admin...)...)
	if o.want(200, "POST", "messengers/made/refresh", map[string]any{}); strings.Contains(s.must("", append([]string{"show", "made", "--json"}, admin...)...), secret) {
		t.Error("show has the secret")
	}
	if ran := s.messenger("", append([]string{"create", "made", "--replace", "--identity-key", "identity", "--jwks", own.url, "--confirm", "1"}, admin...)...); ran.status != 1 || !strings.Contains(ran.err, "X-Api-Key") || own.sent("X-Api-Key") {
		t.Errorf("another host by a command: status %d %s", ran.status, ran.err)
	}
	for name, text := range files(t, strings.TrimSuffix(g.log, "caddy.log")+"storage") {
		if strings.Contains(string(text), secret) {
			t.Errorf("the secret is in %s, and not sealed", name)
		}
	}
}

// Without a store key there is nothing that a secret could be sealed with.
func TestStoredHeadersNeedAStoreKey(t *testing.T) {
	_, o := startLive(t, nil)
	if text := o.refused(409, "PUT", "messengers/acme", withAccess("https://login.example.com/keys", "", newSecret())); !strings.Contains(text, "store { key") {
		t.Error(text)
	}
	o.refused(404, "GET", "messengers/acme", nil)
}

// An export has no secret, or has it sealed for the server that it is for: whoever may change the file has it sent nowhere else.
func TestHeadersAreExportedSealed(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	tr.config = write(t, "Caddyfile", []byte("{\n admin off\n "+sealedOptions(tr.folder, storeKeyFile(t))+"\n}\n"))
	tr.where = []string{"--offline", "--config", tr.config}
	secret := newSecret()
	settings := write(t, "settings.json", []byte(mustJSON(withAccess("https://login.example.com/keys", "", secret))))
	tr.want(0, "", "", "create", "acme", "--new-store", "--settings", settings)
	without, with := tr.export(), tr.export("--secrets", tr.key)
	for _, file := range []string{without, with} {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), secret) || !strings.Contains(string(text), "X-Api-Key") {
			t.Errorf("%v\n%s", err, text)
		}
	}
	tr.want(0, "", "", "delete", "acme")
	moved := write(t, "moved.jsonl", []byte(strings.ReplaceAll(textOf(t, with), "login.example.com", "evil.example.com")))
	tr.imports(1, "for another host or ca", moved, "--replace", "--secrets", tr.key)
	if ran := tr.imports(4, "", without, "--replace"); !strings.Contains(ran.out, "X-Api-Key has no value") {
		t.Errorf("without the secret: %s%s", ran.out, ran.err)
	}
	tr.imports(0, "", with, "--replace", "--secrets", tr.key)
	tr.imports(0, "", without, "--merge")
	again := tr.export("--secrets", tr.key)
	if a, b := textOf(t, with), textOf(t, again); !strings.Contains(b, `"headers":`) || len(a) != len(b) {
		t.Errorf("exported again:\n%s\nwant\n%s", b, a)
	}
}

func textOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
