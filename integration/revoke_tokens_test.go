package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const revocationsPath = "messengers/support/revocations"

func startRevoking(t *testing.T, up *upstream, options, site string) (*gateway, string) {
	t.Helper()
	secret := newSecret()
	g := start(t, up, "messenger support {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n "+options+"\n}", site)
	return g, secret
}

// A phone is stolen, a customer is banned, a key was misused for an hour: tokens with valid signatures are revoked, by jti, by
// contact, and for the whole messenger. A revocation applies from the next request on, also to tokens in the cache, until an
// operator undoes it.
func TestRevokedTokensAreRefusedUntilTheRevocationIsUndone(t *testing.T) {
	up := newUpstream(t)
	g, secret := startRevoking(t, up, "max_lifetime 2h", supportSite)
	now := time.Now()
	issued := func(identity, jti string, ago time.Duration) string {
		c := with(valid(identity), claims{"iat": now.Add(-ago).Unix()})
		if jti != "" {
			c["jti"] = jti
		}
		return sign(secret, c)
	}
	tokens := map[string]string{
		"mark, first":   issued("mark", "a", time.Minute),
		"mark, second":  issued("mark", "b", time.Minute),
		"mark, earlier": issued("mark", "", 50*time.Minute),
		"zoe":           issued("zoe", "a2", time.Minute),
		"zoe, earlier":  issued("zoe", "", 50*time.Minute),
	}
	check := func(when string, refused ...string) {
		t.Helper()
		for name, token := range tokens {
			want := 200
			for _, r := range refused {
				if name == r {
					want = 401
				}
			}
			a := g.get("/", bearer(token))
			if a.status != want {
				t.Errorf("%s, %s: got %d %s, want %d", when, name, a.status, a.body, want)
			}
			if want == 401 && a.status == 401 && a.code(t) != "token_revoked" {
				t.Errorf("%s, %s: got %s", when, name, a.body)
			}
		}
		if reached := len(up.take()); reached != len(tokens)-len(refused) {
			t.Errorf("%s: %d requests reached the upstream, want %d", when, reached, len(tokens)-len(refused))
		}
	}
	do := func(method, body string, want int) {
		t.Helper()
		if a := g.operator().do(method, revocationsPath, body); a.status != want {
			t.Fatalf("%s %s: got %d %s, want %d", method, body, a.status, a.body, want)
		}
	}
	check("before")
	do("POST", `{"jti": "a"}`, 200)
	check("by jti", "mark, first")
	do("POST", `{"identity": "mark"}`, 200)
	check("by contact", "mark, first", "mark, second", "mark, earlier")
	do("DELETE", `{"identity": "mark"}`, 200)
	check("the revocation of the contact undone", "mark, first")
	do("DELETE", `{"jti": "a"}`, 200)
	check("all revocations undone")
	do("DELETE", `{"jti": "a"}`, 404)
	do("POST", `{"identity": "mark", "issued_before": "`+now.Add(-30*time.Minute).UTC().Format(time.RFC3339)+`"}`, 200)
	check("what was issued early", "mark, earlier")
	do("POST", `{"all": true, "issued_before": "`+now.Add(-30*time.Minute).UTC().Format(time.RFC3339)+`"}`, 200)
	check("everybody's", "mark, earlier", "zoe, earlier")
	for _, body := range []string{`{}`, `{"jti": "a", "identity": "b"}`, `{"jti": "a", "issued_before": "2026-01-01T00:00:00Z"}`, `{"identity": ""}`, `{"token": "a"}`} {
		do("POST", body, 400)
	}
	// A restart forgets nothing.
	g.load("messenger support {\n identity_key identity\n shared_token\n}", "respond ok")
	if a := g.operator().do("GET", revocationsPath, nil); a.status != 200 || strings.Count(a.body, "issued_before") != 2 || !strings.Contains(a.body, `"until"`) {
		t.Errorf("the list: %d %s", a.status, a.body)
	}
	if a := g.operator().do("GET", "messengers/nobody/revocations", nil); a.status != 404 {
		t.Errorf("nobody's: got %d", a.status)
	}
}

// Revocations outlive the process. A gateway that cannot read them does not guess.
func TestUnreadableRevocationsPreventDecisions(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g, secret := startRevoking(t, up, "", supportSite)
	token := bearer(sign(secret, valid("mark")))
	if a := g.operator().do("POST", revocationsPath, `{"all": true}`); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if a := g.get("/", token); a.status != 401 {
		t.Errorf("revoked: got %d %s", a.status, a.body)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(g.log), "storage/messenger/support/config/facts/*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the record: %v %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	// Another storage path of the same place is another store, which has read nothing yet.
	other := "storage file_system DIR/./storage\n"
	g.load(other+"messenger support {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}", supportSite)
	if a := g.get("/", token); a.status != 503 || a.code(t) != "keys_unavailable" {
		t.Errorf("damaged: got %d %s", a.status, a.body)
	}
	up.none(t)
	if err := os.WriteFile(files[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the record is read again", func() bool { return g.get("/", token).status == 401 })
}

// An operator bans a contact with a blank too many, or copies the identity from the backend's log. What cannot revoke anything is not
// acknowledged, and what probably does not is said.
func TestIneffectiveRevocationIsRefused(t *testing.T) {
	g, secret := startRevoking(t, newUpstream(t), "", supportSite)
	for what, body := range map[string]string{
		"a blank behind": `{"identity": "Zoë "}`, "a blank before": `{"identity": " Zoë"}`, "a line break": `{"identity": "Zoë\n"}`, "a control character": `{"identity": "a\u0001b"}`,
		"a no-break space": `{"identity": "\u00a0Zoë"}`, "white space": `{"identity": " "}`, "a long one": `{"identity": "` + strings.Repeat("x", 256) + `"}`,
	} {
		for path, sent := range map[string]string{"": body, "/import": `{"revocations": [` + body + `]}`} {
			if status, text := g.admin(http.MethodPost, "messengers/support/revocations"+path, sent); status != 400 {
				t.Errorf("%s%s: got %d %s", what, path, status, text)
			}
		}
	}
	status, text := g.admin(http.MethodPost, "messengers/support/revocations", `{"identity": "Zo%C3%AB"}`)
	if status != 200 || !strings.Contains(text, "%XX") {
		t.Errorf("as the backend's header has it: got %d %s", status, text)
	}
	if a := g.get("/", bearer(sign(secret, valid("Zoë")))); a.status != 200 {
		t.Errorf("the contact: got %d", a.status)
	}
	if status, text = g.admin(http.MethodPost, "messengers/support/revocations", `{"identity": "Zoë"}`); status != 200 || strings.Contains(text, "warning") {
		t.Errorf("as the token has it: got %d %s", status, text)
	}
	if a := g.get("/", bearer(sign(secret, valid("Zoë")))); a.status != 401 {
		t.Errorf("the contact, revoked: got %d", a.status)
	}
}

// A contact logs out on a shared computer: the token is worthless from then on, and only theirs.
func TestLogout(t *testing.T) {
	up := newUpstream(t)
	g, secret := startRevoking(t, up, "allowed_origin https://www.example.com", "messenger_auth support {\n logout_path /logout\n}\nreverse_proxy UPSTREAM")
	named := func(jti string) string { return bearer(sign(secret, with(valid("mark"), claims{"jti": jti}))) }
	nameless, zoe := bearer(sign(secret, with(valid("mark"), claims{"n": 1}))), bearer(sign(secret, valid("zoe")))
	status := func(headers ...string) int { return g.get("/", headers...).status }

	if a := g.do("POST", "/logout", named("a"), "Origin: https://www.example.com"); a.status != 204 || a.header.Get("Access-Control-Allow-Origin") == "" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %v %s", a.status, a.header, a.body)
	}
	up.none(t)
	if status(named("a")) != 401 || status(named("b")) != 200 || status(nameless) != 200 || status(zoe) != 200 {
		t.Error("a token with a jti revokes itself, and nothing else")
	}
	if a := g.do("POST", "/logout", named("a")); a.status != 401 || a.code(t) != "token_revoked" {
		t.Errorf("again: got %d %s", a.status, a.body)
	}
	if a := g.do("POST", "/logout", nameless); a.status != 204 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if status(named("b")) != 401 || status(nameless) != 401 || status(zoe) != 200 {
		t.Error("a token without a jti revokes all of its contact, and no others")
	}
	up.take()
	// Nothing else does.
	for what, a := range map[string]answer{
		"without a token": g.do("POST", "/logout"),
		"forged":          g.do("POST", "/logout", bearer(sign(newSecret(), valid("zoe")))),
	} {
		if a.status != 401 {
			t.Errorf("%s: got %d %s", what, a.status, a.body)
		}
	}
	if a := g.get("/logout", zoe); a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("GET: got %d %v", a.status, a.header)
	}
	preflight := []string{"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"}
	if a := g.do("OPTIONS", "/logout", append(preflight, "Origin: https://www.example.com")...); a.status != 204 ||
		a.header.Get("Access-Control-Allow-Origin") != "https://www.example.com" || a.header.Get("Access-Control-Allow-Headers") != "Authorization" || a.header.Get("Access-Control-Allow-Methods") != "POST" {
		t.Errorf("preflight: got %d %v", a.status, a.header)
	}
	if a := g.do("OPTIONS", "/logout", append(preflight, "Origin: https://evil.example")...); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight from elsewhere: got %d %v", a.status, a.header)
	}
	up.none(t)
	if status(zoe) != 200 {
		t.Error("zoe is logged out")
	}
}

// One contact logs in and out again and again. That fills no list: others can still log out, and the early tokens stay
// revoked.
func TestLogoutsOfOneContactAreBounded(t *testing.T) {
	g, secret := startRevoking(t, nil, "", "messenger_auth support {\n logout_path /logout\n}\nrespond ok")
	first := ""
	for i := range 25 {
		token := bearer(sign(secret, with(valid("mark"), claims{"jti": string(rune('a' + i)), "iat": time.Now().Unix() - int64(60-i)})))
		if i == 0 {
			first = token
		}
		if a := g.do("POST", "/logout", token); a.status != 204 && a.status != 401 {
			t.Fatalf("%d: got %d %s", i, a.status, a.body)
		}
	}
	if a := g.get("/", first); a.status != 401 {
		t.Errorf("the first one: got %d", a.status)
	}
	if a := g.operator().do("GET", revocationsPath, nil); strings.Count(a.body, `"created"`) > 21 {
		t.Errorf("%d revocations of one contact are kept", strings.Count(a.body, `"created"`))
	}
}

// A logout that cannot be written down must not pass for one.
func TestUnpersistedLogoutIsReported(t *testing.T) {
	g, secret := startRevoking(t, nil, "", "messenger_auth support {\n logout_path /logout\n}\nrespond ok")
	// Where the store's folder should be stands a file.
	if err := os.MkdirAll(filepath.Join(filepath.Dir(g.log), "storage"), 0o700); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(filepath.Dir(g.log), "storage/messenger")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := bearer(sign(secret, valid("mark")))
	if a := g.do("POST", "/logout", token); a.status != 503 || a.code(t) != "store_unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := g.get("/", token); a.status != 200 {
		t.Errorf("afterwards: got %d %s", a.status, a.body)
	}
}
