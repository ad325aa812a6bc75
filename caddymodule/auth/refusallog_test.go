package auth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printlog"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// A flood of invalid tokens must not pay for what is said about the first: the cause is looked for only if its line is written. A
// diagnosis allocates, so that its allocations show whether there was one.
func TestUnloggedRefusalsAreNotDiagnosed(t *testing.T) {
	h := benchHandler(t, "", "")
	serve := func(token string) {
		r := httptest.NewRequest(http.MethodGet, "http://chat.example.com/", nil)
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		_ = h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	}
	for name, token := range map[string]string{
		"a forged token":   "Bearer " + signBench("another secret", "mark", 0),
		"text of 8 KiB":    "Bearer " + strings.Repeat("eyJ.", 2<<10),
		"a token of 8 KiB": "Bearer " + signBench("another secret", strings.Repeat("x", 5<<10), 0),
		"a blank identity": "Bearer " + signBench(benchSecret, " ", 0),
		"another scheme":   "JWT " + signBench(benchSecret, "mark", 0),
		"no token":         "",
	} {
		h.refusals = zap.NewNop()
		silent := testing.AllocsPerRun(100, func() { serve(token) })
		core, logged := observer.New(zapcore.InfoLevel)
		h.refusals = printlog.Sampled(zap.New(core))
		serve(token)
		flooded := testing.AllocsPerRun(100, func() { serve(token) })
		if flooded > silent+1 && !testsize.Raced { // it empties pools
			t.Errorf("%s: %v allocations for each of a flood, and %v without a log", name, flooded, silent)
		}
		entries := logged.All()
		if want := name != "no token"; len(entries) > 0 != want || len(entries) > 20 {
			t.Errorf("%s: %d lines", name, len(entries))
		}
		for _, entry := range entries {
			if name != "text of 8 KiB" && entry.ContextMap()["cause"] == nil {
				t.Errorf("%s: the line names no cause: %v", name, entry.ContextMap())
			}
		}
	}
}
