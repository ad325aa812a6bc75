package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

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
func TestSpansContainTheDecision(t *testing.T) {
	c := newCollector(t)
	m := methods(t)[0]
	g := start(t, newUpstream(t), m.messengers, "tracing {\n span chat\n}\nmessenger_auth support {\n token_from query token\n token_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM")
	g.expect("200", "/", signWithKID(m.key, "the-kid-of-mark", with(valid("the-identity-of-mark"), claims{"jti": "the-jti-of-mark"})))
	g.get("/?room=7&token=" + sign(m.key, valid("the-identity-of-mark")))
	g.get("/?token="+sign(newSecret(), valid("the-identity-of-mark")), "X-Contact-Identity: the-identity-of-mark")
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
func TestPanicsDoNotLeakTokens(t *testing.T) {
	m := methods(t)[0]
	g := start(t, nil, m.messengers, sourcesOnly("")+"\ntest_panic")
	token := sign(m.key, valid("mark"))
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
