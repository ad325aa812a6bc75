package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// clientSet are placeholders of which a client may be the author, or that no authenticator sets, in all spellings.
var clientSet = []string{
	"{vars.who}", "{http.vars.who}", "{http.vars.http.auth.user.id}", "{http.regexp.who.1}", "{re.who.1}", "{who}", "{my.output}", "{http.auth.candidate.id}", "{http.auth.candidate.email}",
	"{http.auth.basic.error}", "{http.auth}", "{http.auth.}", "{http.auth.user}", "{http.auth.user.}", "{HTTP.AUTH.USER.ID}", "{http.Auth.user.id}", "{http.auth.user.id }", "{ http.auth.user.id}",
	"{query.who}", "{http.request.uri.query.who}", "{cookie.who}", "{http.request.cookie.who}", "{http.request.uri}", "{http.request.uri.path}", "{http.request.host}", "{http.request.body}",
	"{http.request.remote.host}", "{http.request.orig_uri.path}", "{http.request.method}", "{http.messenger_auth.identity}", "{http.messenger_auth.claim.role}", "{http.error.message}",
	"{http.matchers.file.relative}", "{http.shutting_down}", "{http.request.tls.client.certificate_pem}", "{http.request.tls.client.issuer}", "{http.request.tls.client.san.}",
	"{http.request.tls.client.}", "{http.request.tls.server_name}", "{tls_client_issuer}", "{http.reverse_proxy.header.}", "{http.reverse_proxy.header.remote-user}",
	"{http.reverse_proxy.status_code}", "{http.reverse_proxy.upstream.host}", "{env.USER}", "{system.hostname}", "{time.now}", "{file./etc/hostname}", "{unknown}", "{http.intercept.header.X}",
}

// A client writes what these placeholders hold: it would be any operator, and the owner of any messenger.
func TestPanelAcceptsNamesFromAuthenticatorsOnly(t *testing.T) {
	for _, placeholder := range clientSet {
		for _, site := range []string{
			"messenger_panel {\nuser " + quoteToken(placeholder) + "\n}",
			"messenger_panel " + quoteToken(placeholder),
			"messenger_panel " + quoteToken("team-"+placeholder),
			"messenger_panel " + quoteToken("{http.auth.user.id}"+placeholder+"x"),
		} {
			got := loadError(t, "", site)
			for _, want := range []string{"messenger_panel: ", "Caddyfile:", "{http.auth.user.id}", "{http.reverse_proxy.header.<name>}", "{http.request.tls.client.<field>}"} {
				if !strings.Contains(got, want) {
					t.Errorf("%s\nthe error does not say %s: %s", site, want, got)
				}
			}
			if option := map[bool]string{true: "user ", false: "messenger "}[strings.Contains(site, "user `")]; !strings.Contains(got, option) {
				t.Errorf("%s\nthe error does not name the option: %s", site, got)
			}
		}
	}
	for _, text := range []string{"a{vars.x}", "{vars.x}a", "{http.auth.user.id}a", "{http.auth.user.id}{http.auth.user.id}", "{{http.auth.user.id}}", "{http.auth.user.{vars.x}}", `\{http.auth.user.id}`,
		`{http.auth.user.id\}`, "{http.auth.user.id", "http.auth.user.id}", "{}", " {http.auth.user.id}", "{http.auth.user.id}?", "root"} {
		if got := loadError(t, "", "messenger_panel {\nuser "+quoteToken(text)+"\n}"); !strings.Contains(got, "is not exactly one placeholder; use {http.auth.user.id}") {
			t.Errorf("user %s: %s", text, got)
		}
	}
	for _, text := range []string{"{{http.auth.user.id}}", "{http.auth.user.{vars.x}}", `\{http.auth.user.id}`, `{http.auth.user.id\}`, "{http.auth.user.id", "a}", "{}", "a{http.auth.user.id}}"} {
		if got := loadError(t, "", "messenger_panel "+quoteToken(text)); !strings.Contains(got, "messenger_panel: messenger ") {
			t.Errorf("messenger %s: %s", text, got)
		}
	}
	// Configurations in JSON pass no adapter.
	for _, panel := range []map[string]any{
		{"handler": "messenger_panel", "user": "{http.vars.who}"}, {"handler": "messenger_panel", "messengers": []string{"{http.vars.who}"}}, {"handler": "messenger_panel", "user": "{query.who}"},
	} {
		config := mustJSON(map[string]any{"admin": map[string]any{"disabled": true}, "apps": map[string]any{"http": map[string]any{"servers": map[string]any{
			"s": map[string]any{"listen": []string{freeAddr(t)}, "routes": []any{map[string]any{"handle": []any{panel}}}}}}}})
		if err := caddy.Validate(mustConfig(t, json.RawMessage(config))); err == nil || !strings.Contains(err.Error(), "use {http.") {
			t.Errorf("%v: %v", panel, err)
		}
	}
}

func quoteToken(text string) string { return "`" + text + "`" }

// What authenticators set is taken, alone and as a part of a messenger's name.
func TestPanelAcceptsNamesOfAuthenticators(t *testing.T) {
	for _, site := range []string{
		"messenger_panel {\nuser {http.auth.user.id}\n}", "messenger_panel {\nuser {http.auth.user.email}\n}", "messenger_panel {\nuser {header.Remote-User}\n}",
		"messenger_panel {\nuser {http.reverse_proxy.header.Remote-User}\n}", "messenger_panel {\nuser {tls_client_subject}\n}", "messenger_panel {\nuser {http.request.tls.client.san.emails.0}\n}",
		"messenger_panel {http.auth.user.id}", "messenger_panel {labels.2} {path.0}", "messenger_panel team-{http.auth.user.id}-{labels.0}", "messenger_panel {http.request.tls.client.serial}",
	} {
		config, err := adapt(":1234 {\n" + site + "\n}")
		if err == nil {
			err = caddy.Validate(mustConfig(t, config))
		}
		if err != nil {
			t.Errorf("%s: %v", site, err)
		}
	}
}

// The operator's configuration hands what a client sends to a placeholder that usually is an authenticator's. The panel
// sees that nothing authenticated it.
func TestForgedAuthenticatorPlaceholderIsNotLoggedIn(t *testing.T) {
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Cookie") {
		case "session=alice":
			w.Header().Set("Remote-User", "alice")
		case "session=two":
			w.Header()["Remote-User"] = []string{"alice", "root"}
		case "session=spaces":
			w.Header().Set("Remote-User", "a\u202elice")
		}
	}))
	defer login.Close()
	forward := "forward_auth " + strings.TrimPrefix(login.URL, "http://") + " {\nuri /verify\ncopy_headers Remote-User\n}\n"
	basic := "basic_auth bcrypt {\noperator " + panelHash + "\n}\n"
	header := "messenger_panel {\nuser {header.Remote-User}\n}"
	proxied := "messenger_panel {\nuser {http.reverse_proxy.header.Remote-User}\n}"
	for _, test := range []struct {
		name, site, cookie, user, says string
	}{
		{"map to the user's ID", "map {query.who} {http.auth.user.id} {\n~(.*) ${1}\n}\nmessenger_panel", "", "", ""},
		{"map to the user's ID, behind an optional messenger_auth", "map {query.who} {http.auth.user.id} {\n~(.*) ${1}\n}\nmessenger_auth support {\nmode optional\n}\nmessenger_panel", "", "", ""},
		{"map to the scope", "map {query.who} {http.auth.user.id} {\n~(.*) ${1}\n}\nmessenger_panel {http.auth.user.id}", "", "", ""},
		{"map beside an authentication", "map {query.who} {http.auth.user.id} {\n~(.*) ${1}\n}\n" + basic + "messenger_panel", "", "operator", "Signed in as operator"},
		{"vars to the user's ID", "route {\nvars http.auth.user.id {query.who}\nmessenger_panel\n}", "", "", ""},
		{"vars after an authentication", "route {\n" + basic + "vars http.auth.user.id {query.who}\nmessenger_panel\n}", "", "operator", ""},
		{"map to an answer's header", "map {query.who} {http.reverse_proxy.header.Remote-User} {\n~(.*) ${1}\n}\n" + proxied, "", "", ""},
		{"map to a header and its answer", "map {query.who} {http.reverse_proxy.header.Remote-User} {\n~(.*) ${1}\n}\n" + header, "", "", ""},
		{"request_header to the header", "route {\nrequest_header Remote-User {query.who}\n" + header + "\n}", "", "", ""},
		{"request_header after forward_auth", "route {\n" + forward + "request_header Remote-User {query.who}\n" + header + "\n}", "session=alice", "", ""},
		{"a second value after forward_auth", "route {\n" + forward + "request_header +Remote-User {query.who}\n" + header + "\n}", "session=alice", "", ""},
		{"forward_auth", forward + header, "session=alice", "", "Signed in as alice"},
		{"two names in an answer", forward + header, "session=two", "", ""},
		{"two names in an answer, asked directly", forward + proxied, "session=two", "", ""},
		{"a name that reorders text", forward + proxied, "session=spaces", "", ""},
		{"an alias of the header", forward + "messenger_panel {\nuser {header.Remote_User}\n}", "session=alice", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, nil, "messenger support {\nidentity_key identity\nshared_token\n}", test.site)
			a := panelUser{g, "/", test.user}.get("?who=root", "Remote-User: root", "Remote_User: root", "Remote.User: root", "Cookie: "+test.cookie)
			if test.says == "" {
				a.says(t, 403)
			} else {
				a.says(t, 200, test.says)
			}
		})
	}
}

// The matchers of routes read /acme/../other/ as /other/, to whose owner it leads; the placeholder read it as acme. A path
// with two readings names no messenger.
func TestOwnerByPathCannotAccessOtherMessengers(t *testing.T) {
	if !alone(t) {
		return
	}
	site := ""
	for _, name := range []string{"acme", "other"} {
		site += "handle /" + name + "/* {\nbasic_auth bcrypt {\n" + name + " " + panelHash + "\n}\nmessenger_panel {path.0}\n}\n"
	}
	g := start(t, nil, "messenger acme {\nidentity_key identity\nshared_token\n}\nmessenger other {\nidentity_key identity\nshared_token\n}", site)
	panelUser{g, "/other/", "other"}.get("").says(t, 200, "other")
	panelUser{g, "/other/x", "other"}.get("?messenger=other").says(t, 200, "other")
	for i, path := range []string{"/acme/../other/", "/acme/%2e%2e/other/", "/acme/.%2E/other/x", "/acme//../../other/", "/acme%2f..%2fother/", "/./other/", "//other/", "/acme/..%5cother/", "/other/%252e/", "/other/..%5c"} {
		if !sampled(i) {
			continue
		}
		a := panelUser{g, path, "other"}.get("?messenger=acme")
		if a.status == 200 || strings.Contains(a.text(), "Shared token") {
			t.Errorf("%s: %d %s", path, a.status, a.text())
		}
	}
}
