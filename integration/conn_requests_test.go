package integration

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Handlers behind the directive change the request, and Caddy's placeholders and error routes say what they have made of it, with a
// contact as without one.
func TestHandlersBehindTheDirectiveChangeTheRequest(t *testing.T) {
	messengers, secret := strict(t, "")
	up := newUpstream(t)
	token := strings.TrimPrefix(bearer(sign(secret, valid("mark"))), "Authorization: ")
	for name, site := range map[string]string{
		"the body in a header":   "request_header X-Seen {http.request.body}\nreverse_proxy UPSTREAM",
		"the body in a matcher":  "@a expression `{http.request.body}.contains(\"ell\")`\nrequest_header @a X-Seen yes\nreverse_proxy UPSTREAM",
		"the body in a variable": "vars b {http.request.body}\nrequest_header X-Seen {vars.b}\nreverse_proxy UPSTREAM",
		"another body":           "request_body {\n set other\n}\nrequest_header X-Seen {http.request.body}\nreverse_proxy UPSTREAM",
		"the method":             "method PUT\nrequest_header X-Seen {method}\nreverse_proxy UPSTREAM",
		"the host":               "request_header Host new.example.com\nrequest_header X-Seen {host}\nreverse_proxy UPSTREAM",
		"the path":               "rewrite /new{uri}\nuri strip_prefix /new/a\nrequest_header X-Seen {uri}{path}\nreverse_proxy UPSTREAM",
		"an answer":              "method PUT\nrespond \"{http.request.body} {method} {host}\"",
		"an error":               "method PUT\nrequest_header Host new.example.com\nerror 418",
		"an error of a backend":  "method PUT\nreverse_proxy 127.0.0.1:1",
	} {
		seen := make(map[string]string)
		for _, mode := range []string{"off", "required"} {
			g := newGateway(t, up, "https://")
			g.load(messengers, "route {\nmessenger_auth support {\n mode "+mode+"\n}\n"+site+"\n}\nhandle_errors {\n respond \"error {method} {host} {uri}\" 418\n}\n")
			for _, v := range g.versions() {
				a := g.sendRequest(v.client, "POST", "/a/b?x=1", func(r *http.Request) {
					r.Header.Set("Authorization", token)
					r.Host = "chat.example.com"
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), 5
				})
				text := fmt.Sprint(a.status, " ", a.body)
				for _, r := range up.take() {
					text += fmt.Sprintf(" [%s %s %q %q]", r.method, r.uri, r.body, r.header.Get("X-Seen"))
				}
				seen[mode+" "+v.name] = text
				if got, want := text, seen["off "+v.name]; got != want {
					t.Errorf("%s, %s: got %s, without a contact %s", name, v.name, got, want)
				}
			}
		}
	}
}

// After a request whose connection was ended, the next one on the same connection of HTTP/1.1 is served as if nothing had been, or the
// answer before has said that there is none. What is left of a body is never taken for a request.
func TestRequestsFollowingAnEndedOne(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "max_session 0")
	taken := make(chan string, 100)
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/next":
			time.Sleep(20 * time.Millisecond) // meanwhile net/http would notice that reading was interrupted, and cancel this request
		case "/json": // also to a client that takes events alone
			_, _ = io.ReadAll(r.Body)
			time.Sleep(100 * time.Millisecond) // meanwhile its connection is ended
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		case "/rest":
			taken <- r.URL.Path
		default:
			_ = control.EnableFullDuplex()
			if r.URL.Path == "/events" {
				_, _ = io.ReadAll(r.Body)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_ = control.Flush()
			_, _ = io.ReadAll(r.Body)
			<-r.Context().Done()
		}
	})
	for _, options := range []string{"", "servers {\n enable_full_duplex\n}\n"} {
		g := newGateway(t, up, "http://")
		g.unlogged = true // Caddy's access log reads the length of a body that its proxy still reads
		g.load(options+messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
		auth := bearer(sign(secret, valid("mark")))
		for _, accept := range []string{"*/*", "text/event-stream"} {
			rest := "GET /rest HTTP/1.1\r\nHost: " + g.addr + "\r\n" + auth + "\r\n\r\n"
			for name, request := range map[string]string{
				"GET":             "GET /events HTTP/1.1\r\n\r\n",
				"POST":            "POST /events HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
				"chunks":          "POST /events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
				"JSON":            "POST /json HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
				"part of a body":  fmt.Sprintf("POST /early HTTP/1.1\r\nContent-Length: %d\r\n\r\nok", 2+len(rest)),
				"part of a chunk": fmt.Sprintf("POST /early HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\nok", 2+len(rest)),
			} {
				part := strings.HasPrefix(name, "part")
				if part && options == "" {
					continue // net/http would read the whole body before it answers
				}
				for range 4 {
					conn := g.dial()
					_ = conn.SetDeadline(time.Now().Add(patience))
					reader := bufio.NewReader(conn)
					_, _ = io.WriteString(conn, strings.Replace(request, "\r\n", "\r\nHost: "+g.addr+"\r\nAccept: "+accept+"\r\n"+auth+"\r\n", 1))
					if name != "JSON" || accept != "*/*" {
						patiently(t, "it is counted", func() bool { return g.connections().Open == 1 })
					}
					g.operator().want(200, "POST", "connections/end", `{"messenger":"support"}`)
					resp, err := http.ReadResponse(reader, nil)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.ReadAll(resp.Body)
					if part {
						_, _ = io.WriteString(conn, rest)
					} else {
						_, _ = io.WriteString(conn, "GET /next HTTP/1.1\r\nHost: "+g.addr+"\r\n"+auth+"\r\n\r\n")
					}
					next, err := http.ReadResponse(reader, nil)
					if said := resp.Close; part && err == nil || !said && (err != nil || next.StatusCode != 200) || said && err == nil {
						t.Errorf("%s, accepting %s, %q: the first said that it closes the connection: %t; then %v, %v", name, accept, options, said, next, err)
					}
					_ = conn.Close()
				}
			}
		}
	}
	if len(taken) > 0 {
		t.Errorf("the rest of a body reached the backend as %s", <-taken)
	}
}
