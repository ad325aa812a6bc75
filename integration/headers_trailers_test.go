package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// copying is a handler in front of ours that hands on a copy of the request, as tracing and others do.
const copying = "timeouts {\n read_timeout 30s\n}\n"

// chunked is a request with a body and trailers, announced or not.
func (g *gateway) chunked(path, announce, trailers string, headers ...string) answer {
	g.t.Helper()
	head := "POST " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
	if announce != "" {
		head += "Trailer: " + announce + "\r\n"
	}
	for _, line := range headers {
		head += line + "\r\n"
	}
	return g.raw(head + "\r\n5\r\nhello\r\n0\r\n" + trailers + "\r\n")
}

// Caddy forwards request trailers since 2.11. A backend that merges them into the headers, as some servers do, would
// read an identity that the client wrote behind its body (Traefik #13822 drops them for this reason).
func TestTrailersDoNotReachTheUpstream(t *testing.T) {
	m := methods(t)[0]
	token := bearer(sign(m.key, valid("mark")))
	const guarded = `
		handle /required* {
			messenger_auth support
			reverse_proxy UPSTREAM
		}
		handle /later* {
			messenger_auth support
			error 503
		}
		handle /optional* {
			messenger_auth support {
				mode optional
			}
			reverse_proxy UPSTREAM
		}
		handle /off* {
			messenger_auth support {
				mode off
			}
			reverse_proxy UPSTREAM
		}
		handle /unmatched* {
			@nothing path /nothing
			messenger_auth @nothing support
			reverse_proxy UPSTREAM
		}
		handle /earlier* {
			route {
				error 418
				messenger_auth support
			}
		}
		handle_errors {
			reverse_proxy UPSTREAM
		}
	`
	for name, site := range map[string]string{"": guarded, "behind a handler that copies the request, ": copying + guarded} {
		up := newUpstream(t)
		g := start(t, up, m.messengers, site)
		for path, headers := range map[string][]string{
			"/required": {token}, "/required-and-refused": nil, "/optional": nil, "/off": nil, "/unmatched": nil,
			"/later": {token}, "/earlier": nil,
		} {
			for announce, trailers := range map[string]string{
				"X-Contact-Identity":      "X-Contact-Identity: evil\r\n",
				"Foo":                     "Foo: 1\r\nX-Contact-Identity: evil\r\n",
				"":                        "X-Contact-Identity: evil\r\n",
				"foo, x_contact_identity": "x_contact_identity: evil\r\nfoo: 1\r\n",
			} {
				t.Run(fmt.Sprintf("%son %s, announced: %q", name, path, announce), func(t *testing.T) {
					g.chunked(path, announce, trailers, headers...)
					r := up.one(t)
					if len(r.trailer) != 0 {
						t.Errorf("the upstream saw the trailers %v", r.trailer)
					}
					if r.header.Get("Trailer") != "" {
						t.Errorf("the upstream saw trailers announced: %q", r.header.Get("Trailer"))
					}
					if path != "/required-and-refused" && r.body != "hello" {
						t.Errorf("the body became %q", r.body)
					}
				})
			}
		}
	}
}

// The same over the versions of HTTP that carry trailers in frames of their own.
func TestTrailersDoNotReachTheUpstreamOverAnyVersion(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	g := startTLS(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM\nhandle_errors {\nreverse_proxy UPSTREAM\n}")
	for _, v := range g.versions() {
		for name, token := range map[string]string{"with a valid token": bearer(sign(m.key, valid("mark"))), "refused": "X-Nothing: 1"} {
			t.Run(v.name+" "+name, func(t *testing.T) {
				g.sendRequest(v.client, http.MethodPost, "/", func(r *http.Request) {
					key, value, _ := strings.Cut(token, ": ")
					r.Header.Set(key, value)
					r.Body = io.NopCloser(strings.NewReader("hello"))
					r.ContentLength = -1
					r.Trailer = http.Header{"X-Contact-Identity": {"evil"}, "Foo": {"1"}}
				})
				if got := up.one(t); len(got.trailer) != 0 {
					t.Errorf("the upstream saw the trailers %v", got.trailer)
				}
			})
		}
	}
}
