package integration

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The documentation tells operators what a reload does to conversations: it ends them with 1001, unless the proxy waits.
func TestReloadAndOpenWebSockets(t *testing.T) {
	for name, test := range map[string]struct {
		option   string
		survives bool
	}{"as Caddy is": {"", false}, "with stream_close_delay": {"stream_close_delay 5m", true}} {
		t.Run(name, func(t *testing.T) {
			m, up := methods(t)[0], newUpstream(t)
			site := "messenger_auth support {\n token_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM {\n" + test.option + "\n}"
			g := start(t, up, m.messengers, site)
			conn, err := websocketDial(t, g, sign(m.key, valid("mark")))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			echo(t, conn)
			g.load(m.messengers, site+"\nheader X-Version 2")
			if test.survives {
				echo(t, conn)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("got %v, want the close code 1001", err)
			}
		})
	}
}

// forward_auth copies headers of an answer into the request. A service that answers with an identity header, of its own or
// of an attacker's making, does not speak for the gateway (CVE-2026-30851 was the same header left in).
func TestForwardAuthCannotSetTheIdentity(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Contact-Identity", "eve")
		w.Header().Set("X-Contact-Messenger", "sales")
		w.Header().Set("Remote-User", "operator")
	}))
	defer service.Close()
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, `
		reverse_proxy UPSTREAM
		messenger_auth support {
			mode optional
		}
		forward_auth `+strings.TrimPrefix(service.URL, "http://")+` {
			uri /
			copy_headers X-Contact-Identity X-Contact-Messenger Remote-User
		}
	`)
	for want, lines := range map[string][]string{"": nil, "mark": {bearer(sign(m.key, valid("mark")))}} {
		g.get("/", lines...)
		h := up.one(t).header
		if got := h.Get("X-Contact-Identity"); got != want || h.Get("Remote-User") != "operator" {
			t.Errorf("the upstream saw the identity %q and the user %q, want %q", got, h.Get("Remote-User"), want)
		}
		if got := h.Get("X-Contact-Messenger"); got != map[bool]string{true: "support"}[want != ""] {
			t.Errorf("the upstream saw the messenger %q", got)
		}
	}
}

// Directives that run in front of the gateway see no contact, and in a route behind it they do, as documented.
func TestOrderOfDirectives(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	const proxy = "reverse_proxy UPSTREAM {\n header_up X-Seen {vars.contact}\n}\n"
	for _, test := range []struct{ name, site, seen, identity string }{
		{"vars run in front", "messenger_auth support\nvars contact \"<{http.auth.user.id}>\"\n" + proxy, "<>", "mark"},
		{"vars behind in a route", "route {\nmessenger_auth support\nvars contact \"<{http.auth.user.id}>\"\n" + proxy + "}", "<mark>", "mark"},
		{"request_header runs behind", "request_header X-Contact-Identity changed\nvars contact nobody\nmessenger_auth support\n" + proxy, "nobody", "changed"},
	} {
		g := start(t, up, m.messengers, test.site)
		g.get("/", bearer(sign(m.key, valid("mark"))))
		h := up.one(t).header
		if got := h.Get("X-Seen"); got != test.seen {
			t.Errorf("%s: the upstream was told %q, want %q", test.name, got, test.seen)
		}
		if got := h.Get("X-Contact-Identity"); got != test.identity {
			t.Errorf("%s: the identity arrives as %q, want %q", test.name, got, test.identity)
		}
	}
}

// The access log of Caddy names the contact, unless an authenticator of the operator names a user. The upstream gets the contact in
// any case.
func TestAccessLogUserWithAnotherAuthenticator(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	const ours, theirs = "messenger_auth support {\n token_from cookie chat\n}\n", "basic_auth bcrypt {\n operator " + panelHash + "\n}\n"
	const proxy = "reverse_proxy UPSTREAM {\n header_up X-User {http.auth.user.id}\n}\n"
	for _, test := range []struct{ name, site, user string }{
		{"alone", ours + proxy, "mark"},
		{"in front of the gateway", "route {\n" + theirs + ours + proxy + "}", "operator"},
		{"behind the gateway", "route {\n" + ours + theirs + proxy + "}", "operator"},
	} {
		g := start(t, up, m.messengers, test.site)
		g.get("/", "Cookie: chat="+sign(m.key, valid("mark")), "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("operator:"+panelPassword)))
		h := up.one(t).header
		if h.Get("X-User") != test.user || h.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%s: the upstream saw the user %q and the identity %q, want %q and mark", test.name, h.Get("X-User"), h.Get("X-Contact-Identity"), test.user)
		}
		g.waitForLog(`"user_id":"` + test.user + `"`)
	}
}

// In requests that are not verified the gateway removes only the headers that clients must not send, and no token.
func TestTokensOfUnverifiedRequestsAreKept(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "@nothing path /nothing\nhandle /off* {\nmessenger_auth support {\nmode off\ntoken_from query token\ntoken_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM\n}\n"+
		"handle {\nmessenger_auth @nothing support {\ntoken_from query token\ntoken_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM\n}")
	token := sign(m.key, valid("mark"))
	for _, path := range []string{"/off", "/unmatched"} {
		g.get(path+"?token="+token, bearer(token))
		if r := up.one(t); r.uri != path+"?token="+token || r.header.Get("Authorization") != "Bearer "+token || len(ownHeaders(r.header)) != 0 {
			t.Errorf("%s: the upstream saw %s %v", path, r.uri, r.header)
		}
	}
}

// An answer to HEAD has the headers of the answer to GET, and no body (RFC 9110 section 9.3.2).
func TestRefusalOfHEAD(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
	get, head := g.get("/"), g.do(http.MethodHead, "/")
	if head.status != 401 || head.body != "" {
		t.Errorf("got %d with the body %q, want 401 without one", head.status, head.body)
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Www-Authenticate", "Cache-Control"} {
		if got, want := head.header.Get(name), get.header.Get(name); got != want || want == "" {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	up.none(t)
}

// The documented Dockerfile builds with the Go of go.mod, and takes along all that the build needs.
func TestDocsDockerfile(t *testing.T) {
	dockerfile := docsBlocks(t, "dockerfile")[0]
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)[1]
	if !strings.Contains(dockerfile, "FROM golang:"+string(version)+" ") {
		t.Errorf("it does not build with Go %s", version)
	}
	copied := make(map[string]bool)
	for _, line := range regexp.MustCompile(`(?m)^COPY ([a-z].*) \./\S*$`).FindAllStringSubmatch(dockerfile, -1) {
		for _, name := range strings.Fields(line[1]) {
			copied[name] = true
			if _, err := os.Stat("../" + name); err != nil {
				t.Errorf("it copies %s: %v", name, err)
			}
		}
	}
	for _, needed := range []string{"go.mod", "go.sum", "plugin.go", "xcaddy.sh", "caddymodule"} {
		if !copied[needed] {
			t.Errorf("it does not copy %s", needed)
		}
	}
}
