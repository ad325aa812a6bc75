package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// startWithRing runs a gateway whose storage has this record of the messenger support.
func startWithRing(t *testing.T, options string, record map[string]any) (*gateway, string) {
	t.Helper()
	folder, secret := t.TempDir(), newSecret()
	if record != nil {
		if err := os.MkdirAll(filepath.Join(folder, "messenger/support"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "messenger/support/ring"), []byte(mustJSON(record)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := start(t, nil, "storage file_system "+folder+"\nmessenger support {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n "+options+"\n}",
		"messenger_auth support {\n logout_path /logout\n}\nrespond ok")
	return g, secret
}

// tokenFrom is a token with a jti, made by a clock that is ahead by so much.
func tokenFrom(secret, identity, jti string, ahead time.Duration) string {
	c := valid(identity)
	c["iat"] = time.Now().Add(ahead).Unix()
	if jti != "" {
		c["jti"] = jti
	}
	return bearer(sign(secret, c))
}

// A signing key was stolen on the day on which the list of revocations is full. All tokens can be revoked nevertheless,
// and undoing that brings none of the others back.
func TestRevokeAllFitsIntoAFullList(t *testing.T) {
	list := make([]map[string]any, 10_000)
	for i := range list {
		list[i] = map[string]any{"jti": fmt.Sprintf("5f0c2a7e-0000-0000-0000-%012d", i), "contact": fmt.Sprint("contact ", i), "created": time.Now().UTC()}
	}
	g, secret := startWithRing(t, "", map[string]any{"revision": "x", "version": 1, "created": time.Now().UTC(), "changed": time.Now().UTC(), "revocations": list})
	o := g.operator()
	mark, revoked := tokenFrom(secret, "mark", "", 0), tokenFrom(secret, "zoe", list[7]["jti"].(string), 0)
	want := func(when string, marks int) {
		t.Helper()
		if a := g.get("/", mark); a.status != marks {
			t.Errorf("%s, mark: got %d %s", when, a.status, a.body)
		}
		if a := g.get("/", revoked); a.status != 401 {
			t.Errorf("%s, a token that is on the list: got %d %s", when, a.status, a.body)
		}
	}
	want("before", 200)
	o.refused(409, "POST", revocationsPath, `{"jti": "one more"}`)
	o.refused(409, "POST", revocationsPath, `{"identity": "one more"}`)
	for range 2 {
		o.want(200, "POST", revocationsPath, `{"all": true}`)
		want("after all", 401)
	}
	o.want(200, "DELETE", revocationsPath, `{"all": true}`)
	want("when all was undone", 200)
}

// A site's clock is 40 s ahead. Its contact logs in and out more often than single tokens are kept for: all of these
// tokens stay logged out, nobody can undo that by mistake, and the next login works at once.
func TestManyLogoutsAtASiteWhoseClockIsAhead(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, ahead := range []time.Duration{40 * time.Second, 59 * time.Second, 0, -40 * time.Second, -10 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			g, secret := startWithRing(t, "", nil)
			var tokens []string
			for i := range 45 {
				tokens = append(tokens, tokenFrom(secret, "mark", fmt.Sprint("token ", i), ahead-time.Duration(100-2*i)*time.Second))
				if a := g.do("POST", "/logout", tokens[i]); a.status != 204 {
					t.Fatalf("logout %d: got %d %s", i, a.status, a.body)
				}
			}
			check := func(when string) {
				t.Helper()
				for i, token := range tokens {
					if a := g.get("/", token); a.status != 401 || a.code(t) != "token_revoked" {
						t.Fatalf("%s, token %d: got %d %s", when, i, a.status, a.body)
					}
				}
				for _, token := range []string{tokenFrom(secret, "mark", "new", ahead), tokenFrom(secret, "zoe", "old", ahead-time.Hour+time.Minute)} {
					if a := g.get("/", token); a.status != 200 {
						t.Errorf("%s: got %d %s", when, a.status, a.body)
					}
				}
			}
			check("after the logouts")
			g.operator().refused(409, "DELETE", revocationsPath, `{"identity": "mark"}`)
			check("after an attempt to undo them")
			g.operator().want(200, "POST", revocationsPath, `{"identity": "mark", "issued_before": "2020-01-01T00:00:00Z"}`)
			g.operator().want(200, "DELETE", revocationsPath, `{"identity": "mark"}`)
			check("after a revocation of the contact was undone")
		})
	}
}

// A phone is stolen. The site's clock is ahead of the gateway's, as far as clock_skew allows: its tokens say that they
// are of a time after the revocation, and are revoked all the same.
func TestRevocationByTimeCoversClocksAhead(t *testing.T) {
	for name, body := range map[string]string{"a contact": `{"identity": "mark"}`, "all": `{"all": true}`} {
		t.Run(name, func(t *testing.T) {
			g, secret := startWithRing(t, "", nil)
			stolen := tokenFrom(secret, "mark", "stolen", 40*time.Second)
			if a := g.get("/", stolen); a.status != 200 {
				t.Fatalf("before: got %d %s", a.status, a.body)
			}
			g.operator().want(200, "POST", revocationsPath, body)
			if a := g.get("/", stolen); a.status != 401 {
				t.Errorf("after: got %d %s", a.status, a.body)
			}
			g.operator().want(200, "DELETE", revocationsPath, body)
			if a := g.get("/", stolen); a.status != 200 {
				t.Errorf("undone: got %d %s", a.status, a.body)
			}
		})
	}
	g, secret := startWithRing(t, "clock_skew 0s", nil)
	g.operator().want(200, "POST", revocationsPath, `{"identity": "mark"}`)
	eventually(t, "without clock_skew the next login works", func() bool { return g.get("/", tokenFrom(secret, "mark", "", 0)).status == 200 })
}

// Tokens of a day were revoked while ten minutes were the longest life. When that was over the revocation was forgotten,
// and a longer max_lifetime would let them in again.
func TestLongerMaxLifetimeKeepsTokensRevoked(t *testing.T) {
	long := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	record := map[string]any{"revision": "x", "version": 1, "created": long, "changed": long, "revocations": []map[string]any{
		{"identity": "mark", "issued_before": long, "created": long, "until": long.Add(12 * time.Minute)},
		{"jti": "stolen", "created": long, "until": long.Add(12 * time.Minute)},
	}}
	for _, options := range []string{"", "max_lifetime 48h"} {
		g, secret := startWithRing(t, options, record)
		token := func(identity, jti string) string {
			return bearer(sign(secret, claims{"identity": identity, "jti": jti, "iat": long.Add(-time.Minute).Unix(), "exp": long.Add(23 * time.Hour).Unix()}))
		}
		check := func(when string) {
			t.Helper()
			for what, want := range map[[2]string]int{{"mark", "a"}: 401, {"zoe", "stolen"}: 401, {"zoe", "b"}: 200} {
				if a := g.get("/", token(what[0], what[1])); a.status != want {
					t.Errorf("%q, %s, %v: got %d %s", options, when, what, a.status, a.body)
				}
			}
		}
		check("at load")
		g.operator().want(200, "POST", revocationsPath, `{"jti": "another"}`)
		check("after another revocation")
	}
}
