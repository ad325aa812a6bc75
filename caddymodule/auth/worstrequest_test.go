package auth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// longLists are requests without a valid token that are all list: as long as Caddy takes, and made of as many parts as there
// can be. Each has a query, a header and its value.
var longLists = func() map[string][3]string {
	fill := func(part string) string { return strings.Repeat(part, (15<<10)/len(part)) }
	return map[string][3]string{
		"cookies, empty":                       {"", "Cookie", fill(";")},
		"cookies":                              {"", "Cookie", fill("a;")},
		"cookies of ours, empty":               {"", "Cookie", fill("chat=;")},
		"query, empty":                         {fill("&"), "X", "y"},
		"query":                                {fill("a&"), "X", "y"},
		"query, escaped":                       {fill("%61&"), "X", "y"},
		"query, our parameter, empty":          {fill("token=&"), "X", "y"},
		"query, nearly our parameter, escaped": {fill("%74okex&"), "X", "y"},
		"protocols, empty":                     {"", "Sec-Websocket-Protocol", fill(",")},
		"protocols":                            {"", "Sec-Websocket-Protocol", fill("a,")},
		"protocols, our marker":                {"", "Sec-Websocket-Protocol", fill("jwt,")},
		"connection, empty":                    {"", "Connection", fill(",")},
		"connection":                           {"", "Connection", fill("a,")},
		"connection, in capitals":              {"", "Connection", fill("A,")},
		"connection, an option that stays":     {"", "Connection", fill("TE,")},
		"connection, a header that is there":   {"", "Connection", fill("x,")},
		"origin":                               {"", "Origin", "https://" + fill("a")},
		"token, all dots":                      {"", "Authorization", "Bearer " + fill(".")},
	}
}()

func longListHandler(b testing.TB) *Handler {
	h := benchHandler(b, "", "")
	h.sources = authn.Sources{{Kind: authn.Header, Name: "Authorization", Scheme: "Bearer"}, {Kind: authn.Cookie, Name: "chat"},
		{Kind: authn.Query, Name: "token"}, {Kind: authn.WebSocketProtocol, Name: "jwt"}}
	return h
}

func serveLongList(h *Handler, list [3]string) func() error {
	server := new(caddyhttp.Server)
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	template := httptest.NewRequest(http.MethodGet, "http://chat.example.com/socket?"+list[0], nil)
	return func() error {
		r := template.WithContext(template.Context())
		r.Header = http.Header{"Accept": {"*/*"}, "Upgrade": {"websocket"}, list[1]: {list[2]}}
		w := discarder{make(http.Header, 8)}
		return h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server), next)
	}
}

// A list in a request costs no more than its length: thousands of parts do not cause thousands of allocations.
func TestLongListsCostNoAllocations(t *testing.T) {
	h := longListHandler(t)
	allocations := func(list [3]string) float64 {
		serve := serveLongList(h, list)
		return testing.AllocsPerRun(5, func() {
			if err := serve(); err != nil {
				t.Fatal(err)
			}
		})
	}
	usual := allocations([3]string{"", "Authorization", "Bearer " + signBench("another secret", "mark", 0)})
	for name, list := range longLists {
		if got := allocations(list); got > usual+20 {
			t.Errorf("%s: %.0f allocations, and %.0f for a usual forged token", name, got, usual)
		}
	}
}

// BenchmarkLongLists is to be compared with "forged" of BenchmarkHandler, and with what Caddy itself spends on a request of
// that length.
func BenchmarkLongLists(b *testing.B) {
	h := longListHandler(b)
	for name, list := range longLists {
		b.Run(name, func(b *testing.B) {
			serve := serveLongList(h, list)
			b.ReportAllocs()
			for b.Loop() {
				if err := serve(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
