package integration

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

const panelPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// An attacker has an operator open a link, or writes an address that is more than an address, so that the page may call the
// attacker's server, or run a script. The policy has nothing but one origin, and that only in the answer to a form of the panel.
func TestPanelMayCallOneChosenOriginOnly(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	const query = "?messenger=acme&page=embed"
	for _, link := range []string{"", "&address=https://evil.example/", "&address=https%3A%2F%2Fevil.example%2F&page=embed"} {
		a := u.get(query + link)
		if got := a.header.Get("Content-Security-Policy"); a.status != 200 || got != panelPolicy || strings.Contains(a.body, "evil") || strings.Contains(a.body, "data-call") {
			t.Errorf("the link %s: %d, the policy is %q, and the page can be sent elsewhere", link, a.status, got)
		}
	}
	u.post(query, url.Values{"address": {"https://evil.example/"}}, "Sec-Fetch-Site: cross-site").says(t, 403)
	for _, address := range []string{"", "chat", "//chat.example.com", "javascript:alert(1)", "data:text/html,x", "ftp://chat.example.com/", "https://", "https:///x", "https://user:pw@chat.example.com/",
		"https://chat.example.com/#x", "https://chat.example.com/#", "https://chat.example.com;script-src *", "https://chat.example.com; script-src 'unsafe-inline'/", "https://*/", "https://*.example.com/",
		"https://a b/", "https://a,b/", "https://'self'/", "https://chat.example.com\r\nX: y/", "https://[::1]/", "https://bücher.example/", "https://chat.example.com:x/", "https://%63hat/",
		"https://" + strings.Repeat("a", 3000)} {
		a := u.post(query, url.Values{"address": {address}})
		if got := a.header.Get("Content-Security-Policy"); a.status != 422 || got != panelPolicy || strings.Contains(a.body, "data-call") {
			t.Errorf("%q: %d, the policy is %q", address, a.status, got)
		}
	}
	for address, origin := range map[string]string{
		"https://chat.example.com/socket?a=1;script-src *": "https://chat.example.com",
		"WSS://Chat.Example.com:8443/%22%3E":               "wss://chat.example.com:8443",
		" http://127.0.0.1:8080 ":                          "http://127.0.0.1:8080",
		`https://chat.example.com/"><script>x</script>`:    "https://chat.example.com",
	} {
		a := u.post(query, url.Values{"address": {address}})
		if got := a.header.Get("Content-Security-Policy"); a.status != 200 || got != panelPolicy+"; connect-src "+origin || strings.Contains(a.body, "<script>") {
			t.Errorf("%q: %d, the policy is %q", address, a.status, got)
		}
	}
	// The program for the page has the address of the WebSocket, whatever the scheme of the field.
	u.post(query, url.Values{"address": {"https://chat.example.com/socket"}}).says(t, 200, `url: "wss://chat.example.com/socket"`, `marker: "chat.token"`)
}

// The script that the program needs comes from the panel, as it is documented.
func TestPanelServesTheScript(t *testing.T) {
	g := startPanel(t, nil, "")
	a := g.panelOperator().get("?asset=messenger-auth.min.js")
	if a.status != 200 || a.body != readText(t, "../caddymodule/widget/messenger-auth.min.js") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/javascript") {
		t.Errorf("got %d %v, %d bytes", a.status, a.header, len(a.body))
	}
}

// The page names the hosts for which the configuration has the messenger, and no others.
func TestPanelListsHosts(t *testing.T) {
	const panel = "basic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel\n"
	g := newGateway(t, nil, "http://")
	_, port, _ := net.SplitHostPort(g.addr)
	g.load("messenger acme {\nidentity_key identity\nshared_token\n}\nmessenger other {\nidentity_key identity\nshared_token\n}", strings.ReplaceAll(`
	handle_path /panel* {
		`+panel+`
	}
}
http://chat.localhost:PORT, http://*.wild.localhost:PORT {
	handle /socket {
		messenger_auth acme
		respond ok
	}
}
http://*.customers.localhost:PORT, http://acme.localhost:PORT, http://globex.localhost:PORT, http://localhost:PORT {
	messenger_auth {labels.1}
	respond ok
}
http://*.shops.localhost:PORT, http://globex.shop.localhost:PORT {
	messenger_auth {labels.2}
	respond ok
}
http://paths.localhost:PORT {
	invoke chat
}
&(chat) {
	messenger_auth {path.0}
	respond ok
}
http://other.localhost:PORT {
	messenger_auth other
	respond ok
`, "PORT", port))
	u := g.panelOperator()
	u.get("?messenger=acme&page=embed").says(t, 200, strings.ReplaceAll("this gateway serves this messenger at "+
		"http://acme.localhost:PORT , http://acme.shops.localhost:PORT , http://chat.localhost:PORT , http://paths.localhost:PORT ;", "PORT", port))
}

// A site owner lets the page call the gateway: everything that can come back is said in words, and nothing of the token stays.
func TestBrowserCallsTheGateway(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	second := freeAddr(t)
	const sources = "token_from header Authorization Bearer\ntoken_from websocket_protocol chat.token\n"
	g := start(t, up, "", strings.NewReplacer("HASH", panelHash, "SOURCES", sources, "SECOND", second).Replace(`
	handle_path /panel* {
		basic_auth bcrypt {
			operator HASH
		}
		messenger_panel
	}
	handle /open* {
		respond "no gateway here"
	}
	handle /moved* {
		redir * /elsewhere 302
	}
	handle /pages/* {
		error 401
	}
	handle {
		messenger_auth {path.0} {
			SOURCES
		}
		reverse_proxy UPSTREAM
	}
}
http://SECOND {
	handle /acme/close* {
		messenger_auth {path.0} {
			SOURCES
			websocket_rejection close
		}
		reverse_proxy UPSTREAM
	}
	handle /acme/cors* {
		messenger_auth {path.0} {
			SOURCES
			cors
		}
		reverse_proxy UPSTREAM
	}
	handle {
		@half {
			method OPTIONS
			path /acme/half
		}
		header @half Access-Control-Allow-Origin {header.Origin}
		header @half Access-Control-Allow-Headers Authorization
		messenger_auth {path.0} {
			SOURCES
		}
		reverse_proxy UPSTREAM
	}
`))
	u := g.panelOperator()
	secret := u.create("acme")
	token := sign(secret, valid("mark"))
	expired := sign(secret, claims{"identity": "mark", "exp": time.Now().Add(-time.Hour).Unix()})

	p := openPanel(t, g, anyChromium)
	// The browser logs in by itself: a header of every request would replace the one with the token.
	devtools(t, p.ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{}})
	p.url = strings.Replace(p.url, "http://", "http://operator:"+panelPassword+"@", 1)
	const query = "?messenger=acme&page=embed"
	dir := pictures(t)
	p.open(query)
	if got := evaluate[string](t, p.ctx, "document.getElementById('address').value"); got != g.url+"/" {
		t.Errorf("the page knows the address as %q", got)
	}
	choose := func(address string) {
		p.open(query)
		p.paste("address", address)
		p.click("Use this address")
		p.sees("Your browser sends the token to")
	}
	call := func(token string, says ...string) {
		t.Helper()
		p.paste("call-token", token)
		p.click("Call the gateway")
		p.sees(says...)
		left := evaluate[string](t, p.ctx, "document.documentElement.outerHTML + document.getElementById('call-token').value + location.href + document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
		if _, payload, _ := strings.Cut(token, "."); strings.Contains(left, token) || payload != "" && strings.Contains(left, payload[:40]) {
			t.Errorf("the token is still in the page")
		}
	}

	choose(g.url + "/acme/hello")
	call(secret, "This is not a token.", "Nothing was sent.")
	call(token, "The token is accepted. What is behind the gateway answers with HTTP 200.")
	p.shoot(dir, "embed-accepted")
	call(expired, "The token is refused with HTTP 401 and the code token_expired.")
	choose(g.url + "/open")
	call(token, "This address did not refuse an invalid token, but answered with HTTP 200.", "Your token was not sent.")
	choose(g.url + "/moved")
	call(token, "The address answers with a redirect.")
	choose(g.url + "/pages/hello")
	call(token, "The answer is HTTP 401, without a code of the gateway.")
	choose("http://127.0.0.1:1/")
	call(token, "There is no answer.")

	choose("http://" + second + "/acme/cors")
	call(token, "Your browser hides the answer from this page, because the gateway does not allow pages of "+g.url, "Allowed origins (allowed_origin) is empty")
	p.shoot(dir, "embed-foreign")
	choose("ws://" + second + "/acme/close")
	call(token, "The token is accepted. What is behind the gateway answers with an open connection.")
	call(expired, "The token is refused with the code token_expired. The token's exp has passed. Fetch a fresh token")
	choose("ws://" + g.addr + "/acme/hello")
	call(expired, "The WebSocket was not opened, and a browser does not say why.")
	up.take()

	if a := u.confirmed("acme", fields("revision", u.get("?messenger=acme").revision(t), "allowed_origin", "https://www.example.com")); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	choose("ws://" + second + "/acme/close")
	call(token, "The gateway refuses pages of "+g.url, "origin_not_allowed")
	if a := u.confirmed("acme", fields("revision", u.get("?messenger=acme").revision(t), "allowed_origin", g.url)); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	call(token, "The token is accepted. What is behind the gateway answers with an open connection.")
	choose("http://" + second + "/acme/cors")
	call(token, "The token is accepted. What is behind the gateway answers with HTTP 200.")
	call(expired, "The token is refused with HTTP 401 and the code token_expired.")
	choose("http://" + second + "/acme/")
	call(token, "Your browser hides the answer from this page", "If it is listed, the chat backend does not answer the preflights")

	choose("http://" + second + "/acme/half")
	call(token, "The token was not refused, as far as this page can tell")
	call(expired, "The token is refused with HTTP 401 and the code token_expired.")

	devtools(t, p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.open(query)
	p.click("Use this address")
	browse(t, p.ctx, chromedp.WaitVisible(`//*[contains(., "This test needs JavaScript")]`))
	browse(t, p.ctx, chromedp.WaitNotVisible(chromedp.ID("call-token")))
}
