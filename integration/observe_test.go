package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A line is an entry of Caddy's log.
type line struct {
	Level, Logger, Msg, Code, Reason, Advice, Messenger, By string

	Auth *struct{ Messenger, Method, Mode, Verdict, Source, Cache, Fingerprint string } `json:"messenger_auth"`
	text string
}

// lines returns the entries of the log that are ours: those of our loggers, Caddy's access log excepted.
func (g *gateway) lines(wanted func(line) bool) (found []line) {
	g.t.Helper()
	for text := range strings.SplitSeq(g.logs(), "\n") {
		var l line
		if json.Unmarshal([]byte(text), &l) == nil && wanted(l) {
			l.text = text
			found = append(found, l)
		}
	}
	return found
}

func ours(l line) bool {
	return l.Logger == "messenger" || strings.HasPrefix(l.Logger, "messenger.") || strings.HasPrefix(l.Logger, "http.handlers.messenger_")
}

// The disk of a gateway under attack must not fill up, and the first sign of each kind of attack must not drown in the
// others. Nothing that a client does is an error.
func TestLogsUnderAFloodOfRefusals(t *testing.T) {
	for _, mode := range []string{"required", "report"} {
		t.Run(mode, func(t *testing.T) {
			m := methods(t)[0]
			g := newGateway(t, newUpstream(t), "http://")
			g.unlogged = true
			g.load(liveOptions+"\n"+strings.Replace(m.messengers, "support", "sales", 1), "messenger_auth {path.0} {\n mode "+mode+"\n}\nreverse_proxy UPSTREAM")
			quiet := len(g.lines(ours))
			began := time.Now()
			kinds := map[string][]string{
				"token_malformed":       {bearer("x")},
				"token_ambiguous":       {bearer("x"), bearer("y")},
				"token_too_large":       {bearer(strings.Repeat("x", 9000))},
				"signature_invalid":     {bearer(sign(newSecret(), good("mark")))},
				"algorithm_not_allowed": {bearer(sign(rsaKey(0), good("mark")))},
				"token_expired":         {bearer(sign(m.key, with(good("mark"), claims{"exp": 1})))},
				"identity_missing":      {bearer(sign(m.key, claims{"exp": time.Now().Add(time.Hour).Unix()}))},
				"messenger_unknown":     {bearer("x")},
			}
			const rounds = 200
			for i := range rounds {
				for code, headers := range kinds {
					path := "/sales/"
					if code == "messenger_unknown" {
						path = fmt.Sprintf("/nobody-%d/", i)
					}
					g.get(path, headers...)
				}
			}
			intervals := int(time.Since(began)/(10*time.Second)) + 1
			found := g.lines(ours)[quiet:]
			seen := make(map[string]int)
			for _, l := range found {
				seen[l.Code]++
				if l.Level != "info" || l.Reason == "" || l.Advice == "" || l.Code == "" {
					t.Errorf("a line without what an operator needs: %s", l.text)
				}
			}
			for code := range kinds {
				if seen[code] == 0 {
					t.Errorf("%s is not in the log", code)
				}
			}
			if len(found) > len(kinds)*intervals {
				t.Errorf("%d requests left %d lines, want at most %d", rounds*len(kinds), len(found), len(kinds)*intervals)
			}
			if errors := g.lines(func(l line) bool { return l.Level == "error" }); len(errors) > 0 {
				t.Errorf("a client made %d errors, first %s", len(errors), errors[0].text)
			}
		})
	}
}

// A million good requests an hour must not be a million lines of ours. The access log has the facts, and never who it was.
func TestAGoodRequestIsAFieldOfTheAccessLog(t *testing.T) {
	for _, m := range methods(t) {
		t.Run(m.name, func(t *testing.T) {
			g := start(t, newUpstream(t), m.messengers, "messenger_auth support {\n token_from header Authorization Bearer\n token_from query token\n}\nreverse_proxy UPSTREAM")
			token, bad := sign(m.key, good("mark")), sign(newSecret(), good("mark"))
			before := len(g.lines(ours))
			for range 100 {
				g.expect("200", "/", token)
			}
			g.get("/?token=" + token)
			if now := g.lines(ours); len(now) != before {
				t.Errorf("101 good requests left %d lines, first %s", len(now)-before, now[before].text)
			}
			g.get("/", bearer(bad))
			g.get("/")
			access := func(l line) bool { return l.Auth != nil }
			eventually(t, "all requests are logged", func() bool { return len(g.lines(access)) == 103 })
			sum := sha256.Sum256([]byte(token))
			fingerprint := hex.EncodeToString(sum[:4])
			for i, l := range g.lines(access) {
				want := fmt.Sprintf("{support %s required verified header hit %s}", m.name, fingerprint)
				switch i {
				case 0:
					want = strings.Replace(want, "hit", "miss", 1)
				case 100:
					want = strings.Replace(want, "header", "query", 1)
				case 101: // by the hash of a token that is not good, anybody could fill the log with what they like
					want = fmt.Sprintf("{support %s required %s header miss }", m.name, map[bool]string{true: "algorithm_not_allowed", false: "signature_invalid"}[m.name == "public_key"])
				case 102:
					want = fmt.Sprintf("{support %s required token_missing   }", m.name)
				}
				if got := fmt.Sprint(*l.Auth); got != want {
					t.Errorf("request %d: the log has %s, want %s", i, got, want)
				}
			}
		})
	}
}

// Who changed what, and what the configuration says that is probably not meant, is asked weeks later.
func TestChangesAreAudited(t *testing.T) {
	file := write(t, "secret", []byte(newSecret()))
	keys := newKeyServer(t, publicJWK(rsaKey(0), "k1"))
	g := start(t, newUpstream(t), liveOptions+"\nmessenger sales {\n identity_key identity\n shared_token {file."+file+"}\n}\nmessenger billing {\n identity_key identity\n jwks "+keys.url+"\n}", liveSite)
	g.waitForLog("key set fetched")
	if err := os.WriteFile(file, []byte(newSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys.publish(publicJWK(rsaKey(1), "k2"))
	o := g.operator()
	o.want(200, "POST", "messengers/billing/refresh", map[string]any{})
	o.want(200, "POST", "messengers/support/revocations", map[string]any{"identity": "mark"})
	o.put("acme", generated)
	o.generate("acme")
	o.want(200, "DELETE", "messengers/acme", nil)
	api := "admin API, unix socket"
	for what, by := range map[string]string{
		`"keys changed","messenger":"sales"`:       "the key file",
		`"keys changed","messengers":["billing"]`:  "the key server",
		`"key set refresh asked for"`:              api,
		`"messenger created","messenger":"acme"`:   api,
		`"shared token generated"`:                 api,
		`"messenger deleted"`:                      api,
		`this messenger accepts tokens that never`: "the configuration",
		`this messenger accepts every token`:       "the configuration",
		`no shared token was generated yet`:        "the configuration",
	} {
		eventually(t, what+" is audited", func() bool {
			return len(g.lines(func(l line) bool { return strings.HasPrefix(l.Logger, "messenger.audit") && l.By == by })) > 0 &&
				regexp.MustCompile(`"logger":"messenger\.audit(?:\.\w+)?","msg":"?`+regexp.QuoteMeta(strings.TrimPrefix(what, `"`))).MatchString(g.logs())
		})
	}
}

// A collector takes spans as OpenTelemetry sends them, as Protocol Buffers over HTTP.
type collector struct {
	mu    sync.Mutex
	spans []byte
}

func newCollector(t *testing.T) *collector {
	c := new(collector)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		search.add("spans", body)
		c.mu.Lock()
		c.spans = append(c.spans, body...)
		c.mu.Unlock()
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	return c
}

// has reports whether a span came that has the attribute with the value: a name, the tags and lengths of the fields
// between, and the text.
func (c *collector) has(name, value string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return regexp.MustCompile(`(?s)` + regexp.QuoteMeta(name) + `\x12.\n.` + regexp.QuoteMeta(value)).Match(c.spans)
}

// Traces go to other people's servers. They say what was decided, and not about whom; and a token in a query, which Caddy
// itself would write into the span, is not there either.
func TestSpansSayWhatWasDecided(t *testing.T) {
	c := newCollector(t)
	m := methods(t)[0]
	g := start(t, newUpstream(t), m.messengers, "tracing {\n span chat\n}\nmessenger_auth support {\n token_from query token\n token_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM")
	g.expect("200", "/", signWithKID(m.key, "the-kid-of-mark", with(good("the-identity-of-mark"), claims{"jti": "the-jti-of-mark"})))
	g.get("/?room=7&token=" + sign(m.key, good("the-identity-of-mark")))
	g.get("/?token="+sign(newSecret(), good("the-identity-of-mark")), "X-Contact-Identity: the-identity-of-mark")
	for name, value := range map[string]string{"messenger": "support", "method": "shared_token", "mode": "required", "verdict": "verified", "source": "header", "cache": "miss"} {
		eventually(t, name+" is in a span", func() bool { return c.has("messenger_auth."+name, value) })
	}
	eventually(t, "the refusal is in a span", func() bool {
		return c.has("messenger_auth.verdict", "signature_invalid") && c.has("messenger_auth.source", "query")
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range []string{"the-kid-of-mark", "the-identity-of-mark", "the-jti-of-mark"} {
		if strings.Contains(string(c.spans), secret) {
			t.Errorf("%s is in a span", secret)
		}
	}
}

// panicker is a handler of somebody else that fails loudly, with everything that it can see.
type panicker struct{}

func init() {
	caddy.RegisterModule(new(panicker))
	httpcaddyfile.RegisterHandlerDirective("test_panic", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(panicker), nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_panic", httpcaddyfile.Before, "respond")
}

func (*panicker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_panic", New: func() caddy.Module { return new(panicker) }}
}

func (*panicker) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*panicker) ServeHTTP(_ http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	panic(fmt.Sprintf("test_panic: %v %+v %#v %v %+v", r.Header, vars, vars, r.URL, r.Trailer))
}

// A panic writes what it holds into the log. Of the token nothing is left in the request by then, and what our handler
// keeps with the request does not print itself.
func TestPanicsTellNoToken(t *testing.T) {
	m := methods(t)[0]
	g := start(t, nil, m.messengers, sourcesOnly("")+"\ntest_panic")
	token := sign(m.key, good("mark"))
	for i, headers := range [][]string{
		{bearer(token)}, {"X-Chat-Token: " + token}, {"Cookie: chat=" + token + "; a=b"}, {"Referer: https://www.example.com/?token=" + token, bearer(token)},
		{"Sec-WebSocket-Protocol: chat.v1, jwt, " + token, "Connection: Upgrade", "Upgrade: websocket"},
	} {
		r, err := http.NewRequest(http.MethodGet, g.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			r.Header.Set(name, value)
		}
		if resp, err := plainClient.Do(r); err == nil {
			_ = resp.Body.Close()
		}
		eventually(t, "the panic is logged", func() bool { return strings.Count(g.logs(), "test_panic: map[") > i })
	}
	r, _ := http.NewRequest(http.MethodGet, g.url+"/?token="+token+"&a=b", nil)
	if resp, err := plainClient.Do(r); err == nil {
		_ = resp.Body.Close()
	}
	eventually(t, "the panic is logged", func() bool { return strings.Count(g.logs(), "test_panic: map[") > 5 })
	_, payload, _ := strings.Cut(token, ".")
	for l := range strings.SplitSeq(g.logs(), "\n") {
		if strings.Contains(l, payload[:24]) {
			t.Errorf("a token is in the log: %s", l)
		}
	}
}

// Every query of the dashboard and of the alert rules asks for metrics and labels that there are.
func TestDashboardAndAlertsAskForWhatThereIs(t *testing.T) {
	documented := readmeMetrics(t)
	codes := regexp.MustCompile("<a id=\"(\\w+)\"></a>`").FindAllStringSubmatch(readme(t), -1)
	known := map[string]bool{"verified": true}
	for _, code := range codes {
		known[code[1]] = true
	}
	checkQuery := func(where, query string) {
		t.Helper()
		names := regexp.MustCompile(`\b(`+metricPrefix+`\w+)(\{[^}]*\})?`).FindAllStringSubmatch(query, -1)
		if len(names) == 0 {
			t.Errorf("%s: %q asks for no metric of ours", where, query)
		}
		labels := make(map[string]bool)
		for _, found := range names {
			metric, ok := documented[strings.TrimSuffix(found[1], "_bucket")]
			if base := strings.TrimSuffix(found[1], "_bucket"); !ok || (base != found[1]) != (metric.kind == "histogram") {
				t.Errorf("%s: there is no %s", where, found[1])
				continue
			}
			for _, label := range append(metric.labels, "instance", "job", "le") {
				labels[label] = true
			}
			for _, pair := range regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"([^"]*)"`).FindAllStringSubmatch(found[2], -1) {
				if !strings.Contains(","+strings.Join(metric.labels, ",")+",", ","+pair[1]+",") {
					t.Errorf("%s: %s has no label %s", where, found[1], pair[1])
				}
				for code := range strings.SplitSeq(pair[2], "|") {
					if pair[1] == "code" && !known[code] {
						t.Errorf("%s: there is no code %s", where, code)
					}
				}
			}
			if rated := regexp.MustCompile(`(rate|increase)\(` + found[1] + `\b`).MatchString(query); rated != (metric.kind != "gauge") {
				t.Errorf("%s: %s is a %s", where, found[1], metric.kind)
			}
		}
		for _, by := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(query, -1) {
			for label := range strings.SplitSeq(by[1], ",") {
				if !labels[strings.TrimSpace(label)] {
					t.Errorf("%s: %q groups by %s, which none of its metrics has", where, query, label)
				}
			}
		}
		if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
			t.Errorf("%s: %q is not balanced", where, query)
		}
	}
	folder := filepath.Join("..", "caddymodule", "monitoring")
	text, err := os.ReadFile(filepath.Join(folder, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("dashboard.json: %v", err)
	}
	asked := ""
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			checkQuery("dashboard.json, "+panel.Title, target.Expr)
			asked += target.Expr + " "
		}
	}
	for name := range documented {
		if !strings.Contains(asked, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	text, err = os.ReadFile(filepath.Join(folder, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?s)- alert: (\w+)\n +expr: (?:>-\n)?(.*?)\n +(?:for|labels):`).FindAllStringSubmatch(string(text), -1)
	if len(rules) == 0 || len(rules) != strings.Count(string(text), "- alert:") {
		t.Fatalf("alerts.yml has %d alerts, and %d can be read", strings.Count(string(text), "- alert:"), len(rules))
	}
	for _, rule := range rules {
		checkQuery("alerts.yml, "+rule[1], strings.Join(strings.Fields(rule[2]), " "))
	}
}
