package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// startEverything runs a gateway in which all happens that there are metrics for.
func startEverything(t *testing.T) (g *gateway, secret string) {
	t.Helper()
	up := newUpstream(t)
	keys := newKeyServer(t, publicJWK(rsaKey(0), "k1"))
	secret = newSecret()
	g = start(t, up, liveOptions+"\nmessenger sales {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}\n"+
		"messenger billing {\n identity_key identity\n jwks "+keys.url+"\n}\n", `
	messenger_health /healthz
	messenger_auth {path.0} {
		claim_header name X-Contact-Name
	}
	reverse_proxy UPSTREAM`)
	o := g.operator()
	o.put("acme", generated)
	tokens := map[string]string{"support": o.generate("support").signed(), "acme": o.generate("acme").signed(), "sales": sign(secret, valid("mark"))}
	eventually(t, "the key set is there", func() bool { return g.verdict("/billing/", signWithKID(rsaKey(0), "k1", valid("mark"))) == "200" })
	for name, token := range tokens {
		g.expect("200", "/"+name+"/", token)
		g.expect("401 signature_invalid", "/"+name+"/", sign(newSecret(), valid("mark")))
	}
	g.expect("404 messenger_unknown", "/nobody/", tokens["sales"])
	g.expect("200", "/sales/", sign(secret, with(valid("mark"), claims{"name": strings.Repeat("x", 2000)})))
	conn := g.openChat("/sales/chat", tokens["sales"])
	if got := g.families().value("connections", `messenger="sales"`); got != 1 {
		t.Errorf("%v connections of sales are open, want 1", got)
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	ended := g.openChat("/acme/chat", tokens["acme"])
	o.want(200, "POST", "connections/end", map[string]any{"messenger": "acme"})
	_, _, err := ended.Read(t.Context())
	if websocket.CloseStatus(err) != 4403 {
		t.Errorf("the connection that was ended: %v", err)
	}
	eventually(t, "both ends are counted", func() bool {
		f := g.families()
		return f.value("connections_ended_total", `messenger="sales"`, `reason="closed"`) >= 1 &&
			f.value("connections_ended_total", `messenger="stored"`, `reason="token_revoked"`) >= 1 && f.value("connections") == 0
	})
	eventually(t, "the store was polled", func() bool { return g.families()[metricPrefix+"store_age_seconds"] != nil })
	return g, secret
}

// An operator builds alerts on the table. Every metric of it is there, with its type, its unit and its labels, and there
// is no other.
func TestDocsMetricsMatchTheGateway(t *testing.T) {
	g, _ := startEverything(t)
	for _, complaint := range g.families().check(documentedMetrics(t), true) {
		t.Error(complaint)
	}
}

// What the figures say is what happened.
func TestMetricsMatchTheRequests(t *testing.T) {
	g, secret := startEverything(t)
	before := g.families()
	token := sign(secret, valid("eve"))
	for range 200 {
		g.expect("200", "/sales/", token)
	}
	after := g.families()
	grew := func(name string, pairs ...string) float64 {
		return after.value(name, pairs...) - before.value(name, pairs...)
	}
	if got := grew("requests_total", `code="verified"`, `messenger="sales"`, `method="shared_token"`, `mode="required"`); got != 200 {
		t.Errorf("%v of 200 requests are counted", got)
	}
	if hits, misses := grew("cache_hits_total"), grew("cache_misses_total"); hits != 199 || misses != 1 {
		t.Errorf("%v hits and %v misses, want 199 and 1", hits, misses)
	}
	if got := grew("verification_seconds", `cache="miss"`, `method="shared_token"`); got != 1 {
		t.Errorf("%v verifications are timed, want 1", got)
	}
	if got := grew("verification_seconds", `cache="hit"`); got < 1 || got > 60 {
		t.Errorf("%v of 199 hits are timed, want about one in 16", got)
	}
	for name, want := range map[string]float64{"jwks_keys": 1, "jwks_stale": 0, "store_failing": 0} {
		if got := after.value(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := after.value("jwks_fetches_total", `messenger="billing"`, `outcome="changed"`); got < 1 {
		t.Errorf("%v fetches of the key set are counted", got)
	}
	if got := after.value("shared_token_end_seconds", `messenger="support"`); got < 1e300 {
		t.Errorf("a shared token without an end ends in %v s", got)
	}
	// The newest token is revoked, and the one that is left expires in an hour.
	o := g.operator()
	kid := o.makeToken("rotate", "support", map[string]any{"overlap": "1h"}).KID
	o.want(200, "POST", "messengers/support/tokens/revoke", map[string]any{"kid": kid})
	if got := g.families().value("shared_token_end_seconds", `messenger="support"`); got < 3000 || got > 3600 {
		t.Errorf("a shared token that ends in an hour ends in %v s", got)
	}
}

// The one figure that must not wait for its metric: a key server that has gone is seen at once, and told from one that
// sends nonsense.
func TestFailingKeyServersAreInTheMetrics(t *testing.T) {
	keys := newKeyServer(t, publicJWK(rsaKey(0), "k1"))
	g := start(t, newUpstream(t), "messenger billing {\n identity_key identity\n jwks "+keys.url+"\n}", "messenger_auth\nreverse_proxy UPSTREAM")
	eventually(t, "the key set is there", func() bool { return g.verdict("/", signWithKID(rsaKey(0), "k1", valid("mark"))) == "200" })
	for outcome, behaviour := range map[string]http.HandlerFunc{
		"refused":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"unusable":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") },
		"unreachable": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		keys.behave(behaviour)
		before := g.families()
		g.operator().do("POST", "messengers/billing/refresh", map[string]any{})
		eventually(t, outcome+" is counted", func() bool {
			return g.families().value("jwks_fetches_total", `outcome="`+outcome+`"`) > before.value("jwks_fetches_total", `outcome="`+outcome+`"`)
		})
	}
	keys.publish(publicJWK(rsaKey(0), "k1"))
	before := g.families()
	g.operator().want(200, "POST", "messengers/billing/refresh", map[string]any{})
	eventually(t, "the same set is no change", func() bool {
		return g.families().value("jwks_fetches_total", `outcome="unchanged"`) > before.value("jwks_fetches_total", `outcome="unchanged"`)
	})
}

// Gateways are reloaded by scripts. Rates and alerts are worth nothing if a reload sets a counter back, and Prometheus
// takes nothing at all if a series is there twice.
func TestMetricsSurviveReloads(t *testing.T) {
	if !alone(t) {
		return
	}
	g, secret := startEverything(t)
	token := sign(secret, valid("mark"))
	config, err := g.adminClient().Get("http://caddy/config/")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(config.Body)
	_ = config.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	before, refused := g.families().series(), 0
	for n := range soak(400) {
		g.replace(text)
		if n%4 == 0 {
			refused++
			g.expect("200", "/sales/", token)
			g.expect("401 token_malformed", "/sales/", "x")
		}
		after := g.families().series()
		for series, value := range before {
			now, there := after[series]
			if !there && !strings.Contains(series, "stored") && !strings.Contains(series, "_age_") {
				t.Errorf("after reload %d: %s is gone", n, series)
			}
			if there && now < value {
				t.Errorf("after reload %d: %s went from %v to %v", n, series, value, now)
			}
		}
		if t.Failed() {
			return
		}
		before = after
	}
	if got := g.families().value("readiness_requests", `messenger="sales"`, `window="1h"`, `code="token_malformed"`); got < float64(refused) {
		t.Errorf("the meter has %v of the %d refusals between reloads", got, refused)
	}
}

// A client that can add series can fill the memory of the gateway and of Prometheus. Names, key IDs, identities, claims,
// paths and codes that clients make up add no series.
func TestRandomNamesAddNoSeries(t *testing.T) {
	if !alone(t) {
		return
	}
	g, secret := startEverything(t)
	flood := func(n int) {
		for i := range n {
			name := fmt.Sprintf("nobody-%d", i)
			g.expect("404 messenger_unknown", "/"+name+"/", sign(secret, valid(name)))
			g.expect("200", "/sales/"+name, sign(secret, with(valid(name), claims{"name": name, "jti": name, name: name})))
			g.expect("401 signature_invalid", "/sales/", signWithKID(newSecret(), name, valid(name)))
			g.get("/sales/?token="+name, "Authorization: "+name)
		}
	}
	flood(1)
	before := g.families().series()
	flood(500)
	for series := range g.families().series() {
		if _, there := before[series]; !there {
			t.Errorf("there is a new series: %s", series)
		}
	}
}

// A site owner may call a stored messenger as an operator calls a configured one, or a label.
func TestMessengerMayBeNamedStored(t *testing.T) {
	secret := newSecret()
	g := start(t, newUpstream(t), liveOptions+"\nmessenger stored {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}\n", liveSite)
	o := g.operator()
	o.put("acme", generated)
	o.generate("support")
	token := o.generate("acme").signed()
	g.expect("200", "/m/stored/", sign(secret, valid("mark")))
	g.expect("200", "/m/acme/", token)
	if got := g.families().value("readiness_requests", `messenger="stored"`, `window="24h"`, `code="verified"`); got != 2 {
		t.Errorf("the label that two share has %v requests, want 2", got)
	}
}

// A guarded connection ends for the reason that is counted.
func TestEndsOfConnectionsAreCountedByReason(t *testing.T) {
	if !alone(t) {
		return
	}
	life := time.Second + busy()
	messengers, secret := strict(t, "max_session "+(life+500*time.Millisecond).String())
	g := start(t, newUpstream(t), messengers, guardedSite)
	before := g.families()
	short, _ := lastingExactly(secret, "mark", life)
	for _, token := range []string{strings.TrimPrefix(short, "Authorization: Bearer "), sign(secret, valid("mark"))} {
		conn := g.openChat("/", token)
		go func() { _, _, _ = conn.Read(context.Background()) }()
	}
	// A refused handshake, and one that the backend does not take, are no connections.
	g.get("/", "Connection: Upgrade", "Upgrade: websocket")
	within(t, time.Minute, "both ends are counted", func() bool {
		after := g.families()
		grew := func(reason string) float64 {
			pair := `reason="` + reason + `"`
			return after.value("connections_ended_total", pair) - before.value("connections_ended_total", pair)
		}
		return grew("token_expired") == 1 && grew("session_limit") == 1 && grew("closed") == 0
	})
}
