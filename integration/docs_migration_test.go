package integration

import (
	"encoding/base64"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/golang-jwt/jwt/v5"
)

// ourCaddyfiles returns the global options and the site of each of our Caddyfiles in the migration guide, in its order.
func ourCaddyfiles(t *testing.T) (found [][2]string) {
	t.Helper()
	text, err := os.ReadFile("../caddymodule/docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if got := string(caddyfile.Format([]byte(block[1]))); got != block[1] {
			t.Errorf("not formatted; caddy fmt writes\n%s", got)
		}
		parts := regexp.MustCompile(`(?s)^\{\n(.*?)\n\}\n\n:8080 \{\n(.*)\n\}\n$`).FindStringSubmatch(block[1])
		if parts == nil {
			t.Fatalf("a Caddyfile of another form:\n%s", block[1])
		}
		found = append(found, [2]string{parts[1], strings.Replace(parts[2], "127.0.0.1:9000", "UPSTREAM", 1)})
	}
	return found
}

// After the steps of the migration guide, tokens are accepted from the same sources as before, and headers from clients are removed.
func TestDocsMigrationGuideWorks(t *testing.T) {
	secret := strings.Repeat("secret-", 10)
	search.secret(secret)
	t.Setenv("JWT_SECRET", base64.StdEncoding.EncodeToString([]byte(secret)))
	t.Setenv("JWT_SHARED_KEY", secret)
	search.secret(os.Getenv("JWT_SECRET"))
	ours := ourCaddyfiles(t)
	if len(ours) != 2 {
		t.Fatalf("the guide has %d Caddyfiles of ours, want 2", len(ours))
	}
	signed := func(method jwt.SigningMethod, c claims) string {
		c["exp"] = time.Now().Add(time.Hour).Unix()
		text, err := jwt.NewWithClaims(method, c).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		search.secret(text)
		return text
	}

	up := newUpstream(t)
	g := newGateway(t, up, "http://")
	g.unlogged = true // a URL and X-Api-Token are in Caddy's access log unless they are filtered, as the guide says
	g.load(ours[0][0], ours[0][1])
	token := signed(jwt.SigningMethodHS256, claims{"uid": 3406327963516932, "IsAdmin": true, "iss": "https://login.example.com", "aud": "chat"})
	for name, send := range map[string][2]string{
		"header": {"/", bearer(token)}, "own header": {"/", "X-Api-Token: " + token}, "query": {"/?access_token=" + token, "X-A: b"}, "cookie": {"/", "Cookie: user_session=" + token},
	} {
		if a := g.get(send[0], send[1], "X-User: eve", "X_Is_Admin: false"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
			continue
		}
		r := up.one(t)
		if r.header.Get("X-User") != "3406327963516932" || r.header.Get("X-Is-Admin") != "true" || len(r.header.Values("X-User")) != 1 || strings.Contains(r.uri+headerLines(r.header), token) {
			t.Errorf("%s: the backend got %s %v", name, r.uri, r.header)
		}
	}
	other := signed(jwt.SigningMethodHS256, claims{"uid": 2, "iss": "https://login.example.com", "aud": "chat"})
	if code := g.get("/?access_token="+other, bearer(token)).code(t); code != "token_ambiguous" {
		t.Errorf("two tokens: %s", code)
	}
	g.expect("401 algorithm_not_allowed", "/", signed(jwt.SigningMethodHS512, claims{"uid": 1, "iss": "https://login.example.com", "aud": "chat"}))
	up.none(t)

	// As long as the old directive verifies as well, it needs the token.
	g.load(ours[0][0], strings.Replace(ours[0][1], "messenger_auth chat {", "messenger_auth chat {\n\t\tmode report\n\t\tforward_token", 1))
	for _, sent := range []string{token, other, "letmein"} {
		if a := g.get("/", bearer(sent)); a.status != http.StatusOK {
			t.Errorf("in report: %d %s", a.status, a.body)
			continue
		}
		if got := up.one(t).header.Get("Authorization"); got != "Bearer "+sent {
			t.Errorf("in report with forward_token the old directive gets %q", got)
		}
	}

	g.load(ours[1][0], ours[1][1])
	token = signed(jwt.SigningMethodHS512, claims{"sub": "mark", "name": "Zoë", "email": "zoe@example.com", "roles": []string{"support", "customer"}})
	if a := g.get("/", bearer(token), "X-Token-User-Roles: admin"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	h := up.one(t).header
	for name, want := range map[string]string{"X-Token-Subject": "mark", "X-Token-User-Name": "Zo%C3%AB", "X-Token-User-Email": "zoe@example.com", "X-Token-User-Roles": `["support","customer"]`} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	g.expect("401 claim_missing", "/", signed(jwt.SigningMethodHS512, claims{"sub": "mark"}))
}

func headerLines(h http.Header) string { return string(headerText(h)) }
