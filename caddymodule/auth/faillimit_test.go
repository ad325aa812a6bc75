package auth

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
)

// limitedHandler returns a handler with limitJSON for which no client has failed yet.
func limitedHandler(t *testing.T) *Handler {
	t.Helper()
	failing().InvalidateAll()
	return benchHandler(t, "", limitJSON)
}

// A visitor sends requests from one address.
type visitor struct {
	t       *testing.T
	handler *Handler
	address string
}

// send returns the status of the answer and its Retry-After.
func (v visitor) send(token string) (int, string) {
	v.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://chat.example.com/", nil)
	r.RemoteAddr = v.address
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	if err := v.handler.ServeHTTP(w, r, next); err != nil {
		v.t.Fatal(err)
	}
	return w.Code, w.Header().Get("Retry-After")
}

func (v visitor) want(token string, status int, when string) {
	v.t.Helper()
	if got, _ := v.send(token); got != status {
		v.t.Errorf("%s: got %d, want %d", when, got, status)
	}
}

const (
	forgedToken = "eyJhbGciOiJIUzI1NiJ9.eyJpZGVudGl0eSI6ImV2ZSJ9.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	limitJSON   = `"fail_limit": {"attempts": 5, "window": "10s"},`
)

// A bot guesses. Its guesses stop being read, except one every two seconds, and other clients do not notice.
func TestAddressWithTooManyInvalidTokensIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limitedHandler(t)
		bot, other := visitor{t, h, "192.0.2.1:1000"}, visitor{t, h, "192.0.2.2:1000"}
		for i := range 5 {
			bot.want(forgedToken, 401, fmt.Sprint("guess ", i))
		}
		for range 100 {
			if status, wait := bot.send(forgedToken); status != 429 || wait != "2" {
				t.Fatalf("afterwards: got %d, Retry-After %q; want 429 and 2", status, wait)
			}
		}
		other.want(forgedToken, 401, "another address")
		other.want(signBench(benchSecret, "mark", 0), 200, "another address with a valid token")
		time.Sleep(2 * time.Second)
		bot.want(forgedToken, 401, "one guess after Retry-After")
		bot.want(forgedToken, 429, "and no second one")
		time.Sleep(10 * time.Second)
		for range 5 {
			bot.want(forgedToken, 401, "after the whole window")
		}
		bot.want(forgedToken, 429, "and no more than before")
	})
}

// A thousand employees share one address. None of them is limited, however often their widgets come with new tokens or
// too late, and even a bot among them cannot stop those who are in.
func TestSharedAddressIsNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limitedHandler(t)
		office := visitor{t, h, "192.0.2.10:1000"}
		known := make([]string, 1000)
		for i := range known {
			known[i] = signBench(benchSecret, fmt.Sprint("employee ", i), i)
			office.want(known[i], 200, "a new token")
		}
		office.want("", 401, "no token")
		time.Sleep(2 * time.Hour)
		for _, token := range known {
			office.want(token, 401, "an expired token")
		}
		for i := range known {
			known[i] = signBench(benchSecret, fmt.Sprint("employee ", i), i)
			office.want(known[i], 200, "the next token")
		}
		for range 20 {
			office.send(forgedToken)
		}
		office.want(forgedToken, 429, "the bot")
		for _, token := range known {
			office.want(token, 200, "a token that was seen before")
		}
		late := signBench(benchSecret, "latecomer", 0)
		office.want(late, 429, "a new token while the bot's allowance is used up")
		time.Sleep(2 * time.Second)
		office.want(late, 200, "the new token after Retry-After")
	})
}

func TestClientsAreDistinguishedByNetwork(t *testing.T) {
	same := [][]string{
		{"192.0.2.1:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:1"},
		{"[2001:db8::1]:1", "[2001:db8:0:0:ffff:ffff:ffff:ffff]:1", "[2001:db8::1%eth0]:1"},
		{"192.0.2.2:1"},
		{"[2001:db8:0:1::1]:1"},
	}
	owner := make(map[string]int)
	for i, addresses := range same {
		for _, address := range addresses {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = address
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), new(caddyhttp.Server))
			network := clientNetwork(r).String()
			if other, found := owner[network]; found && other != i {
				t.Errorf("%s counts with those of %q", address, same[other])
			}
			owner[network] = i
		}
	}
	if len(owner) != len(same) {
		t.Errorf("got the networks %v, want %d", owner, len(same))
	}
}

// Clients of a Unix socket have no address. They count as one, because otherwise the limit would never limit.
func TestClientsWithoutAnAddressAreLimitedAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limitedHandler(t)
		for range 5 {
			visitor{t, h, "@"}.want(forgedToken, 401, "over a Unix socket")
		}
		visitor{t, h, ""}.want(forgedToken, 429, "over a Unix socket, once the allowance is used up")
		visitor{t, h, "192.0.2.1:1000"}.want(forgedToken, 401, "from an address")
	})
}

// An attacker with many addresses gets many attempts, but cannot fill the gateway's memory.
func TestFailingAddressesAreBounded(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	limit := config.FailLimit{Attempts: 5, Window: caddy.Duration(time.Hour)}
	for i := range maxFailing + 20_000 {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		failures{"support", limit, address}.charge(&authn.Rejection{Code: authn.SignatureInvalid})
	}
	if got := failing().EstimatedSize(); got > maxFailing+maxFailing/100 {
		t.Errorf("%d addresses are remembered, want at most %d", got, maxFailing)
	}
}

func TestFailLimitAndTokenCacheSizeAreChecked(t *testing.T) {
	for option, want := range map[string]string{
		"fail_limit 20/1m":         "",
		"fail_limit 1000000/24h":   "",
		"fail_limit":               "exactly one value",
		"fail_limit 20":            "such as 20/1m",
		"fail_limit 1m/20":         "such as 20/1m",
		"fail_limit 20/1m/2":       "such as 20/1m",
		"fail_limit 0/1m":          "above 0",
		"fail_limit -1/1m":         "above 0",
		"fail_limit 20/0s":         "above 0",
		"fail_limit 20/25h":        "write a limit such as 20/1m",
		"fail_limit 20/1m extra":   "exactly one value",
		"token_cache_size 0":       "",
		"token_cache_size 5000":    "",
		"token_cache_size -1":      "0 or more",
		"token_cache_size many":    "0 or more",
		"token_cache_size 1 2":     "one number",
		"token_cache_size 1e3":     "0 or more",
		"token_cache_size 1000000": "",
	} {
		name := ""
		if strings.HasPrefix(option, "fail_limit") {
			name = "support "
			option = "identity_key id\nshared_token {env.X}\n" + option
		}
		_, err := messenger.ParseGlobalOption(caddyfile.NewTestDispenser("messenger "+name+"{\n"+option+"\n}"), nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", option, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error that says %q", option, err, want)
		}
	}
	for size, want := range map[int]bool{0: true, registry.MaxTokenCacheSize: true, -1: false, registry.MaxTokenCacheSize + 1: false} {
		if err := new(registry.Registry).UseTokenCache(size); (err == nil) != want {
			t.Errorf("token_cache_size %d: %v", size, err)
		}
	}
}
