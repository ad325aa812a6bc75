package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// twoCustomers returns the global options of the messengers acme and globex, and a token of each for mark.
func twoCustomers(t *testing.T) (options string, tokens map[string]string) {
	t.Helper()
	tokens = make(map[string]string)
	for _, name := range []string{"acme", "globex"} {
		secret := newSecret()
		options += "messenger " + name + " {\n identity_key identity\n shared_token {file." + write(t, name, []byte(secret)) + "}\n}\n"
		tokens[name] = bearer(sign(secret, valid("mark")))
	}
	return options, tokens
}

// Mallory is a contact of acme. Her token is valid there, and the gateway reads "acme" out of a path that the backend
// reads as globex: she would be globex's contact of the same number. Such a path is refused, in every mode and for every client.
func TestContactCannotAccessOtherCustomers(t *testing.T) {
	options, tokens := twoCustomers(t)
	up := newUpstream(t)
	elsewhere := []string{
		"/acme/../globex/inbox", "/acme/%2e%2e/globex/inbox", "/acme/.%2E/globex/inbox", "/acme%2f..%2fglobex/inbox", "//globex/inbox", "/acme//../globex/inbox", "/acme/..;/globex/inbox", "/acme/..;x=y/globex/inbox",
		`/acme/..\globex/inbox`, "/acme/..%5cglobex/inbox", "/acme/..%2fglobex/inbox", "/acme/%252e%252e/globex/inbox", "/acme/..%252fglobex/inbox", "/acme/x/..%2f..%2fglobex", "/acme/..%00/globex", "/acme/.%00./globex",
		"/acme/%c0%ae%c0%ae/globex", "/acme/..%c0%afglobex", "/acme/..%20/globex", "/acme/.../globex", "/acme/%ef%bc%8e%ef%bc%8e/globex", "/acme/x/../../globex", "/acme/..", "/./acme/../globex", "/acme/%2e%2e%2f%67lobex",
	}
	ordinary := []string{
		"/acme", "/acme/inbox", "/acme//inbox", "/acme/./inbox", "/acme/inbox/../outbox", "/acme/a..b", "/acme/mark%40example.com", "/acme/mark+chat@example.com", "/acme/gr%C3%B6%C3%9Fe", "/acme/%F0%9F%98%80/x",
		"/acme/files/a%2Fb%2Fc", "/acme/100%25", "/acme/.well-known/x", "/acme/inbox;jsessionid=1", "/acme/x%20y.txt", "/acme/a%5Cb",
	}
	for name, site := range map[string]struct{ prefix, site string }{
		"alone":                  {"", "messenger_auth {path.0}\nreverse_proxy UPSTREAM"},
		"inside handle":          {"", "handle {\n messenger_auth {path.0}\n reverse_proxy UPSTREAM\n}"},
		"behind handle_path":     {"/chat", "handle_path /chat/* {\n messenger_auth {path.0}\n reverse_proxy UPSTREAM\n}"},
		"behind strip_prefix":    {"/chat", "uri strip_prefix /chat\nmessenger_auth {path.0}\nreverse_proxy UPSTREAM"},
		"behind rewrite":         {"", "rewrite * /v1{uri}\nmessenger_auth {path.1}\nreverse_proxy UPSTREAM"},
		"before strip_prefix":    {"/chat", "route {\n messenger_auth {path.1}\n uri strip_prefix /chat\n reverse_proxy UPSTREAM\n}"},
		"in the second part":     {"/v1", "messenger_auth {path.1}\nreverse_proxy UPSTREAM"},
		"in the mode report":     {"", "messenger_auth {path.0} {\n mode report\n}\nreverse_proxy UPSTREAM"},
		"in the mode optional":   {"", "messenger_auth {path.0} {\n mode optional\n}\nreverse_proxy UPSTREAM"},
		"with the token left in": {"", "messenger_auth {path.0} {\n forward_token\n}\nreverse_proxy UPSTREAM"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, up, options, site.site)
			ask := func(path string) answer {
				return g.raw("GET " + site.prefix + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\nX-Contact-Identity: admin\r\n" + tokens["acme"] + "\r\n\r\n")
			}
			for _, path := range elsewhere {
				a := ask(path)
				for _, r := range up.take() {
					if len(ownHeaders(r.header)) != 0 {
						t.Errorf("%s: reaches the backend as %s with %v", path, r.uri, ownHeaders(r.header))
					} else if name != "in the mode report" && a.status != 200 {
						t.Errorf("%s: refused, and reaches the backend as %s", path, r.uri)
					}
				}
				switch {
				case name == "in the mode report":
				// Caddy resolves the path itself when it takes a prefix off: it is globex's for all, or not below the prefix.
				case site.prefix == "/chat" && (a.status == 401 && a.code(t) == "signature_invalid" || a.status == 200 && a.body == ""):
				case a.status != 404 || a.code(t) != "messenger_unknown":
					t.Errorf("%s: got %d %s, want 404 messenger_unknown", path, a.status, a.body)
				}
			}
			for _, path := range ordinary {
				a := ask(path)
				if r := up.one(t); a.status != 200 || r.header.Get("X-Contact-Messenger") != "acme" || r.header.Get("X-Contact-Identity") != "mark" {
					t.Errorf("%s: got %d, and the headers %v", path, a.status, ownHeaders(r.header))
				}
			}
		})
	}
}

// The host with its final dot is the same host (RFC 3986 section 3.2.2), and counts the labels from another end.
func TestFinalDotOfTheHostSelectsTheSameMessenger(t *testing.T) {
	options, tokens := twoCustomers(t)
	up := newUpstream(t)
	g := newGateway(t, up, "http://")
	_, port, _ := strings.Cut(g.addr, ":")
	g.load(options, "respond 204\n}\nhttp://:"+port+" {\nmessenger_auth {labels.2}\nreverse_proxy UPSTREAM")
	for host, want := range map[string]string{
		"acme.chat.example": "acme", "acme.chat.example.": "acme", "ACME.chat.example.": "acme", "acme.chat.example.:" + port: "acme", "Acme.Chat.Example:" + port: "acme",
		"acme.globex.chat.example.": "globex", "acme.globex.chat.example": "globex", "acme.chat.example..": "", "acme..chat.example": "", "chat.example.": "", "acme.chat..example": "", "acme.chat.example.." + ":" + port: "",
		// What splits addresses, or lists as X-Forwarded-Host is one, finds globex here.
		"acme.chat.example:80,globex.chat.example": "", "globex.chat.example,acme.chat.example": "", "globex.chat.example:80,acme.chat.example:80": "",
		"globex.chat.example;acme.chat.example": "", "acme.chat.example:x": "", "acme.chat.example:80:90": "", "acme.chat.example:": "acme", "[::1]:" + port: "", "[acme.chat.example]": "", "a_b.acme.chat.example": "acme",
	} {
		for name, token := range tokens {
			a := g.raw("GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + token + "\r\n\r\n")
			seen := up.take()
			switch {
			case want == "" && (a.status != 404 || len(seen) != 0):
				t.Errorf("%s with a token of %s: got %d %s, want 404", host, name, a.status, a.body)
			case want == name && (a.status != 200 || len(seen) != 1 || seen[0].header.Get("X-Contact-Messenger") != name):
				t.Errorf("%s with a token of %s: got %d %s, want 200", host, name, a.status, a.body)
			case want != "" && want != name && a.status != http.StatusUnauthorized:
				t.Errorf("%s with a token of %s: got %d %s, want 401", host, name, a.status, a.body)
			}
		}
	}
}

// Frameworks take the address from headers that proxies send. From a client they would be another way to say globex.
func TestForwardingHeadersCannotSelectAnotherCustomer(t *testing.T) {
	options, tokens := twoCustomers(t)
	up := newUpstream(t)
	lines := []string{"Forwarded: host=globex.chat.example", "X-Original-URL: /globex/inbox", "X-Rewrite-URL: /globex/inbox", "X-Forwarded-Host: globex.chat.example",
		"X-Original!URL: /globex/inbox", "X~Rewrite!URL: /globex/inbox", "X-Forwarded!Host: globex.chat.example", "X-Original-Host: globex.chat.example", "X-Host: globex.chat.example", "x~http|host-override: globex.chat.example", "X-Forwarded-Server: globex.chat.example",
		"X-Forwarded-Prefix: /globex", "X-Script-Name: /acme", "Script!Name: /acme"}
	for name, test := range map[string]struct{ options, directive, gone string }{
		"a messenger of the path":             {options, "{path.0}", "X-Original-Url X-Rewrite-Url X-Original!url X~rewrite!url X-Forwarded-Prefix X-Script-Name Script!name"},
		"a messenger of the host":             {options, "{labels.2}", "Forwarded X-Forwarded!host X-Original-Host X-Host X~http|host-Override X-Forwarded-Server"},
		"from a proxy that is trusted":        {options + "\nservers {\n trusted_proxies static 127.0.0.1/32\n}", "{path.0}", ""},
		"a messenger that the directive says": {options, "acme", ""},
	} {
		g := newGateway(t, up, "http://")
		_, port, _ := strings.Cut(g.addr, ":")
		g.load(test.options, "respond 204\n}\nhttp://:"+port+" {\nmessenger_auth "+test.directive+"\nreverse_proxy UPSTREAM")
		a := g.raw("GET /acme/inbox HTTP/1.1\r\nHost: acme.chat.example\r\nConnection: close\r\n" + tokens["acme"] + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
		r := up.one(t)
		if a.status != 200 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
		for _, line := range slices.Delete(slices.Clone(lines), 3, 4) {
			header, _, _ := strings.Cut(line, ":")
			header = http.CanonicalHeaderKey(header)
			if gone := len(r.header[header]) == 0; gone != strings.Contains(" "+test.gone+" ", " "+header+" ") {
				t.Errorf("%s: %s is gone: %v", name, header, gone)
			}
		}
		if got := r.header.Get("X-Forwarded-Host"); !strings.HasPrefix(name, "from") && got != "acme.chat.example" {
			t.Errorf("%s: X-Forwarded-Host is %q", name, got)
		}
	}
}

// Unicode folds the Kelvin sign to k. A backend that folds ASCII alone would find another customer.
func TestOnlyASCIILettersAreFolded(t *testing.T) {
	secret := newSecret()
	up := newUpstream(t)
	g := start(t, up, "messenger kim {\n identity_key identity\n shared_token {file."+write(t, "kim", []byte(secret))+"}\n}", "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	for path, want := range map[string]int{"/kim/": 200, "/KIM/": 200, "/%E2%84%AAim/": 404} {
		if a := g.get(path, bearer(sign(secret, valid("mark")))); a.status != want {
			t.Errorf("%s: got %d %s, want %d", fmt.Sprintf("%q", path), a.status, a.body, want)
		}
	}
}
