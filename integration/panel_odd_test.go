package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// An attacker, a broken client and an old proxy send what no browser sends: fields twice, thousands of fields, bytes that are not UTF-8,
// NUL bytes, cursors and numbers that were made up. No shared token is changed, and nothing fails in the gateway.
func TestPanelWithstandsOddRequests(t *testing.T) {
	g := startPanel(t, nil, "messenger fixed {\nidentity_key identity\nshared_token\n}")
	u := g.panelOperator()
	u.create("acme")
	before := g.operator().ring("acme")
	revision, ring := u.get("?messenger=acme").revision(t), u.get("?messenger=acme&page=keys").revision(t)
	for _, query := range []string{
		"?search=%00", "?search=%ff%fe", "?search=" + strings.Repeat("a", 8000), "?search=%0A", "?after=%ff", "?after=%00", "?sort=changed&after=%00",
		"?sort=changed&after=9999-99-99", "?sort=changed&after=2026-01-01T00:00:00Z", "?sort=changed&after=0000-01-01T00:00:00Z%20%00", "?sort=changed&after=2026-01-01T00:00:00Z+acme+x",
		"?mode=%ff", "?method=required", "?source=*", "?messenger=%ff", "?messenger=acme%00", "?messenger=acme;page=keys", "?messenger=acme&page=%00", "?page=__proto__", "?page=constructor",
		"?messenger=acme&page=revocations&from=-1", "?messenger=acme&page=revocations&from=99999999999999999999", "?messenger=acme&page=revocations&from=9223372036854775807",
		"?messenger=acme&done=%00&ended=9e9", "?done=deleted&ended=-1", "?asset=%00", "?asset=..%2fpanel.css", "?asset=pages/panel.css", "?%", "?=&&&;", "?messenger[]=acme", "?messenger=acme&page=keys&page=delete",
	} {
		if a := u.get(query); a.status >= 500 {
			t.Errorf("%s: %d %s", query, a.status, a.text())
		}
	}
	forms := map[string]url.Values{
		"":            {"name": {"acme"}, "revision": {revision}, "method": {"shared_token"}, "identity_key": {"identity"}, "audience": {"chat"}, "confirm": {"yes"}},
		"keys":        {"revision": {ring}, "action": {"revoke"}, "kid": {"x"}, "confirm": {"yes"}, "overlap": {"1h"}, "label": {"x"}, "secret": {"x"}},
		"test":        {"token": {"a.b.c"}},
		"revocations": {"what": {"contact"}, "contact": {"mark"}, "token": {"x"}, "hash": {"x"}, "action": {"look"}, "key": {"x"}, "until": {"x"}, "revision": {"x"}},
		"embed":       {"address": {"https://chat.example.com/"}},
		"enforce":     {"revision": {"x"}, "confirm": {"yes"}},
		"delete":      {"typed": {"x"}, "revision": {revision}},
	}
	for page, form := range forms {
		query := "?messenger=acme&page=" + page
		for field := range form {
			for _, odd := range []string{"%00", "%ff%fe", "%f0%9f%98", "a%00b", "%E2%80%AE", "%0D%0A", "x&" + field + "=y", "[]", strings.Repeat("%61", 10000)} {
				var body strings.Builder
				for name, values := range form {
					value := url.QueryEscape(values[0])
					if name == field {
						value = odd
					}
					fmt.Fprintf(&body, "&%s=%s", name, value)
				}
				if a := u.sendText(query, body.String()[1:]); a.status >= 500 {
					t.Errorf("%s, %s=%.40s: %d %s", page, field, odd, a.status, a.text())
				}
			}
		}
		for name, body := range map[string]string{"many fields": strings.Repeat("a=&", 20_000), "many keys": strings.Repeat("key=x&kid=y&alg=z&", 3_000), "no pairs": strings.Repeat("&", 60_000), "a bad escape": "a=%zz", "semicolons": "action=reset;confirm=yes"} {
			if a := u.sendText(query, body); a.status >= 500 || a.status < 400 && page != "test" {
				t.Errorf("%s, %s: %d %s", page, name, a.status, a.text())
			}
		}
	}
	if now := g.operator().ring("acme"); len(now.Tokens) != 1 || now.Tokens[0].KID != before.Tokens[0].KID || now.Tokens[0].End != nil {
		t.Errorf("the shared tokens have changed: %v", now)
	}
	if log := strings.Join(linesOf(g.logs(), ""), ""); strings.Contains(log, "panic") {
		t.Errorf("something has panicked: %s", log)
	}
}

// sendText sends a form as it is written.
func (u panelUser) sendText(query, body string) answer {
	u.g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, u.g.url+u.path+query, strings.NewReader(body))
	if err != nil {
		u.g.t.Fatal(err)
	}
	r.SetBasicAuth(u.name, panelPassword)
	r.Header = http.Header{"Authorization": r.Header["Authorization"], "Content-Type": {"application/x-www-form-urlencoded"}, "Sec-Fetch-Site": {"same-origin"}}
	resp, err := plainClient.Do(r)
	if err != nil {
		u.g.t.Fatalf("%s: %v", query, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		u.g.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}
