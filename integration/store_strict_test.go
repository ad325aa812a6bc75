package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a request to the admin API says in a way that two readers take for two different things, or says and leaves empty, is refused.
// Otherwise a member that is lost on the way would make a change larger: an operation without a filter is one on everything.
func TestAmbiguousAdminRequestsAreRefused(t *testing.T) {
	messengers, secret := strict(t, "")
	up := newChat(t)
	g := start(t, up.upstream, messengers, guardedSite)
	o := g.operator()
	o.put("acme", map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "audience": []string{"chat"}})
	o.generate("acme")
	token, _ := lasting(secret, "mark", time.Hour)
	s, status := protocols[0].open(g, "/echo", token)
	if status != 101 {
		t.Fatalf("got %d", status)
	}
	before := o.want(200, "GET", "messengers", nil).body + o.want(200, "GET", "messengers/acme/tokens", nil).body
	secretName := "mst_" + strings.Repeat("A1b2C3d4", 6)
	for _, c := range []struct{ method, path, body, says string }{
		{"POST", "connections/end", `{"messenger":"support","identity":""}`, "identity"},
		{"POST", "connections/end", `{"messenger":"support","identity":null}`, "identity"},
		{"POST", "connections/end", `{"messenger":"support","key":""}`, "key"},
		{"POST", "connections/end", `{"messenger":"support","token_id":""}`, "token_id"},
		{"POST", "connections/end", `{"messenger":"support","token_id":null}`, "token_id"},
		{"POST", "connections/end", `{"messenger":"support","token_id_sha256":""}`, "token_id_sha256"},
		{"POST", "connections/end", `{"messenger":"support","token_id":"a","token_id_sha256":"` + strings.Repeat("0", 64) + `"}`, "token_id"},
		{"POST", "connections/end", `{"messenger":"support","issued_before":null}`, "issued_before"},
		{"POST", "connections/end", `{"messenger":"support","issued_before":"0001-01-01T00:00:00Z"}`, "issued_before"},
		{"POST", "connections/end", `{"messenger":"support","issued_before":"0001-01-01T01:00:00+01:00"}`, "issued_before"},
		{"POST", "connections/end", `{"messenger":"support","identity":"eve","Identity":""}`, "Identity"},
		{"POST", "connections/end", `{"messenger":"support","identity":"eve","identity":"mark"}`, "two members"},
		{"POST", "connections/end", `{"messenger":"support","IDENTITY":"eve"}`, "IDENTITY"},
		{"POST", "connections/end", `{"messenger":"support","ıdentity":"eve"}`, "unknown member"},
		{"POST", "connections/end", "{\"messenger\":\"support\",\"identity\":\"mark\xff\"}", "UTF-8"},
		{"POST", "connections/end", `{"messenger":"support","identity":"mark\ud800"}`, "surrogate"},
		{"PUT", "messengers/acme", `{"identity_key":"identity","shared_token":{},"audience":["chat"],"audience":[]}`, "two members"},
		{"PUT", "messengers/acme", `{"identity_key":"identity","shared_token":{},"audience":null}`, "audience"},
		{"PUT", "messengers/acme", `{"identity_key":"identity","shared_token":{},"Mode":"off"}`, "Mode"},
		{"PUT", "messengers/acme", `{"identity_key":"identity","shared_token":{},"mode":""}`, "mode"},
		{"PUT", "messengers/acme", `{"identity_key":"identity","shared_token":{},"audience":[null]}`, "null"},
		{"PUT", "messengers/acme", `{"identity_key":"identity","jwks":{"url":"https://login.example.com/","URL":"https://evil.example.com/"}}`, "URL"},
		{"PUT", "messengers/acme?confirm=1&keep_previous=24%", `{"identity_key":"identity","jwks":{"url":"https://login.example.com/"}}`, "query"},
		{"PUT", "messengers/acme?confirm=1&keep_previous=24h;", `{"identity_key":"identity","jwks":{"url":"https://login.example.com/"}}`, "query"},
		{"PUT", "messengers/acme?confirm=1&keep_previous=", `{"identity_key":"identity","jwks":{"url":"https://login.example.com/"}}`, "keep_previous"},
		{"DELETE", "messengers/acme?confirm=1", ``, "confirm"},
		{"POST", revocationsPath, `{"all":true,"identity":""}`, "identity"},
		{"POST", revocationsPath, `{"all":true,"jti":null}`, "jti"},
		{"POST", revocationsPath, `{"jti":"a","jti":"b"}`, "two members"},
		{"POST", revocationsPath, `{"jti":"a","until":"2020-01-01T00:00:00Z"}`, "until"},
		{"POST", revocationsPath, `{"jti":"a","until":"0001-01-01T00:00:00Z"}`, "until"},
		{"POST", "import", `{"dry_run":true,"Dry_Run":false,"lines":[]}`, "Dry_Run"},
		{"POST", "messengers/acme/tokens/rotate", `{"overlap":"24h","overlap":0,"confirm":1}`, "two members"},
		{"POST", "messengers/acme/tokens/rotate", `{"overlap":"-1h"}`, "overlap"},
		{"POST", "messengers/acme/tokens/rotate", `{"overlap":"366d"}`, "overlap"},
		{"POST", "messengers/acme/tokens/generate", `{"secret":""}`, "secret"},
		{"POST", "messengers/acme/tokens/generate", `{"confirm":0}`, "confirm"},
		{"POST", "messengers/acme/tokens/generate", `{"close_connections":false}`, "close_connections"},
		{"POST", "messengers/acme/tokens/extend", `{"kid":"a","overlap":"0s"}`, "above 0"},
		{"POST", "messengers/acme/tokens/import", `{"secret":"` + strings.Repeat("x", 40) + `\ud800"}`, "surrogate"},
		{"POST", "messengers/acme/tokens/import", `{"` + secretName + `":1}`, "unknown member"},
		{"POST", "messengers/acme/explain", `{"` + sign(secret, valid("mark")) + `":1}`, "unknown member"},
		{"POST", "messengers/acme/explain", `{"token":" \n"}`, "no token"},
		{"GET", "messengers?methd=jwks", ``, "methd"},
		{"GET", "messengers?method=jwks%", ``, "query"},
		{"GET", "messengers?source=stored;mode=off", ``, "query"},
		{"GET", "messengers?mode=&mode=off", ``, "mode"},
		{"GET", "connections?messenger=support", ``, "messenger"},
		{"GET", "messengers?" + secretName + "=1", ``, "query"},
	} {
		t.Run(fmt.Sprintf("%s %.60s %.80s", c.method, c.path, c.body), func(t *testing.T) {
			o := &operator{t, o.sock}
			headers := []string{}
			if c.method == "PUT" {
				headers = append(headers, "If-Match: *")
			}
			var body any
			if c.body != "" {
				body = c.body
			}
			said := o.refused(http.StatusBadRequest, c.method, c.path, body, headers...)
			if !strings.Contains(said, c.says) || strings.Contains(said, "mst_") || strings.Contains(said, "eyJ") {
				t.Errorf("it says %q, want %q", said, c.says)
			}
		})
	}
	for _, lines := range [][]string{{"If-Match: "}, {"If-Match: *", `If-Match: "nope"`}} {
		r, err := http.NewRequest(http.MethodDelete, "http://caddy/messenger/messengers/acme", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
		resp, err := socketClient(o.sock).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != 400 {
			t.Errorf("with %q: got %d", lines, resp.StatusCode)
		}
	}
	s.lives(t, "mark")
	if got := o.want(200, "GET", revocationsPath, nil).body; strings.TrimSpace(got) != "[]" {
		t.Errorf("revoked is %s", got)
	}
	if after := o.want(200, "GET", "messengers", nil).body + o.want(200, "GET", "messengers/acme/tokens", nil).body; after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
}

// A number is a duration in nanoseconds, as everywhere in Caddy. A client that means seconds ends its shared tokens at once, and has to
// confirm that.
func TestImmediateRotationNeedsConfirmation(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	first := o.generate("acme")
	for _, overlap := range []any{0, 1, 86400, "1ns", "999ms"} {
		if said := o.refused(428, "POST", "messengers/acme/tokens/rotate", map[string]any{"overlap": overlap}); !strings.Contains(said, "confirm the number 1") {
			t.Errorf("%v: %s", overlap, said)
		}
		g.expect("200", "/m/acme/x", first.signed())
	}
	o.makeToken("rotate", "acme", map[string]any{"overlap": 86400, "confirm": 1})
	g.expect("401 signature_invalid", "/m/acme/x", first.signed())
}

// A list of revocations may have some whose tokens have expired meanwhile. They are not made, and are said to be none.
func TestRevocationsThatHaveExpiredAreNotImported(t *testing.T) {
	_, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	body := fmt.Sprintf(`{"revocations":[{"jti":"old","until":"2020-01-01T00:00:00Z"},{"jti":"new","until":%q},{"jti":"new","until":%q}]}`,
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	if got := strings.TrimSpace(o.want(200, "POST", "messengers/acme/revocations/import", body).body); got != `{"revoked":1,"unchanged":2,"connections_ended":0}` {
		t.Errorf("got %s", got)
	}
	if got := o.want(200, "GET", "messengers/acme/revocations", nil).body; strings.Contains(got, "old") || strings.Count(got, "new") != 1 {
		t.Errorf("the list is %s", got)
	}
}

// A body that is too large is refused with an answer, and not with a connection that is reset while the client still sends.
func TestLargeAdminRequestIsAnswered(t *testing.T) {
	_, o := startLive(t, newUpstream(t))
	for range 5 {
		a, err := o.send("PUT", "messengers/acme", `{"identity_key":"`+strings.Repeat("x", 4<<20)+`","shared_token":{}}`)
		if err != nil || a.status != 413 {
			t.Errorf("got %d, %v", a.status, err)
		}
	}
}
