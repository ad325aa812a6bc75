package integration

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What each mode does with each kind of token. "" passes without an identity, "mark" with it, and anything else is the
// code of a refusal.
var modeOutcomes = map[string]map[string]string{
	"required": {"no token": "token_missing", "a valid token": "mark", "an expired token": "token_expired", "a forged token": "signature_invalid", "two tokens": "token_ambiguous", "no JWT": "token_malformed"},
	"optional": {"no token": "", "a valid token": "mark", "an expired token": "token_expired", "a forged token": "signature_invalid", "two tokens": "token_ambiguous", "no JWT": "token_malformed"},
	"report":   {"no token": "", "a valid token": "mark", "an expired token": "", "a forged token": "", "two tokens": "", "no JWT": ""},
	"off":      {"no token": "", "a valid token": "", "an expired token": "", "a forged token": "", "two tokens": "", "no JWT": ""},
}

// A mode is the operator's promise about what reaches the backend. The dangerous confusion is in "optional": a
// client with an invalid token is not anonymous, or an attacker could become anonymous by damaging a token.
func TestModes(t *testing.T) {
	if !alone(t) {
		return
	}
	m := methods(t)[0]
	reasons := modeOutcomes["required"]
	for _, place := range []string{"messenger", "directive"} {
		for mode, outcomes := range modeOutcomes {
			t.Run(mode+" of the "+place, func(t *testing.T) {
				up := newUpstream(t)
				messengers, site := m.messengers, "messenger_auth support {\n mode "+mode+"\n}\nreverse_proxy UPSTREAM"
				other := map[bool]string{true: "off", false: "required"}[mode == "required"]
				if place == "messenger" {
					other, site = mode, "messenger_auth support\nreverse_proxy UPSTREAM"
				}
				messengers = strings.Replace(messengers, "identity_key", "mode "+other+"\n identity_key", 1)
				g := start(t, up, "metrics\n"+messengers, site)
				for name, lines := range map[string][]string{
					"no token": nil, "a valid token": {bearer(sign(m.key, valid("mark")))}, "an expired token": {bearer(sign(m.key, with(valid("mark"), claims{"exp": 1})))},
					"a forged token": {bearer(sign(newSecret(), valid("mark")))}, "two tokens": {bearer(sign(m.key, valid("mark"))), bearer(sign(m.key, valid("eve")))}, "no JWT": {bearer("hello")},
				} {
					counter := fmt.Sprintf(`caddy_messenger_auth_requests_total{code=%q,messenger="support",method="shared_token",mode=%q}`, verdict(reasons[name]), mode)
					before := g.metric(counter)
					a := g.get("/", lines...)
					checkMode(t, name, a, up, outcomes[name])
					if counted := g.metric(counter) - before; mode != "off" && counted != 1 {
						t.Errorf("%s: counted %v times as %s, want once", name, counted, counter)
					}
					if mode == "report" && name != "a valid token" {
						g.waitForLog("would be refused: " + reasons[name])
					}
				}
			})
		}
	}
}

func verdict(outcome string) string {
	if outcome == "mark" {
		return "verified"
	}
	return outcome
}

func checkMode(t *testing.T, name string, a answer, up *upstream, want string) {
	t.Helper()
	if want != "" && want != "mark" {
		if a.status != 401 && a.status != 400 || a.code(t) != want {
			t.Errorf("%s: got %d %s, want %s", name, a.status, a.body, want)
		}
		up.none(t)
		return
	}
	if a.status != 200 {
		t.Errorf("%s: got %d %s, want 200", name, a.status, a.body)
		return
	}
	if got := up.one(t).header.Get("X-Contact-Identity"); got != want {
		t.Errorf("%s: the identity arrives as %q, want %q", name, got, want)
	}
}

// A browser sends a preflight by itself and without credentials (Fetch standard, section 4.8). It passes as anonymous. A request that
// only resembles a preflight does not pass, because it could have an effect.
func TestOnlyARealPreflightPasses(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
	const origin, asks = "Origin: https://www.example.com\r\n", "Access-Control-Request-Method: POST\r\n"
	for _, test := range []struct {
		name, request string
		code          string // "" passes
		identity      string
	}{
		{"a preflight", "OPTIONS / HTTP/1.1\r\n" + origin + asks, "", ""},
		{"with headers asked for", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "Access-Control-Request-Headers: authorization\r\n", "", ""},
		{"with a made-up identity", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "X-Contact-Identity: eve\r\n", "", ""},
		{"without an Origin", "OPTIONS / HTTP/1.1\r\n" + asks, "token_missing", ""},
		{"without a method asked for", "OPTIONS / HTTP/1.1\r\n" + origin, "token_missing", ""},
		{"two origins", "OPTIONS / HTTP/1.1\r\n" + origin + origin + asks, "token_missing", ""},
		{"with a body", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "Content-Length: 2\r\n\r\nhi", "token_missing", ""},
		{"with a chunked body", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "token_missing", ""},
		{"from a sandboxed page", "OPTIONS / HTTP/1.1\r\nOrigin: null\r\n" + asks, "", ""},
		{"from an app", "OPTIONS / HTTP/1.1\r\nOrigin: capacitor://localhost\r\n" + asks, "", ""},
		{"with an origin that is none", "OPTIONS / HTTP/1.1\r\nOrigin: x\r\n" + asks, "token_missing", ""},
		{"with an empty origin", "OPTIONS / HTTP/1.1\r\nOrigin:\r\n" + asks, "token_missing", ""},
		{"with no method behind the question", "OPTIONS / HTTP/1.1\r\n" + origin + "Access-Control-Request-Method:\r\n", "token_missing", ""},
		{"with two methods", "OPTIONS / HTTP/1.1\r\n" + origin + asks + asks, "token_missing", ""},
		{"with a list of methods", "OPTIONS / HTTP/1.1\r\n" + origin + "Access-Control-Request-Method: GET, POST\r\n", "token_missing", ""},
		{"that a framework takes for a POST", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "X-HTTP-Method-Override: POST\r\n", "token_missing", ""},
		{"that a framework behind CGI takes for a POST", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "X-HTTP!Method~Override: POST\r\n", "token_missing", ""},
		{"with a scheme and no token", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "Authorization: Bearer\r\n", "token_malformed", ""},
		{"with undefined for a token", "OPTIONS / HTTP/1.1\r\n" + origin + asks + "Authorization: Bearer undefined\r\n", "token_malformed", ""},
		{"a GET that says so", "GET / HTTP/1.1\r\n" + origin + asks, "token_missing", ""},
		{"with an invalid token", "OPTIONS / HTTP/1.1\r\n" + origin + asks + bearer("hello") + "\r\n", "token_malformed", ""},
		{"with a valid token", "OPTIONS / HTTP/1.1\r\n" + origin + asks + bearer(sign(m.key, valid("mark"))) + "\r\n", "", "mark"},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, rest, _ := strings.Cut(test.request, "\r\n")
			a := g.raw(first + "\r\nHost: " + g.addr + "\r\nConnection: close\r\n" + rest + "\r\n")
			if test.code != "" {
				if a.status != 401 || a.code(t) != test.code {
					t.Errorf("got %d %s, want 401 %s", a.status, a.body, test.code)
				}
				up.none(t)
				return
			}
			if r := up.one(t); a.status != 200 || r.header.Get("X-Contact-Identity") != test.identity || test.identity == "" && len(ownHeaders(r.header)) != 0 {
				t.Errorf("got %d, the upstream saw %v, want the identity %q", a.status, r.header, test.identity)
			}
		})
	}
}

// Many sites share a gateway, and the address names the messenger. A token for one messenger is refused by another, and the name is
// found in every spelling of the address.
func TestMessengerOfTheAddress(t *testing.T) {
	secrets := map[string]string{"support": newSecret(), "sales": newSecret()}
	messengers := ""
	for name, secret := range secrets {
		messengers += "messenger " + name + " {\n identity_key identity\n shared_token {file." + write(t, name, []byte(secret)) + "}\n}\n"
	}
	up := newUpstream(t)
	g := newGateway(t, up, "http://")
	_, port, _ := strings.Cut(g.addr, ":")
	g.load(messengers, "messenger_auth {path.1}\nreverse_proxy UPSTREAM\n}\nhttp://:"+port+" {\nmessenger_auth {labels.2}\nreverse_proxy UPSTREAM")
	for _, test := range []struct {
		path, host string
		messenger  string // "" is none
	}{
		{"/chat/support/a", "", "support"}, {"/chat/sales", "", "sales"}, {"/chat/SUPPORT/", "", "support"}, {"/chat/%73upport/", "", "support"},
		{"/chat/nobody/", "", ""}, {"/chat//support", "", ""}, {"/chat/", "", ""}, {"/", "", ""}, {"/chat/..%2Fsupport", "", ""}, {"/chat/support%00", "", ""}, {"/chat/support%20/", "", ""},
		{"/chat/support%2F..%2Fsales", "", ""}, {"/chat/support/../sales", "", ""},
		{"/chat/%7Benv.HOME%7D/", "", ""}, {"/chat/%7Bhttp.request.header.X%7D/", "", ""},
		{"/", "support.example.com", "support"}, {"/", "SALES.example.com", "sales"}, {"/", "nobody.example.com", ""}, {"/", "support.sales.example.com", "sales"}, {"/", "example.com", ""},
	} {
		for name, secret := range secrets {
			t.Run(fmt.Sprintf("%s%s, a token for %s", test.host, test.path, name), func(t *testing.T) {
				a := g.raw("GET " + test.path + " HTTP/1.1\r\nHost: " + cmp.Or(test.host, g.addr) + "\r\nConnection: close\r\nX: support\r\n" + bearer(sign(secret, valid("mark"))) + "\r\n\r\n")
				switch test.messenger {
				case "":
					if a.status != 404 || a.code(t) != "messenger_unknown" {
						t.Errorf("got %d %s, want 404 messenger_unknown", a.status, a.body)
					}
					up.none(t)
				case name:
					if r := up.one(t); a.status != 200 || r.header.Get("X-Contact-Messenger") != name {
						t.Errorf("got %d %s, the messenger %q", a.status, a.body, r.header.Get("X-Contact-Messenger"))
					}
				default:
					if a.status != 401 || a.code(t) != "signature_invalid" {
						t.Errorf("got %d %s, want 401 signature_invalid", a.status, a.body)
					}
					up.none(t)
				}
			})
		}
	}
}

// Routes nest, and a request can reach two messenger_auth handlers. The second one does not verify again: the result of the first is
// final, although it has removed the token. If the two are for different messengers, no answer is right, and the log has an error.
func TestRequestWithTwoHandlersIsVerifiedOnce(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	other := "messenger sales {\n identity_key identity\n shared_token {file." + write(t, "sales", []byte(newSecret())) + "}\n}\n"
	token, expired := bearer(sign(m.key, valid("mark"))), bearer(sign(m.key, with(valid("mark"), claims{"exp": 1})))
	mode := func(messenger, mode string) string {
		return "messenger_auth " + messenger + " {\n mode " + mode + "\n}\n"
	}
	for _, test := range []struct {
		name, first, second string
		token               string
		status              int
		want                string // the code, or the identity
	}{
		{"required twice", mode("support", "required"), mode("support", "required"), token, 200, "mark"},
		{"required twice, with an invalid token", mode("support", "required"), mode("support", "required"), expired, 401, "token_expired"},
		{"optional, then required", mode("support", "optional"), mode("support", "required"), token, 200, "mark"},
		{"optional, then required, without a token", mode("support", "optional"), mode("support", "required"), "", 401, "token_missing"},
		{"report, then required, with an invalid token", mode("support", "report"), mode("support", "required"), expired, 401, "token_expired"},
		{"report, then optional, with an invalid token", mode("support", "report"), mode("support", "optional"), expired, 401, "token_expired"},
		{"required, then off", mode("support", "required"), mode("support", "off"), token, 200, "mark"},
		{"off, then required", mode("support", "off"), mode("support", "required"), token, 200, "mark"},
		{"two places for tokens", "messenger_auth support {\n mode optional\n token_from cookie chat\n}\n", mode("support", "required"), token, 200, "mark"},
		{"two messengers", mode("support", "required"), mode("sales", "required"), token, 500, ""},
		{"two messengers, the first optional", mode("support", "optional"), mode("sales", "required"), token, 500, ""},
		{"two messengers, the second off", mode("support", "required"), mode("sales", "off"), token, 200, "mark"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, up, m.messengers+"\n"+other, "route {\n"+test.first+test.second+"reverse_proxy UPSTREAM\n}")
			lines := []string{"X-Contact-Identity: eve"}
			if test.token != "" {
				lines = append(lines, test.token)
			}
			a := g.get("/", lines...)
			if a.status != test.status {
				t.Fatalf("got %d %s, want %d", a.status, a.body, test.status)
			}
			switch test.status {
			case http.StatusOK:
				if got := up.one(t).header["X-Contact-Identity"]; len(got) != 1 || got[0] != test.want {
					t.Errorf("the identity arrives as %q, want %q", got, test.want)
				}
			case http.StatusInternalServerError:
				g.waitForLog("the messenger_auth of another")
				g.waitForLog(`"verified_for":"support"`)
				up.none(t)
			default:
				if got := a.code(t); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
				up.none(t)
			}
		})
	}
}
