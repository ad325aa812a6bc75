package integration

import (
	"maps"
	"net/http"
	"strings"
	"testing"
)

// spoofed are the spellings in which a client could try to speak in the gateway's name. Servers behind FastCGI, and
// others, read "_" and "." as "-" (GHSA-f59h-q822-g45g, GHSA-49wc-4hcv-v58q), and some every character that is neither
// letter nor digit.
var spoofed = []string{
	"X-Contact-Identity", "x-contact-identity", "X-CONTACT-IDENTITY", "x-cOnTaCt-IdEnTiTy",
	"X_Contact_Identity", "x_contact_identity", "X-Contact_Identity", "X_Contact-Identity",
	"X.Contact.Identity", "X-Contact.Identity", "X.Contact_Identity", "X_contact.identity",
	"X-Contact-Messenger", "X_Contact_Messenger", "X.Contact.Messenger", "x-contact-messenger",
	"X-Contact-Name", "X_Contact_Name", "x.contact.name",
	"X-Contact-Assertion", "x~contact!assertion",
	"X-Contact-Claims", "X_Contact_Claims", "x.contact.claims", "X~Contact-Claims", "x!CONTACT!claims",
	"X!Contact!Identity", "X#Contact#Identity", "X$Contact$Identity", "X%Contact%Identity", "X&Contact&Identity", "X'Contact'Identity",
	"X*Contact*Identity", "X+Contact+Identity", "X^Contact^Identity", "X|Contact|Identity", "X~Contact~Identity", "X`Contact`Identity",
	"x!contact-identity", "X-Contact~Identity", "X|Contact_Messenger", "X`Contact`Name",
}

// permitUnusual makes Caddy pass on the spellings that it drops by itself, as an operator can for some old backend.
const permitUnusual = `
servers {
	expected_underscore_headers X_Contact_Identity X-Contact_Identity X_Contact-Identity X_Contact_Messenger X_Contact_Name X_Contact_Claims X.Contact_Identity X_contact.identity X_contact_identity
	expected_dot_headers X.Contact.Identity X-Contact.Identity X.Contact.Messenger X.contact.name X.contact.claims
}
`

// ownHeaders returns what the upstream reads as the gateway's word: all spellings of our headers, by the folded name.
func ownHeaders(h http.Header) map[string]string {
	found := make(map[string]string)
	for name, values := range h {
		switch folded := foldedName(name); folded {
		case "x-contact-identity", "x-contact-messenger", "x-contact-name", "x-contact-claims", "x-contact-assertion":
			found[folded] += strings.Join(values, "|")
		}
	}
	return found
}

// A way is a route through the gateway, with what the upstream may learn on it.
type way struct {
	name    string
	method  string
	path    string
	headers []string
	want    map[string]string // own headers
}

// allModes is a site with a route for every mode, and one that the matcher leaves out.
const allModes = `
	@chat path /required/* /elsewhere/chat/*
	handle /required/* {
		messenger_auth support {
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle /elsewhere/* {
		messenger_auth @chat support {
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle /optional/* {
		messenger_auth support {
			mode optional
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle /report/* {
		messenger_auth support {
			mode report
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle /off/* {
		messenger_auth support {
			mode off
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle /refused/* {
		messenger_auth support {
			claim_header name X-Contact-Name
		}
		reverse_proxy UPSTREAM
	}
	handle_errors {
		reverse_proxy UPSTREAM
	}
`

func allWays(key any) []way {
	named := valid("mark")
	named["name"] = "Mark"
	token, plain, expired := bearer(sign(key, named)), bearer(sign(key, valid("mark"))), valid("mark")
	expired["exp"] = 1
	anonymous := map[string]string{}
	mark := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support", "x-contact-name": "Mark"}
	nameless := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support"}
	preflight := []string{"Origin: https://www.example.com", "Access-Control-Request-Method: POST"}
	return []way{
		{"required, with a valid token", "GET", "/required/a", []string{token}, mark},
		{"required, with a token that lacks the claim of a header", "GET", "/required/a", []string{plain}, nameless},
		{"required, a preflight", "OPTIONS", "/required/a", preflight, anonymous},
		{"a path that the matcher does not match, with a valid token", "GET", "/elsewhere/a", []string{token}, anonymous},
		{"optional, anonymous", "GET", "/optional/a", nil, anonymous},
		{"optional, with a valid token", "GET", "/optional/a", []string{token}, mark},
		{"report, without a token", "GET", "/report/a", nil, anonymous},
		{"report, with an invalid token", "GET", "/report/a", []string{bearer(sign(key, expired))}, anonymous},
		{"report, with a valid token", "GET", "/report/a", []string{token}, mark},
		{"off, with a valid token", "GET", "/off/a", []string{token}, anonymous},
		{"refused, with an error route that proxies", "GET", "/refused/a", nil, anonymous},
		{"refused for an invalid token, with an error route that proxies", "POST", "/refused/a", []string{bearer(sign(key, expired))}, anonymous},
	}
}

// A client sends the identity of another contact in a header, in every spelling that any server could take for ours, on every route
// and over every version of HTTP. The upstream must see what the gateway says and nothing else.
func TestClientsCannotSetIdentityHeaders(t *testing.T) {
	if !alone(t) {
		return
	}
	secret := newSecret()
	messenger := "messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n"
	for name, options := range map[string]string{"as Caddy is": "", "with unusual header names permitted": permitUnusual} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t)
			g := startTLS(t, up, messenger+options, allModes)
			for _, v := range g.versions() {
				for _, w := range allWays(secret) {
					t.Run(v.name+", "+w.name, func(t *testing.T) {
						for i, name := range spoofed {
							if !sampled(i) {
								continue
							}
							lines := append([]string{name + ": evil"}, w.headers...)
							g.send(v.client, w.method, w.path, lines...)
							if got := ownHeaders(up.one(t).header); !maps.Equal(got, w.want) {
								t.Errorf("with %s from the client: the upstream saw %v, want %v", name, got, w.want)
							}
						}
						lines := append([]string{"X-Contact-Identity: evil", "X-Contact-Identity: worse", "X-Contact-Messenger: sales"}, w.headers...)
						g.send(v.client, w.method, w.path, append(lines, "X-Contact-Messenger: other", "X-Contact-Name: a", "X-Contact-Name: b")...)
						if got := ownHeaders(up.one(t).header); !maps.Equal(got, w.want) {
							t.Errorf("with duplicates: the upstream saw %v, want %v", got, w.want)
						}
					})
				}
			}
		})
	}
}

// The headers of a proxy's own choice are guarded like the default ones.
func TestConfiguredHeaderNamesAreGuarded(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	g := start(t, up, m.messengers, "messenger_auth support {\n identity_header X-User\n messenger_header X-Tenant\n mode optional\n}\nreverse_proxy UPSTREAM")
	g.get("/", "x-user: evil", "X-TENANT: sales", "X-Contact-Identity: hello")
	r := up.one(t)
	if r.header.Get("X-User") != "" || r.header.Get("X-Tenant") != "" {
		t.Errorf("the upstream saw the client's headers: %v", r.header)
	}
	if got := r.header.Get("X-Contact-Identity"); got != "hello" {
		t.Errorf("a header that is not ours here was changed: got %q", got)
	}
}

// A proxy removes the headers that Connection names (RFC 9110 section 7.6.1). A client that names the identity header
// there would make the proxy drop it after us, and the backend would see an anonymous visitor, or its default user.
func TestConnectionHeaderCannotRemoveTheIdentity(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	g := start(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
	token := sign(m.key, valid("mark"))
	for name, lines := range map[string]string{
		"in one line":           "Connection: close, X-Contact-Identity, X-Contact-Messenger\r\n",
		"in lines of their own": "Connection: keep-alive\r\nConnection: x-contact-identity\r\nConnection:X-Contact-Messenger,close\r\n",
		"between commas":        "Connection: ,, x-contact-identity ,\tX-CONTACT-MESSENGER,close,\r\n",
		"among hop-by-hop ones": "Connection: te, close, X-Contact-Identity, X-Other\r\nTE: trailers\r\nX-Other: 1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := g.raw("GET /a HTTP/1.1\r\nHost: " + g.addr + "\r\n" + bearer(token) + "\r\n" + lines + "\r\n")
			r := up.one(t)
			want := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support"}
			if got := ownHeaders(r.header); a.status != 200 || !maps.Equal(got, want) {
				t.Errorf("status %d, the upstream saw %v, want %v", a.status, got, want)
			}
			if r.header.Get("X-Other") != "" {
				t.Error("a header that Connection named reached the upstream")
			}
		})
	}
}
