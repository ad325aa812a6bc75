package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Claims are forwarded for convenience. None of them may cost a contact the request, and none may break the header line.
func TestClaimHeaders(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, "metrics\n"+m.messengers, `
		messenger_auth support {
			claim_header name X-Contact-Name
			claim_header a X-A
			claim_header b X-B
			claim_header c X-C
			claim_header d X-D
		}
	`+mirrored)
	send := func(members string) http.Header {
		t.Helper()
		if a := g.get("/", bearer(forge(m.key.(string), `{"alg":"HS256"}`, `{"identity":"mark",`+members+`}`))); a.status != 200 {
			t.Fatalf("%s: got %d %s", members, a.status, a.body)
		}
		h := up.one(t).header
		if got := h.Get("X-Contact-Identity"); got != "mark" {
			t.Errorf("%s: the identity arrives as %q", members, got)
		}
		return h
	}
	for value, want := range map[string]string{
		`"Zoë"`:                      "Zo%C3%AB",
		`"\r\nX-Contact-Messenger:"`: "%0D%0AX-Contact-Messenger:",
		`" edges "`:                  "%20edges%20",
		`"\u0000"`:                   "%00",
		`""`:                         "",
		`true`:                       "true",
		`1.50`:                       "1.50",
		`9007199254740993`:           "9007199254740993",
		`[ 1, "a b" , null ]`:        `[1,"a b",null]`,
		"{ \"b\" : 1,\n \"a\": [ ]}": "%7B\"b\":1,\"a\":[]%7D",
		`"{env.HOME}"`:               "%7Benv.HOME%7D",
		`"<b>&\u2028"`:               "<b>&%E2%80%A8",
	} {
		h := send(`"name":` + value)
		if got := h["X-Contact-Name"]; len(got) != 1 || got[0] != want {
			t.Errorf("%s arrives as %q, want %q", value, got, want)
		}
		if got := h.Get("X-Claim"); got != want {
			t.Errorf("%s: the placeholder says %q, want %q", value, got, want)
		}
		if got := h.Get("X-Contact-Messenger"); got != "support" {
			t.Errorf("%s: the messenger became %q", value, got)
		}
	}
	for _, members := range []string{`"x":1`, `"name":null`, `"Name":"eve"`, `"name ":"eve"`} {
		if got, found := send(members)["X-Contact-Name"]; found {
			t.Errorf("%s: the header is %q, want none", members, got)
		}
	}

	dropped := g.metric(`caddy_messenger_auth_claims_dropped_total`)
	kilobyte := strings.Repeat("x", 1<<10)
	for _, value := range []string{kilobyte + "x", strings.Repeat("ë", 171)} { // 171 letters are 1026 bytes when encoded
		h := send(`"name":"` + value + `","a":"kept"`)
		if got, found := h["X-Contact-Name"]; found || h.Get("X-A") != "kept" {
			t.Errorf("a claim of more than 1 KiB arrives: %q, and beside it %q", got, h["X-A"])
		}
	}
	if got := send(`"name":"` + kilobyte + `"`).Get("X-Contact-Name"); got != kilobyte {
		t.Errorf("a claim of 1 KiB arrives with %d bytes", len(got))
	}
	h := send(fmt.Sprintf(`"name":%q,"a":%[1]q,"b":%[1]q,"c":%[1]q,"d":"one too many"`, kilobyte))
	if got, found := h["X-D"]; found || h.Get("X-C") != kilobyte {
		t.Errorf("more than 4 KiB of claims arrive: %q", got)
	}
	if got := g.metric(`caddy_messenger_auth_claims_dropped_total`) - dropped; got != 3 {
		t.Errorf("%v dropped claims were counted, want 3", got)
	}
}

// metric returns the sum of a metric's samples, as the admin endpoint shows them.
func (g *gateway) metric(name string) (sum float64) {
	g.t.Helper()
	resp, err := g.adminClient().Get("http://caddy/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, name); found {
			var value float64
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &value); err != nil {
				g.t.Fatalf("%s: %v", line, err)
			}
			sum += value
		}
	}
	return sum
}
