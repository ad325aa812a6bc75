package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Whatever is sent to the admin API by mistake is refused as Caddy refuses, says how to do it, and changes nothing.
func TestInvalidAdminRequestsAreRefused(t *testing.T) {
	_, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	before := o.want(200, "GET", "messengers", nil).body
	large := `{"identity_key":"` + strings.Repeat("x", 70_000) + `","shared_token":{}}`
	private := string(privatePEM(rsaKey(0)))
	for _, c := range []struct {
		status       int
		method, path string
		body         any
		header, says string
	}{
		{415, "PUT", "messengers/new", "{}", "Content-Type: text/plain", "application/json"},
		{415, "PUT", "messengers/new", "{}", "Content-Type: ", "application/json"},
		{415, "POST", "messengers/support/tokens/generate", "{}", "Content-Type: application/x-www-form-urlencoded", "application/json"},
		{413, "PUT", "messengers/new", large, "", "65536"},
		{400, "PUT", "messengers/new", `{"identity_key":"identity","shared_token":{},"distrust":true}`, "", "distrust"},
		{400, "POST", "messengers/support/tokens/generate", `{"kids":"a"}`, "", "kids"},
		{400, "POST", "messengers/support/tokens/generate", `{"overlap":"1h"}`, "", "overlap"},
		{400, "POST", "messengers/support/tokens/revoke", `{}`, "", "kid"},
		{400, "PUT", "messengers/new", `{`, "", "ends too early"},
		{400, "PUT", "messengers/new", `[]`, "", "not a JSON object"},
		{400, "PUT", "messengers/new", `{"shared_token":{}}`, "", "identity_key"},
		{400, "PUT", "messengers/new", `{"identity_key":"exp","shared_token":{}}`, "", "identity_key"},
		{400, "PUT", "messengers/new", `{"identity_key":"a"}`, "", "exactly one of"},
		{400, "PUT", "messengers/new", `{"identity_key":"a","shared_token":{},"jwks":{"url":"https://www.example.com/"}}`, "", "exactly one"},
		{400, "PUT", "messengers/new", `{"identity_key":"a","shared_token":{"token":"{env.HOME}"}}`, "", "generated"},
		{400, "PUT", "messengers/new", `{"identity_key":"a","public_key":[{"key":"{file./etc/hostname}"}]}`, "", "placeholder"},
		{400, "PUT", "messengers/new", map[string]any{"identity_key": "a", "public_key": []any{map[string]any{"key": private}}}, "", "private"},
		{400, "PUT", "messengers/new", `{"identity_key":"a","shared_token":{},"allowed_origin":["https://a.example/path"]}`, "", "allowed_origin"},
		{400, "PUT", "messengers/new", `{"identity_key":"a","shared_token":{},"clock_skew":"1h"}`, "", "clock_skew"},
		{400, "PUT", "messengers/new", `{"identity_key":"a","shared_token":{},"mode":"maybe"}`, "", "mode"},
		{400, "PUT", "messengers/New", generated, "", "name"},
		{400, "PUT", "messengers/..", generated, "", ""},
		{400, "PUT", "messengers/_keysets", generated, "", "name"},
		{400, "PUT", "messengers/" + strings.Repeat("a", 64), generated, "", "63"},
		{404, "GET", "messengers/%2e%2e%2fcertificates", nil, "", ""},
		{409, "PUT", "messengers/support", generated, "", "configuration"},
		{409, "DELETE", "messengers/support", nil, "", "configuration"},
		{404, "GET", "messengers/nobody", nil, "", "list"},
		{404, "GET", "messengers/nobody/tokens", nil, "", "list"},
		{404, "GET", "messengers/nobody/keys", nil, "", "list"},
		{404, "POST", "messengers/nobody/tokens/generate", `{}`, "", "list"},
		{404, "POST", "messengers/support/tokens/revoke", `{"kid":"2026-01-01-aaaaaa"}`, "", "no shared token"},
		{404, "POST", "messengers/support/tokens/burn", `{}`, "", ""},
		{404, "GET", "messengers/support/secrets", nil, "", ""},
		{404, "GET", "nothing", nil, "", ""},
		{404, "GET", "messengers/support/tokens/generate/more", nil, "", ""},
		{409, "POST", "messengers/support/tokens/rotate", `{}`, "", "generate"},
		{400, "POST", "messengers/acme/tokens/rotate", `{"overlap":"tomorrow"}`, "", ""},
		{400, "POST", "messengers/acme/tokens/rotate", `{"overlap":"-1s"}`, "", "overlap"},
		{409, "POST", "reseal", `{}`, "", "store { key"},
	} {
		t.Run(fmt.Sprintf("%d %s %.60s %.60v", c.status, c.method, c.path, c.body), func(t *testing.T) {
			o := &operator{t, o.sock}
			headers := []string{}
			if c.header != "" {
				headers = append(headers, c.header)
			}
			a := o.do(c.method, c.path, c.body, headers...)
			if c.path == "messengers/.." {
				if a.status == 200 || a.status == 201 {
					t.Errorf("got %d", a.status) // the server cleans such a path
				}
				return
			}
			if a.status != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("got %d %s, want %d and %q", a.status, a.body, c.status, c.says)
			}
		})
	}
	for path, allowed := range map[string]string{
		"messengers":                         "GET",
		"messengers/acme":                    "DELETE, GET, PUT",
		"messengers/acme/tokens":             "GET",
		"messengers/acme/tokens/generate":    "POST",
		"messengers/acme/keys":               "GET",
		"messengers/acme/refresh":            "POST",
		"messengers/acme/explain":            "POST",
		"messengers/support/tokens/generate": "POST",
		"reseal":                             "POST",
	} {
		a := o.do("PATCH", path, nil)
		if a.status != 405 || a.header.Get("Allow") != allowed {
			t.Errorf("PATCH %s: got %d, Allow: %s, want 405 and %s", path, a.status, a.header.Get("Allow"), allowed)
		}
	}
	if after := o.want(200, "GET", "messengers", nil).body; after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
}

// Every change is in the audit log, with its actor and its messenger. Changes that are refused are not.
func TestEveryChangeIsInTheAuditLog(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	o.put("acme", generated)
	first := o.generate("acme")
	second := o.makeToken("rotate", "acme", map[string]any{})
	third := o.makeToken("reset", "acme", map[string]any{})
	o.want(200, "POST", "messengers/acme/tokens/revoke", map[string]any{"kid": third.KID})
	o.refused(404, "POST", "messengers/acme/tokens/revoke", map[string]any{"kid": third.KID})
	o.refused(409, "POST", "messengers/acme/tokens/rotate", map[string]any{})
	o.want(200, "DELETE", "messengers/acme", nil)
	o.refused(404, "DELETE", "messengers/acme", nil)
	var got []string
	for line := range strings.SplitSeq(g.logs(), "\n") {
		var entry struct{ Logger, Msg, Messenger, By, KID string }
		if !strings.Contains(line, `"messenger.audit"`) {
			continue // such as what the configuration says
		}
		decode(t, line, &entry)
		if entry.Logger != "messenger.audit" || entry.Messenger != "acme" || entry.By != "admin API, unix socket" {
			t.Errorf("an audit line: %s", line)
		}
		got = append(got, strings.TrimSpace(entry.Msg+" "+entry.KID))
	}
	want := []string{
		"messenger created", "messenger changed", "shared token generated " + first.KID, "shared tokens rotated " + second.KID,
		"shared tokens reset " + third.KID, "shared token revoked " + third.KID, "messenger deleted",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A stored messenger with the name of a configured one has no effect: the trust settings of that name are in the configuration.
func TestTheConfigurationHasPrecedenceOverTheStore(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	stored := o.generate("acme")
	g.load(liveOptions+"\n messenger acme {\n identity_key identity\n shared_token\n }", liveSite)
	g.expect("503 keys_unavailable", "/m/acme/x", stored.signed())
	g.waitForLog("a stored messenger is ignored")
	configured := o.generate("acme")
	g.expect("200", "/m/acme/x", configured.signed())
	g.expect("401 signature_invalid", "/m/acme/x", stored.signed())
	g.load(liveOptions, liveSite)
	g.expect("200", "/m/acme/x", stored.signed())
	g.expect("401 signature_invalid", "/m/acme/x", configured.signed())
}
