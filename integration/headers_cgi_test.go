package integration

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/fcgi"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// aliasCharacters are those of a header name that are neither letters nor digits (RFC 9110 section 5.6.2).
const aliasCharacters = "-!#$%&'*+.^_`|~"

// aliases returns spellings of name with other characters for its hyphens: each in all places, and each in one.
func aliases(name string) (list []string) {
	for _, c := range aliasCharacters {
		list = append(list, strings.ReplaceAll(name, "-", string(c)), strings.ToLower(strings.Replace(name, "-", string(c), 1)))
	}
	return list
}

// foldedName is the name that is left of a header behind CGI, FastCGI or SCGI.
func foldedName(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		}
		return '-'
	}, name)
}

// startLighttpd runs a lighttpd that answers every request with the variables of a CGI program, and returns its address.
func startLighttpd(t *testing.T) string {
	t.Helper()
	program, dir, addr := requireTool(t, "lighttpd"), t.TempDir(), freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	writeSample(t, filepath.Join(dir, "env.cgi"), "printf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec env\n")
	config := filepath.Join(dir, "lighttpd.conf")
	writeSample(t, config, fmt.Sprintf(`server.modules = ("mod_rewrite", "mod_cgi")
server.document-root = %q
server.bind = %q
server.port = %s
server.errorlog = %q
url.rewrite-once = (".*" => "/env.cgi")
cgi.assign = (".cgi" => "/bin/sh")
`, dir, host, port, filepath.Join(dir, "error.log")))
	cmd := exec.Command(program, "-D", "-f", config)
	serveProgram(t, addr, cmd)
	return addr
}

// cgiWays are the ways of allWays on which a forged header would give a client an identity, or a contact the identity of another.
func cgiWays(key any) []way {
	return slices.DeleteFunc(allWays(key), func(w way) bool {
		return w.name == "refused for an invalid token, with an error route that proxies" || w.name == "required, with a token that lacks the claim of a header"
	})
}

// A client writes "X!Contact!Identity: eve". To Caddy that is another header than ours. lighttpd makes the variable
// HTTP_X_CONTACT_IDENTITY of both, and the program behind it reads eve. CGI, FastCGI and SCGI gateways do so with every
// character that is neither letter nor digit.
func TestClientsCannotSetIdentityHeadersBehindLighttpd(t *testing.T) {
	if !alone(t) {
		return
	}
	addr := startLighttpd(t)
	secret := newSecret()
	messenger := "messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n"
	g := start(t, &upstream{addr: addr}, messenger+permitUnusual, allModes)
	for i, w := range cgiWays(secret) {
		t.Run(w.name, func(t *testing.T) {
			for _, name := range []string{"X-Contact-Identity", "X-Contact-Messenger", "X-Contact-Name"} {
				// On two ways, one with an identity and one without, each spelling is sent by itself; on the others all together.
				together := len(aliases(name))
				if i < 2 || soaking() {
					together = 1
				}
				for spellings := range slices.Chunk(aliases(name), together) {
					headers := slices.Clone(w.headers)
					for _, alias := range spellings {
						headers = append(headers, alias+": eve")
					}
					a := g.do(w.method, w.path, headers...)
					if !strings.Contains(a.body, "GATEWAY_INTERFACE=CGI/1.1") {
						t.Fatalf("the program did not answer: %d %q", a.status, a.body)
					}
					got := make(map[string]string)
					for line := range strings.Lines(a.body) {
						if variable, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "="); found && strings.HasPrefix(variable, "HTTP_X_CONTACT_") {
							got[foldedName(variable[len("HTTP_"):])] += value
						}
					}
					if !maps.Equal(got, w.want) {
						t.Errorf("with %s from the client: the program read %v, want %v", spellings, got, w.want)
					}
				}
			}
		})
	}
}

// startFastCGI runs a FastCGI program that remembers what reached it.
func startFastCGI(t *testing.T) *upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u.serve(w, r)
			w.WriteHeader(http.StatusOK)
		}))
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return u
}

// The same through Caddy's own FastCGI transport, as PHP is served: by php_fastcgi, and by reverse_proxy.
func TestClientsCannotSetIdentityHeadersBehindFastCGI(t *testing.T) {
	if !alone(t) {
		return
	}
	secret := newSecret()
	messenger := "messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n"
	root := filepath.Dir(write(t, "index.php", []byte("<?php\n")))
	for name, proxy := range map[string]string{
		"php_fastcgi": "root * " + root + "\nphp_fastcgi UPSTREAM",
		"transport":   "reverse_proxy UPSTREAM {\n transport fastcgi {\n root " + root + "\n }\n}",
	} {
		for permitted, options := range map[string]string{"": "", ", with unusual header names permitted": permitUnusual} {
			up := startFastCGI(t)
			g := start(t, up, messenger+options, strings.ReplaceAll(allModes, "reverse_proxy UPSTREAM", proxy))
			for _, w := range cgiWays(secret) {
				t.Run(name+permitted+", "+w.name, func(t *testing.T) {
					for _, ours := range []string{"X-Contact-Identity", "X-Contact-Messenger", "X-Contact-Name"} {
						for _, alias := range aliases(ours) {
							g.do(w.method, w.path, append([]string{alias + ": eve"}, w.headers...)...)
							if got := ownHeaders(up.one(t).header); !maps.Equal(got, w.want) {
								t.Errorf("with %s from the client: the program read %v, want %v", alias, got, w.want)
							}
						}
					}
				})
			}
		}
	}
}

// Names of an operator's choice, and the header of the token: another spelling of it is no token here, and would be one for
// a backend that looks as well.
func TestOtherSpellingsOfConfiguredHeaders(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	for _, forward := range []string{"", "forward_token"} {
		g := start(t, up, m.messengers, `
			messenger_auth support {
				identity_header X-User
				messenger_header X-Site-Tenant
				claim_header name X-Site-Name
				token_from header X-Widget-Token
				token_from websocket_protocol bearer
				token_from cookie chat
				`+forward+`
			}
			reverse_proxy UPSTREAM
		`)
		cookie := "Cookie: chat=" + sign(m.key, with(valid("mark"), claims{"name": "Mark"}))
		for _, name := range []string{"X-User", "X-Site-Tenant", "X-Site-Name", "X-Widget-Token", "Sec-WebSocket-Protocol", "HTTP2-Settings", "Trailer"} {
			for _, alias := range aliases(name) {
				if http.CanonicalHeaderKey(alias) == "X-Widget-Token" {
					continue // that is the header itself
				}
				a := g.get("/", cookie, alias+": eve")
				want := map[string]string{"x-user": "mark", "x-site-tenant": "support", "x-site-name": "Mark"}
				if http.CanonicalHeaderKey(alias) == "Sec-Websocket-Protocol" {
					want["sec-websocket-protocol"] = "eve" // a subprotocol without the marker is none of ours
				}
				got := make(map[string]string)
				for header, values := range up.one(t).header {
					switch folded := foldedName(header); folded {
					case "x-user", "x-site-tenant", "x-site-name", "x-widget-token", "sec-websocket-protocol", "http2-settings", "trailer":
						got[folded] += strings.Join(values, "|")
					}
				}
				if a.status != 200 || !maps.Equal(got, want) {
					t.Errorf("with %s from the client (%q): %d, the upstream saw %v, want %v", alias, forward, a.status, got, want)
				}
			}
		}
	}
}
