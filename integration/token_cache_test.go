package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A token that is in use is remembered. It is refused from the moment on at which a new one would be: when it has
// expired, when the key in its file was replaced, and when a reload gave the messenger another key or a stricter rule.
func TestCachedTokenIsRefusedWhenItIsNoLongerValid(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	for _, size := range []string{"", "messenger {\n token_cache_size 0\n}", "messenger {\n token_cache_size 1\n}"} {
		first, second := newSecret(), newSecret()
		key := write(t, "secret", []byte(first))
		messenger := func(more string) string {
			return "messenger support {\n identity_key identity\n shared_token {file." + key + "}\n clock_skew 0s\n" + more + "\n}\nmessenger {\n poll_interval 20ms\n}\n" + size
		}
		const site = "messenger_auth support\nreverse_proxy UPSTREAM"
		g := newGateway(t, up, "http://")
		g.load(messenger(""), site)
		use := func(token, when, want string) {
			t.Helper()
			for range 3 {
				got := ""
				if a := g.get("/", bearer(token)); a.status != 200 {
					got = a.code(t)
				}
				if got != want {
					t.Errorf("%s: got %q, want %q (%s)", when, got, want, size)
				}
			}
		}
		short := sign(first, claims{"identity": "mark", "exp": time.Now().Add(3 * time.Second).Unix()})
		token := sign(first, valid("mark"))
		use(token, "at first", "")
		for up.take(); g.get("/", bearer(short)).status == 200; time.Sleep(50 * time.Millisecond) {
			if r := up.one(t); r.header.Get("X-Contact-Identity") != "mark" {
				t.Fatalf("the upstream was told %q", r.header)
			}
		}
		use(short, "when it has expired", "token_expired")

		g.load(messenger("audience chat"), site)
		use(token, "under a stricter rule", "audience_not_allowed")
		g.load(messenger(""), site)
		use(token, "under the first rule again", "")

		next := filepath.Join(filepath.Dir(key), "next")
		if err := os.WriteFile(next, []byte(second), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, key); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the changed key is active", func() bool { return g.get("/", bearer(token)).status == 401 })
		use(token, "when its key was replaced", "signature_invalid")
		use(sign(second, valid("mark")), "with the new key", "")
		g.get("/", bearer(token))
	}
}

// Two routes of one messenger forward different claims of the same token, in whatever order they are met.
func TestCachedTokenKeepsTheClaimsOfEachRoute(t *testing.T) {
	up := newUpstream(t)
	secret := newSecret()
	g := start(t, up, "messenger support {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}", `
	handle /name/* {
		messenger_auth support {
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle /plan/* {
		messenger_auth support {
			claim_header plan X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle {
		messenger_auth support
		reverse_proxy UPSTREAM
	}`)
	token := sign(secret, claims{"identity": "mark", "name": "Mark", "plan": "free", "exp": time.Now().Add(time.Hour).Unix()})
	for _, path := range strings.Fields("/ /name/ /plan/ /name/ / /plan/ /plan/ /") {
		if a := g.get(path, bearer(token)); a.status != 200 {
			t.Fatalf("%s: got %d %s", path, a.status, a.body)
		}
		want := map[string]string{"/": "", "/name/": "Mark", "/plan/": "free"}[path]
		if r := up.one(t); r.header.Get("X-Contact-Name") != want || r.header.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%s: got %q of %q, want %q", path, r.header.Get("X-Contact-Name"), r.header.Get("X-Contact-Identity"), want)
		}
	}
}
