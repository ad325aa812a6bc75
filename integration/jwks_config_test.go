package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A mistake in the settings of a key set stops the start-up, names the option, and says what would be right.
func TestJWKSMistakesStopTheStart(t *testing.T) {
	t.Setenv("JWKS_URL", "http://keys.example.com/jwks.json")
	for _, tt := range []struct{ name, jwks, want string }{
		{"no URL", "jwks", "jwks"},
		{"plain http", "jwks http://keys.example.com/jwks.json", "plain http, so that an attacker"},
		{"plain http in the environment", "jwks {env.JWKS_URL}", "plain http, so that an attacker"},
		{"an unset variable", "jwks https://{env.JWKS_NOBODY}/jwks.json", "{env.JWKS_NOBODY}"},
		// The client must not choose where keys come from.
		{"a URL that a request decides", "jwks https://{http.request.host}/jwks.json", "{http.request.host}"},
		{"a shorthand for the same", "jwks https://{host}/jwks.json", "{host}"},
		{"another scheme", "jwks file:///etc/jwks.json", "is not a URL"},
		{"no scheme", "jwks keys.example.com/jwks.json", "is not a URL"},
		{"a password", "jwks https://site:hunter2hunter2@keys.example.com/", "has a user name in it"},
		{"too often", "jwks https://keys.example.com/ {\n refresh_interval 5s\n }", "refresh_interval 5s is not between 1m and 1h"},
		{"too rarely", "jwks https://keys.example.com/ {\n refresh_interval 2h\n }", "refresh_interval 2h is not between"},
		{"no time at all", "jwks https://keys.example.com/ {\n timeout 0\n }", "timeout 0s is not above 0s and at most 30s"},
		{"too patient", "jwks https://keys.example.com/ {\n timeout 1m\n }", "timeout 1m is not above 0s and at most 30s"},
		{"stale for a negative time", "jwks https://keys.example.com/ {\n stale_if_error -1h\n }", "stale_if_error is negative"},
		{"an option that is none", "jwks https://keys.example.com/ {\n kid a\n }", "kid"},
		{"an option twice", "jwks https://keys.example.com/ {\n timeout 1s\n timeout 2s\n }", "timeout"},
		{"two URLs", "jwks https://keys.example.com/\n jwks https://other.example.com/", "jwks"},
		{"another method too", "jwks https://keys.example.com/\n shared_token {env.X}", "exactly one validation method"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := loadError(t, "messenger support {\n identity_key identity\n "+tt.jwks+"\n}", "messenger_auth support\nrespond ok")
			if !strings.Contains(err, tt.want) {
				t.Errorf("got %s\nwant %q in it", err, tt.want)
			}
			if strings.Contains(err, "hunter2") {
				t.Errorf("a password is repeated: %s", err)
			}
		})
	}
}

// Messengers with one URL and the same settings share one fetch. The request behind it leaves no trace in it.
func TestKeyServerLearnsNothingOfClients(t *testing.T) {
	var mu sync.Mutex
	var asked []*http.Request
	keys := newKeyServer(t)
	set := mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(0), "a")}})
	keys.behave(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Clone(r.Context()))
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write([]byte(set))
	})
	g := start(t, nil, jwksMessenger(keys.url)+"\n"+strings.Replace(jwksMessenger(keys.url), "support", "sales", 1), `
	handle /sales {
		messenger_auth sales
		respond ok
	}
	handle {
		messenger_auth support
		respond ok
	}`)
	valid := bearer(signWithKID(rsaKey(0), "a", forChat("mark")))
	for _, path := range []string{"/", "/sales"} {
		if a := g.get(path, valid, "X-Client: me", "Cookie: a=b"); a.status != 200 {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	unknown := bearer(signWithKID(rsaKey(1), "b", forChat("mark")))
	if a := g.get("/", unknown, "X-Client: me", "Cookie: a=b"); a.status != 401 || a.code(t) != "key_unknown" {
		t.Errorf("an unknown kid: got %d %s", a.status, a.body)
	}
	if a := g.get("/sales", valid); a.status != 200 {
		t.Errorf("after the set was confirmed: got %d %s", a.status, a.body)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 {
		t.Fatalf("%d fetches, want the first and the one for the unknown kid", len(asked))
	}
	for i, r := range asked {
		for name := range r.Header {
			switch name {
			case "Accept", "Accept-Encoding", "User-Agent", "Connection":
			case "If-None-Match":
				if i == 0 {
					t.Error("the first fetch has a validator")
				}
			default:
				t.Errorf("a fetch has the header %s", name)
			}
		}
		if r.Header.Get("User-Agent") != "caddy-messenger-auth" || r.Header.Get("Accept-Encoding") != "identity" || r.Method != http.MethodGet || r.URL.RawQuery != "" {
			t.Errorf("fetch %d: %s %s %v", i, r.Method, r.URL, r.Header)
		}
	}
}
