package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ticket"
)

const benchSecret = "not-a-secret-but-43-characters-of-some-text"

// benchHandler returns a provisioned messenger_auth with the default settings, whose messenger has benchSecret. app and
// messenger are further members of the app's and of the messenger's JSON.
func benchHandler(b testing.TB, app, messenger string) *Handler {
	b.Helper()
	b.Setenv("MESSENGER_BENCH_TOKEN", benchSecret)
	config := new(caddy.Config)
	text := `{"logging": {"logs": {"default": {"level": "PANIC"}}}, "apps": {"messenger": {` + app + `"messengers": {"support":
		{` + messenger + `"identity_key": "identity", "require_claims": ["exp"], "shared_token": {"token": "{env.MESSENGER_BENCH_TOKEN}"}}}}}}`
	if err := json.Unmarshal([]byte(text), config); err != nil {
		b.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(config)
	if err != nil {
		b.Fatal(err)
	}
	h := new(Handler)
	if err := h.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	registry.VerifiedTokens.Resize(registry.DefaultTokenCacheSize) // as Start does
	b.Cleanup(func() {
		registry.VerifiedTokens.Resize(0)
		h.registry.Release()
	})
	return h
}

// signBench returns a token of about 500 bytes.
func signBench(secret, identity string, number int) string {
	now := time.Now().Unix()
	claims := fmt.Sprintf(`{"identity":%q,"iss":"https://login.example.com/","aud":["chat-support","chat-sales"],"iat":%d,"nbf":%d,"exp":%d,`+
		`"jti":"01J9Z3K5V7Q8W2X4Y6A%07d","name":"Mark Twain","email":"mark.twain@example.com","locale":"en-US","plan":"enterprise","email_verified":true}`,
		identity, now, now, now+3600, number)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","kid":"k1","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// A discarder takes an answer and counts nothing.
type discarder struct{ header http.Header }

func (d discarder) Header() http.Header { return d.header }

func (d discarder) Write(p []byte) (int, error) { return len(p), nil }

func (d discarder) WriteHeader(int) {}

// oneHeader is the least that a handler in front of a proxy can do.
func oneHeader(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	r.Header["X-Contact-Identity"] = []string{"mark"}
	return next.ServeHTTP(w, r)
}

// static401 is the least that a refusal can be.
func static401(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusUnauthorized)
	_, err := w.Write([]byte("unauthorized\n"))
	return err
}

type serveFunc func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error

// benchServe runs requests through serve, each with a context as Caddy's server makes it. tokens are sent in turn.
func benchServe(b *testing.B, serve serveFunc, tokens ...string) {
	b.Helper()
	benchServeOver(b, 1, serve, tokens...)
}

// fromBrowser are headers that a browser sends with a request of a page's script, beside those of every benchmark.
var fromBrowser = [][2]string{{"Accept-Encoding", "gzip, deflate, br, zstd"}, {"Accept-Language", "en-US,en;q=0.9"}, {"Cache-Control", "no-cache"},
	{"Connection", "keep-alive"}, {"Content-Type", "application/json"}, {"Origin", "https://www.example.com"}, {"Referer", "https://www.example.com/"},
	{"Sec-Ch-Ua", "\"Chromium\";v=\"140\""}, {"Sec-Ch-Ua-Mobile", "?0"}, {"Sec-Ch-Ua-Platform", "\"Linux\""}, {"Sec-Fetch-Dest", "empty"},
	{"Sec-Fetch-Mode", "cors"}, {"Sec-Fetch-Site", "same-site"}}

// benchServeOver is benchServe over that version of HTTP. With version 0 it is HTTP/1.1 with the headers of a browser.
func benchServeOver(b *testing.B, version int, serve serveFunc, tokens ...string) {
	b.Helper()
	send := benchSender(b, version, tokens...)
	b.ReportAllocs()
	for b.Loop() {
		send(serve)
	}
}

// benchSender returns a function that sends one request, each with the next token.
func benchSender(b *testing.B, version int, tokens ...string) func(serveFunc) {
	b.Helper()
	further := fromBrowser
	if version > 0 {
		further = nil
	}
	sent := make([]string, len(further))
	for i, header := range further {
		sent[i] = header[1]
	}
	site, server := new(caddyhttp.Server), []string{"Caddy"} // which Caddy says before any handler runs
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	template := httptest.NewRequest(http.MethodGet, "http://chat.example.com/socket?room=7", nil)
	template.ProtoMajor = max(version, 1)
	values := make([][]string, len(tokens))
	for i, token := range tokens {
		values[i] = []string{"Bearer " + token}
	}
	i := 0
	return func(serve serveFunc) {
		r := template.WithContext(template.Context())
		r.Header = make(http.Header, 8)
		r.Header["Accept"] = []string{"*/*"}
		r.Header["User-Agent"] = []string{"bench"}
		r.Header["Authorization"] = values[i]
		for j := range further {
			r.Header[further[j][0]] = sent[j : j+1 : j+1]
		}
		if i++; i == len(values) {
			i = 0
		}
		w := discarder{make(http.Header, 8)}
		w.header["Server"] = server
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, site)
		if err := serve(w, r, next); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandler measures the whole handler. What it adds to a request is the difference to "one header", to "static
// 401" for refusals.
func BenchmarkHandler(b *testing.B) {
	valid := signBench(benchSecret, "mark", 0)
	forged := signBench("another secret", "mark", 0)
	many := make([]string, 20000)
	for i := range many {
		many[i] = signBench(benchSecret, fmt.Sprint("contact-", i), i)
	}
	b.Run("one header", func(b *testing.B) { benchServe(b, oneHeader, valid) })
	b.Run("static 401", func(b *testing.B) { benchServe(b, static401, valid) })
	b.Run("one hot token", func(b *testing.B) { benchServe(b, benchHandler(b, "", "").ServeHTTP, valid) })
	b.Run("one header, from a browser", func(b *testing.B) { benchServeOver(b, 0, oneHeader, valid) })
	b.Run("one hot token, from a browser", func(b *testing.B) { benchServeOver(b, 0, benchHandler(b, "", "").ServeHTTP, valid) })
	b.Run("one hot token over HTTP 2", func(b *testing.B) { benchServeOver(b, 2, benchHandler(b, "", "").ServeHTTP, valid) })
	b.Run("one hot token with access log fields", func(b *testing.B) {
		h := benchHandler(b, "", "")
		h.hasAccessLog = true
		benchServe(b, h.ServeHTTP, valid)
	})
	b.Run("one hot token with two claim headers", func(b *testing.B) {
		h := benchHandler(b, "", "")
		h.ClaimHeaders = []ClaimHeader{{Claim: "name", Header: "X-Contact-Name"}, {Claim: "plan", Header: "X-Contact-Plan"}}
		dropped := h.headers.Dropped
		h.headers = h.Contract()
		h.headers.Dropped = dropped
		benchServe(b, h.ServeHTTP, valid)
	})
	b.Run("20000 tokens in turn", func(b *testing.B) { benchServe(b, benchHandler(b, "", "").ServeHTTP, many...) })
	b.Run("every token unknown", func(b *testing.B) { benchServe(b, benchHandler(b, `"token_cache_size": 100,`, "").ServeHTTP, many...) })
	b.Run("no token cache", func(b *testing.B) { benchServe(b, benchHandler(b, `"token_cache_size": 0,`, "").ServeHTTP, many...) })
	b.Run("forged", func(b *testing.B) { benchServe(b, benchHandler(b, "", "").ServeHTTP, forged) })
	b.Run("forged ticket", func(b *testing.B) { // its seal costs what a forged signature does, and the query the rest
		h := benchHandler(b, "", "")
		h.TokenFrom = []TokenSource{{From: "ticket", Name: "ticket"}}
		h.sources, h.takesQuery = sources(h.TokenFrom), true
		text, err := h.registry.Store.Tickets.Give(ticket.Ticket{Messenger: "support", Token: valid, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			b.Fatal(err)
		}
		query := "ticket=" + text[:len(text)-30] + strings.Repeat("A", 30)
		benchServe(b, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
			r.URL.RawQuery = query
			return h.ServeHTTP(w, r, next)
		}, "")
	})
	b.Run("another alg", func(b *testing.B) {
		_, rest, _ := strings.Cut(valid, ".")
		benchServe(b, benchHandler(b, "", "").ServeHTTP, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))+"."+rest)
	})
	b.Run("no token", func(b *testing.B) { benchServe(b, benchHandler(b, "", "").ServeHTTP, "") })
}
