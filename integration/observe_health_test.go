package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A health is the body of an answer of messenger_health.
type health struct {
	Status     string
	Messengers []struct{ Messenger, Source, Reason string }
	More       int
}

// health asks and returns the status and who is named, as "billing config key_set_not_fetched".
func (g *gateway) health(path string) (int, []string, health) {
	g.t.Helper()
	a := g.get(path)
	search.add("health", []byte(a.body))
	var h health
	decode(g.t, a.body, &h)
	if got := a.header.Get("Cache-Control") + " " + a.header.Get("Content-Type"); got != "no-store application/json" {
		g.t.Errorf("the header says %s", got)
	}
	if (h.Status == "ok") != (a.status == 200) || h.Status != "ok" && h.Status != "unavailable" {
		g.t.Errorf("status %d has the body %s", a.status, a.body)
	}
	named := []string{}
	for _, m := range h.Messengers {
		named = append(named, strings.Join([]string{m.Messenger, m.Source, m.Reason}, " "))
	}
	return a.status, named, h
}

// healthBecomes waits for an answer: it serves for a second.
func (g *gateway) healthBecomes(path string, status int, named ...string) {
	g.t.Helper()
	what := ""
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		gotStatus, gotNamed, _ := g.health(path)
		if gotStatus == status && slices.Equal(gotNamed, named) {
			return
		}
		what = fmt.Sprint(gotStatus, gotNamed)
	}
	g.t.Errorf("%s: got %s, want %d %v", path, what, status, named)
}

// A load balancer takes a node out that cannot decide, and puts it back when it can. It has no token.
func TestHealthReportsMessengersThatCannotDecide(t *testing.T) {
	if !alone(t) {
		return
	}
	keys := newKeyServer(t)
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	g := start(t, newUpstream(t), liveOptions+`
	messenger billing {
		identity_key identity
		jwks `+keys.url+` {
			stale_if_error 0
		}
	}
	messenger asleep {
		identity_key identity
		shared_token
		mode off
	}`, `
	messenger_health /healthz
	messenger_health /healthz/billing billing
	messenger_health /healthz/named support acme nobody
	messenger_auth {path.0}
	reverse_proxy UPSTREAM`)
	o := g.operator()
	noKeys, noToken := "billing config key_set_not_fetched", "support config no_shared_token"
	g.healthBecomes("/healthz", 503, noKeys, noToken)
	g.healthBecomes("/healthz/billing", 503, noKeys)
	g.healthBecomes("/healthz/named", 503, noToken, "acme stored messenger_unknown", "nobody stored messenger_unknown")
	token := o.generate("support")
	g.healthBecomes("/healthz", 503, noKeys)
	keys.publish(publicJWK(rsaKey(0), "k1"))
	o.want(200, "POST", "messengers/billing/refresh", map[string]any{})
	g.healthBecomes("/healthz", 200)
	g.healthBecomes("/healthz/billing", 200)

	// A site owner breaks their own messenger: it is seen, and the node stays for the others.
	o.put("acme", generated)
	g.expect("503 keys_unavailable", "/acme/", token.signed())
	g.healthBecomes("/healthz", 200, "acme stored no_shared_token")
	g.healthBecomes("/healthz/named", 503, "acme stored no_shared_token", "nobody stored messenger_unknown")
	o.generate("acme")
	g.healthBecomes("/healthz", 200)

	// A key set that is not to be trusted is none.
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	o.do("POST", "messengers/billing/refresh", map[string]any{"distrust": true})
	g.healthBecomes("/healthz/billing", 503, noKeys)
}

// While the store cannot be read, the gateway does not guess what it says: the health page reports the outage.
func TestHealthReportsAnUnreadableStore(t *testing.T) {
	if !alone(t) {
		return
	}
	g := newGateway(t, newUpstream(t), "http://")
	folder := t.TempDir()
	ring := filepath.Join(folder, "messenger", "support", "ring")
	if err := os.MkdirAll(filepath.Dir(ring), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ring, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	messengers := strings.Replace(liveOptions, "DIR/store", folder, 1)
	before := 0.0
	g.load(messengers, "messenger_health /healthz\nmessenger_auth support\nreverse_proxy UPSTREAM")
	g.healthBecomes("/healthz", 503, "support config store_unreadable")
	eventually(t, "the failure is a metric", func() bool {
		f := g.families()
		return f.value("store_failing") == 1 && f.value("store_errors_total") > before
	})
	if err := os.Remove(ring); err != nil {
		t.Fatal(err)
	}
	g.healthBecomes("/healthz", 503, "support config no_shared_token")
}

// Whoever asks gets an answer to GET and HEAD, with and without a token, however often, and the body has a bound.
func TestHealthIsForLoadBalancers(t *testing.T) {
	messengers := liveOptions
	for i := range 120 {
		messengers += fmt.Sprintf("\nmessenger m%03d {\n identity_key identity\n shared_token\n}", i)
	}
	g := start(t, newUpstream(t), messengers, "messenger_health /healthz\nmessenger_auth support\nreverse_proxy UPSTREAM")
	status, named, h := g.health("/healthz")
	if status != 503 || len(named) != 100 || h.More != 21 {
		t.Errorf("got %d, %d names and %d more", status, len(named), h.More)
	}
	head := g.do(http.MethodHead, "/healthz")
	if head.status != 503 || head.body != "" || head.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %+v", head)
	}
	if a := g.do(http.MethodPost, "/healthz"); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", a.status, a.header)
	}
	resp, err := plainClient.Post(g.url+"/healthz", "text/plain", io.LimitReader(strings.NewReader(strings.Repeat("x", 1<<20)), 1<<20))
	if err == nil {
		_ = resp.Body.Close()
	}
	if got := g.get("/other").code(t); got != "token_missing" {
		t.Errorf("beside the path of the health: %s", got)
	}
}

func TestHealthSettings(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"messenger_health /healthz Support", "must begin with a lower-case letter"},
		{"messenger_health /healthz a a", "named twice"},
		{"messenger_health /healthz {\n nonsense\n}", `unknown option "nonsense"`},
	} {
		if got := loadError(t, liveOptions, test.line); !strings.Contains(got, test.want) {
			t.Errorf("%s: got %s, want %q", test.line, got, test.want)
		}
	}
}
