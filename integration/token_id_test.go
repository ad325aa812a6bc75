package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A token whose jti is a number was reported as revoked, and stayed valid; one whose jti was long could not log out. A jti
// is a string or an integer, however long. What could not be revoked is not let in.
func TestTokensThatCannotBeRevokedAreRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	g, secret := startRevoking(t, nil, "", "messenger_auth support {\n logout_path /logout\n}\nrespond ok")
	now := time.Now().Unix()
	token := func(jti string) string {
		return bearer(forge(secret, `{"alg":"HS256"}`, fmt.Sprintf(`{"identity":"mark","iat":%d,"exp":%d,"jti":%s}`, now, now+3600, jti)))
	}
	for _, jti := range []string{`1.0`, `1.5`, `1e3`, `1E3`, `-0`, `true`, `false`, `null`, `[]`, `["a"]`, `{}`, `{"a":1}`} {
		for range 2 {
			if a := g.get("/", token(jti)); a.status != 401 || a.code(t) != "claim_invalid" {
				t.Errorf("%s: got %d %s", jti, a.status, a.body)
			}
		}
	}
	long := strings.Repeat("j", 5000)
	for i, tt := range []struct{ jti, revoke string }{
		{`"a"`, `"a"`}, {`12345`, `12345`}, {`12346`, `"12346"`}, {`"12347"`, `12347`}, {`9007199254740993`, `9007199254740993`}, {`0`, `0`}, {`-7`, `-7`},
		{`"` + long + `"`, `"` + long + `"`}, {strings.Repeat("9", 3000), `"` + strings.Repeat("9", 3000) + `"`}, {`"\u00e9 \/"`, `"é /"`},
	} {
		other := token(fmt.Sprintf(`"other %d"`, i))
		if g.get("/", token(tt.jti)).status != 200 || g.get("/", other).status != 200 {
			t.Fatalf("%.40s: not accepted at first", tt.jti)
		}
		g.operator().want(200, "POST", revocationsPath, `{"jti":`+tt.revoke+`}`)
		if a := g.get("/", token(tt.jti)); a.status != 401 || a.code(t) != "token_revoked" {
			t.Errorf("%.40s, revoked as %.40s: got %d %s", tt.jti, tt.revoke, a.status, a.body)
		}
		if g.get("/", other).status != 200 {
			t.Errorf("%.40s: another token is revoked with it", tt.jti)
		}
		g.operator().want(200, "DELETE", revocationsPath, `{"jti":`+tt.revoke+`}`)
		if a := g.get("/", token(tt.jti)); a.status != 200 {
			t.Errorf("%.40s, with the revocation undone: got %d %s", tt.jti, a.status, a.body)
		}
		// The contact logs out, and the operator undoes that revocation by the hash that the list shows.
		if a := g.do("POST", "/logout", token(tt.jti)); a.status != 204 || g.get("/", token(tt.jti)).status != 401 || g.get("/", other).status != 200 {
			t.Errorf("%.40s: logged out with %d %s", tt.jti, a.status, a.body)
		}
		g.operator().want(200, "DELETE", revocationsPath, `{"jti":`+tt.revoke+`}`)
	}
	// An empty one is none: a logout takes all of the contact's tokens.
	if a := g.do("POST", "/logout", token(`""`)); a.status != 204 || g.get("/", token(`"b"`)).status != 401 {
		t.Errorf("an empty jti: got %d %s", a.status, a.body)
	}
	for _, body := range []string{`{"jti":1.5}`, `{"jti":true}`, `{"jti":null}`, `{"jti":["a"]}`, `{"jti":""}`, `{"jti_sha256":"a"}`, `{"jti_sha256":"` + strings.Repeat("0", 62) + `"}`,
		`{"jti":"a","jti_sha256":"` + strings.Repeat("0", 64) + `"}`, `{"jti":"` + strings.Repeat("j", 9000) + `"}`} {
		g.operator().want(400, "POST", revocationsPath, body)
	}
}

// The record of a logout holds no more of a jti than its hash, and the operator can name it by that. Records from before
// hold the text, and are read.
func TestRevokedTokenIsListedByItsHash(t *testing.T) {
	site := "messenger_auth support {\n logout_path /logout\n}\nrespond ok"
	g, secret := startRevoking(t, nil, "", site)
	token := func(jti string) string { return bearer(sign(secret, with(valid("mark"), claims{"jti": jti}))) }
	if a := g.do("POST", "/logout", token("the-jti-of-mark")); a.status != 204 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	sum := sha256.Sum256([]byte("the-jti-of-mark"))
	hash := hex.EncodeToString(sum[:])
	storage := filepath.Join(filepath.Dir(g.log), "storage")
	for key, value := range files(t, storage) {
		if strings.Contains(string(value), "the-jti-of-mark") {
			t.Errorf("%s has the jti: %s", key, value)
		}
	}
	factFile(t, storage, "support", `"jti_sha256":"`+hash+`"`)
	if list := g.operator().want(200, "GET", revocationsPath, nil).body; !strings.Contains(list, hash) {
		t.Errorf("the list: %s", list)
	}
	g.operator().want(200, "DELETE", revocationsPath, `{"jti_sha256":"`+strings.ToUpper(hash)+`"}`)
	if a := g.get("/", token("the-jti-of-mark")); a.status != 200 {
		t.Errorf("undone by its hash: got %d %s", a.status, a.body)
	}
	g.operator().want(200, "POST", revocationsPath, `{"jti_sha256":"`+hash+`"}`)
	if a := g.get("/", token("the-jti-of-mark")); a.status != 401 {
		t.Errorf("revoked by its hash: got %d %s", a.status, a.body)
	}
	// A record as the first versions wrote it, before they stored hashes.
	if err := os.RemoveAll(filepath.Join(storage, "messenger", "support")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(storage, "messenger", "support"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := `{"revision":"A","version":1,"created":"2026-01-01T00:00:00Z","changed":"2026-01-01T00:00:00Z","revocations":[{"jti":"written before","contact":"mark","created":"2026-01-01T00:00:00Z"}]}`
	if err := os.WriteFile(filepath.Join(storage, "messenger", "support", "ring"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	g.load("storage file_system DIR/./storage\n"+"messenger support {\n identity_key identity\n shared_token {file."+write(t, "again", []byte(secret))+"}\n}", site)
	if a := g.get("/", token("written before")); a.status != 401 || a.code(t) != "token_revoked" {
		t.Errorf("a record from before: got %d %s", a.status, a.body)
	}
	if a := g.get("/", token("the-jti-of-mark")); a.status != 200 {
		t.Errorf("another token: got %d %s", a.status, a.body)
	}
}

// Without iat the gateway cannot know the lifetime of a token, and how long to keep its revocation. So max_lifetime requires iat.
func TestMaxLifetimeNeedsTheTimeOfIssue(t *testing.T) {
	g, secret := startRevoking(t, nil, "max_lifetime 1h\n clock_skew 10s", "messenger_auth support\nrespond ok")
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		c    claims
		code string
	}{
		"iat and exp":                  {claims{"iat": now, "exp": now + 3600}, ""},
		"without iat":                  {claims{"iat": nil, "exp": now + 60}, "claim_missing"},
		"without exp":                  {claims{"exp": nil}, "claim_missing"},
		"without both":                 {claims{"iat": nil, "exp": nil}, "claim_missing"},
		"longer":                       {claims{"iat": now, "exp": now + 3601}, "token_lifetime_too_long"},
		"an old token that lived long": {claims{"iat": now - 3600, "exp": now + 60}, "token_lifetime_too_long"},
	} {
		a := g.get("/", bearer(sign(secret, with(valid("mark"), tt.c))))
		if tt.code == "" && a.status != 200 || tt.code != "" && (a.status != 401 || a.code(t) != tt.code) {
			t.Errorf("%s: got %d %s, want %q", name, a.status, a.body, tt.code)
		}
	}
}
