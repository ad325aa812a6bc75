package integration

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// recipeBlock returns the first fenced block of a language in a recipe of the documentation.
func recipeBlock(t testing.TB, heading, language string) string {
	t.Helper()
	return docsBlock(t, "recipes", heading, language)
}

// A kitchen runs the Caddyfiles of the recipes, one after the other, as the page has them but for addresses and files.
type kitchen struct {
	*gateway
	up  *upstream
	dir string
	pem string
}

func newKitchen(t *testing.T) *kitchen {
	t.Helper()
	up := newUpstream(t)
	return &kitchen{newGateway(t, up, "http://"), up, gatewayFolder(t), write(t, "support.pem", publicPEM(rsaKey(0)))}
}

// cook loads the Caddyfile of a recipe, with pairs of what is replaced in it.
func (k *kitchen) cook(t *testing.T, heading string, replaced ...string) {
	t.Helper()
	k.loadText(t, recipeBlock(t, heading, "caddyfile"), replaced...)
}

func (k *kitchen) loadText(t *testing.T, text string, replaced ...string) {
	t.Helper()
	text = strings.NewReplacer(append(replaced,
		"/etc/caddy/support.pem", k.pem,
		"chat.example.com", k.url, "www.example.com {", k.url+" {", "trial.example.com", k.url,
		"chat-backend:9000", k.up.addr,
	)...).Replace(text)
	if !strings.Contains(text, "admin unix/") {
		text = strings.Replace(text, "{\n", "{\n\tadmin unix/"+k.sock+"\n", 1)
	}
	text = strings.Replace(text, "{\n", "{\n\tstorage file_system "+filepath.Join(k.dir, "storage")+"\n\tlog default {\n\t\toutput file "+k.log+"\n\t}\n", 1)
	config, err := adapt(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	k.replace(config)
}

// says checks an answer: its status, and a text of its body.
func (k *kitchen) says(t *testing.T, a answer, status int, text string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, text) {
		t.Errorf("got %d %q, want %d with %q", a.status, a.body, status, text)
	}
}

// identity checks that one request reached the backend, as the contact.
func (k *kitchen) identity(t *testing.T, want string) {
	t.Helper()
	if h := k.up.one(t).header; h.Get("X-Contact-Identity") != want || h.Get("X-Contact-Messenger") != "support" {
		t.Errorf("the backend was told %q of %q, want %s of support", h.Get("X-Contact-Identity"), h.Get("X-Contact-Messenger"), want)
	}
}

// The recipes in one Caddyfile do what the page says, and what it warns about is so.
func TestDocsRecipes(t *testing.T) {
	if !alone(t) {
		return
	}
	k, token := newKitchen(t), sign(rsaKey(0), valid("mark"))
	t.Run("a single-page application", func(t *testing.T) { k.application(t, token) })
	t.Run("a page on another origin", func(t *testing.T) { k.otherOrigin(t, token) })
	t.Run("a password in front of a trial", func(t *testing.T) { k.password(t, token) })
	t.Run("one named route for several sites", func(t *testing.T) { k.namedRoute(t, token) })
	t.Run("metrics beside the chat", func(t *testing.T) { k.metrics(t, token) })
	t.Run("behind nginx", func(t *testing.T) { k.behindNginx(t, token) })
}

// application serves the page for every unknown path but those of the API, and shows what happens without handle blocks.
func (k *kitchen) application(t *testing.T, token string) {
	if err := os.WriteFile(filepath.Join(k.dir, "index.html"), []byte("<!doctype html>the page"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.cook(t, "A single-page application", "/srv/www", k.dir)
	k.says(t, k.get("/api/hello"), 401, "token_missing")
	k.says(t, k.get("/api/hello", bearer(token)), 200, "")
	k.identity(t, "mark")
	k.says(t, k.get("/any/path"), 200, "the page")

	options, _, _ := strings.Cut(recipeBlock(t, "A single-page application", "caddyfile"), "\nwww.example.com")
	k.loadText(t, options+"\nwww.example.com {\n root * "+k.dir+"\n try_files {path} /index.html\n messenger_auth /api/* support\n reverse_proxy /api/* chat-backend:9000\n file_server\n}\n")
	k.says(t, k.get("/api/hello"), 200, "the page")
	k.up.none(t)
}

// otherOrigin sends what a browser sends for a page of another origin.
func (k *kitchen) otherOrigin(t *testing.T, token string) {
	k.cook(t, "A page on another origin", "https://www.example.com", "https://www.example.com")
	preflight := []string{"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"}
	a := k.do("OPTIONS", "/hello", append(preflight, "Origin: https://www.example.com")...)
	if k.says(t, a, 204, ""); a.header.Get("Access-Control-Allow-Origin") != "https://www.example.com" {
		t.Errorf("the preflight has %v", a.header)
	}
	k.says(t, k.do("OPTIONS", "/hello", append(preflight, "Origin: https://evil.example.com")...), 403, "origin_not_allowed")
	a = k.get("/hello", bearer(token), "Origin: https://www.example.com")
	if k.identity(t, "mark"); a.header.Get("Access-Control-Allow-Origin") != "https://www.example.com" || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
		t.Errorf("the answer has %v", a.header)
	}
	a = k.get("/", "Sec-WebSocket-Protocol: chat.v1, jwt, "+token, "Connection: Upgrade", "Upgrade: websocket", "Origin: https://evil.example.com")
	k.says(t, a, 403, "origin_not_allowed")
}

// password sends a password, a token, and both.
func (k *kitchen) password(t *testing.T, token string) {
	t.Setenv("TEAM_PASSWORD_HASH", panelHash)
	k.cook(t, "A password in front of a trial")
	password := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("team:"+panelPassword))
	k.says(t, k.get("/", password), 401, "token_missing")
	k.says(t, k.get("/", "X-Chat-Token: "+token), 401, "")
	k.up.none(t)
	k.says(t, k.get("/", password, "X-Chat-Token: "+token), 200, "")
	k.identity(t, "mark")
}

// namedRoute asks both sites.
func (k *kitchen) namedRoute(t *testing.T, token string) {
	other := "http://localhost" + k.addr[strings.LastIndexByte(k.addr, ':'):]
	k.cook(t, "One named route for several sites", "chat.example.net", other)
	for _, host := range []string{"127.0.0.1", "localhost"} {
		a := k.sendRequest(plainClient, "GET", "/", func(r *http.Request) { r.Host = host; r.Header.Set("Authorization", "Bearer "+token) })
		k.says(t, a, 200, "")
		k.identity(t, "mark")
		k.says(t, k.sendRequest(plainClient, "GET", "/", func(r *http.Request) { r.Host = host }), 401, "token_missing")
	}
	config, err := adapt(recipeBlock(t, "One named route for several sites", "caddyfile"))
	if n := strings.Count(string(config), "messenger_auth"); err != nil || n != 1 {
		t.Errorf("messenger_auth is in the JSON %d times (%v), want once", n, err)
	}
}

// metrics asks for metrics at their own address, and at that of the chat.
func (k *kitchen) metrics(t *testing.T, token string) {
	addr := freeAddr(t)
	k.cook(t, "Metrics beside the chat", "10.0.0.5", "127.0.0.1", ":9180", addr[strings.LastIndexByte(addr, ':'):])
	k.says(t, k.get("/metrics"), 401, "token_missing")
	other := *k.gateway
	other.url = "http://" + addr
	k.says(t, other.get("/metrics"), 200, "messenger_auth_requests_total")

	text := recipeBlock(t, "Metrics beside the chat", "caddyfile")
	text, _, _ = strings.Cut(text, "\nhttp://")
	k.loadText(t, strings.Replace(text, "\tmessenger_auth support\n", "\tmessenger_auth support\n\tmetrics /metrics\n", 1))
	k.says(t, k.get("/metrics"), 401, "token_missing")
	k.says(t, k.get("/metrics", bearer(token)), 200, "messenger_auth_requests_total")
}

// behindNginx runs nginx as the page configures it, in front of the gateway.
func (k *kitchen) behindNginx(t *testing.T, token string) {
	const heading = "Behind nginx, Traefik or a cloud load balancer"
	front := startNginx(t, recipeBlock(t, heading, "nginx"), k.addr)
	// The client has another address than the proxy, which alone is trusted.
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	dial := func(origin string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, resp, err := websocket.Dial(ctx, "wss://"+front, &websocket.DialOptions{HTTPClient: client,
			HTTPHeader: http.Header{"Origin": {origin}, "Cookie": {"chat=" + token}}})
		if err != nil {
			return fmt.Errorf("%w: %v", err, resp)
		}
		defer conn.CloseNow()
		echo(t, conn)
		return nil
	}
	trusted := []string{"http://chat.example.com", k.url, "10.0.0.0/8", "127.0.0.1/32"}
	k.cook(t, heading, trusted...)
	if err := dial("https://" + front); err != nil {
		t.Errorf("a WebSocket of the gateway's own page: %v", err)
	}
	k.identity(t, "mark")
	if dial("https://evil.example.com") == nil || dial("http://"+front) == nil {
		t.Error("a page of another origin has opened a WebSocket with the contact's cookie")
	}
	k.up.none(t)
	forge := func() (status int) {
		for i := range 25 {
			r, err := http.NewRequest("GET", "https://"+front+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"X-Forwarded-For": {fmt.Sprintf("192.0.2.%d", i)}, "Authorization": {"Bearer " + sign(rsaKey(1), valid("eve"))}}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			status = resp.StatusCode
		}
		return status
	}
	if got := forge(); got != http.StatusTooManyRequests {
		t.Errorf("the last forged token of a client that makes up its address: got %d, want 429", got)
	}
	k.cook(t, heading, append(trusted, "\t\ttrusted_proxies_strict\n", "")...)
	if got := forge(); got != http.StatusUnauthorized {
		t.Errorf("without trusted_proxies_strict: got %d, want 401", got)
	}
	text := recipeBlock(t, heading, "caddyfile")
	k.loadText(t, strings.Replace(text, "\t\ttrusted_proxies static 10.0.0.0/8\n\t\ttrusted_proxies_strict\n", "\t\tenable_full_duplex\n", 1), trusted...)
	if dial("https://"+front) == nil {
		t.Error("without trusted_proxies a WebSocket of the https page is opened")
	}
	k.up.none(t)
}

// startNginx runs nginx with a server of the documentation, on a free port and with the gateway at addr behind it.
func startNginx(t *testing.T, server, addr string) (front string) {
	t.Helper()
	program, dir, front := requireTool(t, "nginx"), t.TempDir(), freeAddr(t)
	files := strings.Fields(siteCertificate(t))
	server = strings.NewReplacer("listen 443 ssl", "listen "+front+" ssl", "/etc/nginx/chat.crt", files[1], "/etc/nginx/chat.key", files[2],
		"http://10.0.0.5:80", "http://"+addr).Replace(server)
	config := filepath.Join(dir, "nginx.conf")
	text := "daemon off;\nmaster_process off;\npid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += kind + "_temp_path " + filepath.Join(dir, kind) + ";\n"
	}
	writeSample(t, config, text+server+"}\n")
	serveProgram(t, front, exec.Command(program, "-c", config, "-p", dir, "-e", "stderr"))
	return front
}
