package integration

import (
	"net/http"
	"strings"
	"testing"
)

// Behind a proxy the gateway is reached under the proxy's scheme and host. It believes the proxy that the operator named,
// in every form in which proxies say so. A form that it cannot read says nothing, and never http: mallory, on a network
// where she answers for http://<host>, would get the contact's cookie to work for her.
func TestOwnOriginBehindATrustedProxy(t *testing.T) {
	if !alone(t) {
		return
	}
	m, up := methods(t)[0], newUpstream(t)
	const trusting = "\nservers {\n trusted_proxies static 127.0.0.1/32\n}"
	token := sign(m.key, valid("mark"))
	for name, test := range map[string]struct {
		lines      []string
		https      bool // Origin: https://<host> is the own one
		http       bool // Origin: http://<host> is
		host       string
		fromClient bool // the proxy is not trusted
	}{
		"https":                                {lines: []string{"X-Forwarded-Proto: https"}, https: true},
		"http":                                 {lines: []string{"X-Forwarded-Proto: http"}, http: true},
		"wss, as Traefik says":                 {lines: []string{"X-Forwarded-Proto: wss"}, https: true},
		"ws":                                   {lines: []string{"X-Forwarded-Proto: ws"}, http: true},
		"HTTPS":                                {lines: []string{"X-Forwarded-Proto: HTTPS"}, https: true},
		"two proxies in a row":                 {lines: []string{"X-Forwarded-Proto: https,http"}, https: true},
		"two proxies, of which both are https": {lines: []string{"X-Forwarded-Proto: https, https"}, https: true},
		"two proxies, the first one http":      {lines: []string{"X-Forwarded-Proto: http, https"}, http: true},
		"two lines":                            {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: http"}, https: true},
		"blanks around":                        {lines: []string{"X-Forwarded-Proto: \t https\t ,http"}, https: true},
		"no scheme at all":                     {http: true},
		"a scheme of another kind":             {lines: []string{"X-Forwarded-Proto: gopher"}},
		"an empty one":                         {lines: []string{"X-Forwarded-Proto:"}},
		"an empty first element":               {lines: []string{"X-Forwarded-Proto: ,https"}},
		"an empty first line":                  {lines: []string{"X-Forwarded-Proto:", "X-Forwarded-Proto: https"}},
		"quotes":                               {lines: []string{`X-Forwarded-Proto: "https"`}},
		"a URL":                                {lines: []string{"X-Forwarded-Proto: https://"}},
		"a long s, which Unicode folds":        {lines: []string{"X-Forwarded-Proto: http\u017f"}},
		"Forwarded alone, which is not read":   {lines: []string{"Forwarded: for=192.0.2.1;proto=https"}},
		"Forwarded alone, with http":           {lines: []string{"Forwarded: for=192.0.2.1;proto=http"}},
		"Forwarded beside it":                  {lines: []string{"X-Forwarded-Proto: https", "Forwarded: proto=http"}, https: true},
		"another port, which is not read":      {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Port: 8443"}, https: true},
		"a host":                               {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com"}, https: true, host: "chat.example.com"},
		"a host with a port":                   {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com:8443"}, https: true, host: "chat.example.com:8443"},
		"a host with the usual port":           {lines: []string{"X-Forwarded-Proto: wss", "X-Forwarded-Host: Chat.Example.com:443"}, https: true, host: "chat.example.com"},
		"two hosts":                            {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com, inner:9000"}, https: true, host: "chat.example.com"},
		"two lines of hosts":                   {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com", "X-Forwarded-Host: inner"}, https: true, host: "chat.example.com"},
		"a host with its final dot":            {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com."}, https: true, host: "chat.example.com"},
		"a host of IPv6":                       {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: [2001:db8::1]:8443"}, https: true, host: "[2001:db8::1]:8443"},
		"a host of IPv6 without brackets":      {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: 2001:db8::1"}, host: "[2001:db8::1]"},
		"a host with a user":                   {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: x@chat.example.com"}, host: "chat.example.com"},
		"a host with a path":                   {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com/x"}, host: "chat.example.com"},
		"an empty host":                        {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host:"}},
		"a host that is not sent as the Host":  {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com"}},
		"a client that says so by itself":      {lines: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example.com"}, host: "chat.example.com", fromClient: true},
		"a client that says https":             {lines: []string{"X-Forwarded-Proto: https"}, http: true, fromClient: true},
		"a client that says what is no scheme": {lines: []string{"X-Forwarded-Proto: gopher", "Forwarded: x"}, http: true, fromClient: true},
	} {
		t.Run(name, func(t *testing.T) {
			options := m.messengers
			if !test.fromClient {
				options += trusting
			}
			g := start(t, up, options, originSite)
			host := test.host
			if host == "" {
				host = g.addr
			}
			for scheme, own := range map[string]bool{"https": test.https, "http": test.http} {
				want := map[bool]int{true: 200, false: 403}[own]
				lines := append([]string{"Origin: " + scheme + "://" + host, "Cookie: chat=" + token}, test.lines...)
				a := g.raw("POST / HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\nContent-Length: 0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
				if a.status != want || len(up.take()) != map[bool]int{true: 1}[own] {
					t.Errorf("from %s://%s: got %d %s, want %d", scheme, host, a.status, a.body, want)
				}
				handshake := map[bool]int{true: 101, false: 403}[own]
				if a := g.handshake(lines...); a.status != handshake {
					t.Errorf("a WebSocket from %s://%s: got %d, want %d", scheme, host, a.status, handshake)
				}
				up.take()
			}
		})
	}
}

// The browser writes the host with its final dot where the address has it, and means the same host.
func TestOwnOriginWithAFinalDot(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := newGateway(t, up, "http://")
	_, port, _ := strings.Cut(g.addr, ":")
	g.load(m.messengers, "respond 204\n}\nhttp://:"+port+" {\n"+originSite)
	cookie := "Cookie: chat=" + sign(m.key, valid("mark"))
	for _, test := range []struct {
		host, origin string
		want         int
	}{
		{"chat.example.com", "http://chat.example.com", 200}, {"chat.example.com.", "http://chat.example.com.", 200}, {"chat.example.com.:80", "http://chat.example.com", 200}, {"CHAT.example.com", "http://chat.example.com:80", 200},
		{"chat.example.com.", "http://chat.example.com..", 403}, {"chat.example.com", "http://chat.example.com:8080", 403}, {"chat.example.com", "http://.chat.example.com", 403}, {"[::1]", "http://[::1]", 200}, {"[::1]:81", "http://[::1]", 403}, {"[::1]", "http://::1", 403},
	} {
		a := g.raw("POST / HTTP/1.1\r\nHost: " + test.host + "\r\nConnection: close\r\nContent-Length: 0\r\nOrigin: " + test.origin + "\r\n" + cookie + "\r\n\r\n")
		if a.status != test.want {
			t.Errorf("%s, from %s: got %d %s, want %d", test.host, test.origin, a.status, a.body, test.want)
		}
	}
}

// The widget also runs in apps and in extensions of browsers, whose pages have schemes of their own.
func TestOriginsOfApps(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	apps := []string{"capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://.", "chrome-extension://abcdefghijklmnopabcdefghijklmnop", "moz-extension://0b0f2ef4-0c5c-4a5b-8f5c-1f0f5c1a2b3c", "vscode-webview://1n2b3c", "mychat://app.example:7000"}
	g := start(t, up, allowing(m, strings.Join(apps, " ")), originSite)
	cookie := "Cookie: chat=" + sign(m.key, valid("mark"))
	for _, origin := range apps {
		if a := g.do(http.MethodPost, "/", "Origin: "+origin, cookie); a.status != 200 {
			t.Errorf("%s: got %d %s, want 200", origin, a.status, a.body)
		}
		if a := g.handshake("Origin: "+origin, cookie); a.status != 101 {
			t.Errorf("a WebSocket from %s: got %d %s, want 101", origin, a.status, a.body)
		}
		// The page of the app can read why it was refused.
		if a := g.do(http.MethodPost, "/", "Origin: "+origin); a.status != 401 || a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Credentials") != "true" || a.header.Get("Vary") != "Origin" {
			t.Errorf("a refusal for %s: got %d with %v", origin, a.status, a.header)
		}
	}
	up.take()
	for _, origin := range append([]string{
		"capacitor://localhost:80", "capacitor://localhost.evil.com", "capacitor://evil", "ionic://localhost/", "http://localhost", "https://localhost", "capacitor:localhost", "capacitor:///localhost", "capacitor://", "tauri://tauri.localhost", "app://", "app://..", "app://x",
		"chrome-extension://abcdefghijklmnopabcdefghijklmnoq", "moz-extension://abcdefghijklmnopabcdefghijklmnop", "mychat://app.example", "mychat://app.example:443", "mychat://x@app.example:7000", "app://.#", "app://.?", "capacitor://localhost, capacitor://localhost",
	}, strangers...) {
		if a := g.do(http.MethodPost, "/", "Origin: "+origin, cookie); a.status != 403 || a.code(t) != "origin_not_allowed" {
			t.Errorf("%q: got %d %s, want 403", origin, a.status, a.body)
		}
		if a := g.do(http.MethodPost, "/", "Origin: "+origin); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q can read a refusal", origin)
		}
	}
	up.none(t)
	for origin, says := range map[string]string{
		"null": "is not an origin", "*": "is not an origin", "file://": "of their own", "file:///x": "of their own", "data:text/html": "of their own", "blob:https://www.example.com/x": "of their own", "wss://www.example.com": "scheme of a WebSocket", "htps://www.example.com": "did you mean https", "capacitor://*": "wildcard", "chrome-extension://*": "wildcard",
		"https://*.example.com": "wildcard", "capacitor://localhost/": "so write capacitor://localhost", "capacitor://": "write scheme and host", "capacitor:localhost": "write scheme and host", "www.example.com": "write scheme and host", "*://localhost": "write scheme and host", "app://x@y": "more than scheme",
	} {
		if got := loadError(t, allowing(m, origin), "messenger_auth support"); !strings.Contains(got, "allowed_origin") || !strings.Contains(got, says) {
			t.Errorf("allowed_origin %s: the error is %q, want %q in it", origin, got, says)
		}
	}
}
