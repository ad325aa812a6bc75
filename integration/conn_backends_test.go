package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"sync"
	"testing"
	"time"
)

// A FastCGI program does not notice that its request is cancelled. The client's side of its event stream ends in time nevertheless,
// and as a whole where the version of HTTP can say so. A program that writes again afterwards disturbs nothing, and ends then.
func TestEventStreamOfAFastCGIProgramEnds(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "max_session 0")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	goOn, goOnHeldBack := make(chan struct{}), make(chan struct{})
	go func() {
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			say := func(text string) {
				_, _ = io.WriteString(w, "data: "+text+"\n\n")
				w.(http.Flusher).Flush()
			}
			say("hello")
			if strings.HasPrefix(r.URL.Path, "/held-back/") {
				<-goOnHeldBack
			} else {
				<-goOn
			}
			say("are you there?")
			say("hello?")
		}))
	}()
	t.Cleanup(func() {
		close(goOn)
		close(goOnHeldBack)
		listener.Close()
	})
	up := &upstream{addr: listener.Addr().String()}
	const routes = `
		handle /plain/* {
			messenger_auth support
			reverse_proxy UPSTREAM {
				transport fastcgi
			}
		}
		handle /held-back/* {
			route {
				intercept {
					@ok status 200
					handle_response @ok {
						respond "instead"
					}
				}
				messenger_auth support
				reverse_proxy UPSTREAM {
					transport fastcgi
				}
			}
		}
		handle /encode-first/* {
			route {
				encode
				messenger_auth support
				reverse_proxy UPSTREAM {
					transport fastcgi
				}
			}
		}
	`
	test := func(t *testing.T, g *gateway, v version) {
		ended := func() float64 { return g.families().value("connections_ended_total", `reason="token_expired"`) }
		before := ended()
		var all sync.WaitGroup
		for _, path := range []string{"/plain/a", "/encode-first/a"} {
			for _, accept := range []string{"*/*", "text/event-stream"} {
				token, end := lasting(secret, "mark", time.Second)
				resp := g.stream(v, path, token, "Accept: "+accept, "Accept-Encoding: identity")
				all.Go(func() {
					body, err := io.ReadAll(resp.Body)
					if string(body) != "data: hello\n\n"+lastEvent {
						t.Errorf("%s, accepting %s: it ends with %q", path, accept, body)
					}
					if late := time.Since(end); late > 8*time.Second {
						t.Errorf("%s, accepting %s: it ended %s after its token", path, accept, late)
					}
					if v.name != "HTTP/2" && err != nil {
						t.Errorf("%s, accepting %s: %v", path, accept, err)
					}
					goOn <- struct{}{}
				})
			}
		}
		token, _ := lasting(secret, "mark", time.Second)
		r, err := http.NewRequest(http.MethodGet, g.url+"/held-back/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.TrimPrefix(token, "Authorization: "))
		if a := sendRequest(v.client, r); a.err == nil {
			t.Errorf("an answer of which nothing was sent looks complete: %s", a)
		}
		goOnHeldBack <- struct{}{}
		all.Wait()
		patiently(t, "all five ends are counted", func() bool { return ended() == before+5 })
		if a := g.send(v.client, "GET", "/none"); a.status != 200 {
			t.Errorf("a request afterwards: got %d", a.status)
		}
	}
	eachVersionTo(t, up, messengers, routes, test)
}

// A proxy that is told to ask for a WebSocket, whatever the client asks for, as nginx is. What becomes a WebSocket is one for the gateway
// too: it is counted and limited, and ends with its token.
func TestWebSocketRequestedByTheProxyOnly(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	up := newChat(t)
	for name, site := range map[string]string{
		"in the proxy":    "\nreverse_proxy UPSTREAM {\n header_up Connection Upgrade\n header_up Upgrade websocket\n}",
		"in front of it":  "\nrequest_header Connection Upgrade\nrequest_header Upgrade websocket\nreverse_proxy UPSTREAM",
		"with access log": "\nlog\nreverse_proxy UPSTREAM {\n header_up Connection Upgrade\n header_up Upgrade websocket\n}",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, up.upstream, messengers, "messenger_auth support {\n contact_limit {\n connections 1\n }\n}"+site)
			open := func(method, token string) (*socket, int) {
				conn := g.dial()
				t.Cleanup(func() { conn.Close() })
				_ = conn.SetDeadline(time.Now().Add(patience))
				fmt.Fprintf(conn, method+" /stream?after=1900ms HTTP/1.1\r\nHost: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n", g.addr, token)
				reader := bufio.NewReader(conn)
				resp, err := http.ReadResponse(reader, nil)
				if err != nil {
					t.Fatal(err)
				}
				return &socket{t, reader, conn, func() { conn.Close() }, resp.Header}, resp.StatusCode
			}
			sockets := make(map[string]*socket)
			tokens := make(map[string]string)
			for _, method := range []string{"GET", "HEAD", "POST"} { // each of another contact
				tokens[method], _ = lasting(secret, method, 2*time.Second)
				s, status := open(method, tokens[method])
				if status != 101 {
					t.Fatalf("%s: got %d", method, status)
				}
				sockets[method] = s
			}
			patiently(t, "they are counted, which they are a moment after their answers", func() bool { return g.connections().Open == 3 })
			var all sync.WaitGroup
			for method, s := range sockets { // each is read all the time: one that is not read is cut off in the middle of a frame
				all.Go(func() {
					if got := s.ended(); got != "4401 token_expired" {
						t.Errorf("%s: got %q", method, got)
					}
				})
			}
			for method := range sockets {
				if second, status := open(method, tokens[method]); status == 101 {
					if got := second.ended(); got != "4429 too_many_connections" {
						t.Errorf("%s: the second was told %q", method, got)
					}
				}
			}
			all.Wait()
			eventually(t, "no connection is counted", func() bool { return g.connections().Open == 0 })
		})
	}
}

// What a contact sends ends with its token as well, if stream_types names its type: a call of gRPC goes both ways, and its answer may
// begin when it is over. The client sees the end too, although it goes on sending.
func TestCallEndsWhileTheClientSends(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	gone := make(map[string]chan struct{})
	for _, path := range []string{"/silent/expires", "/silent/is revoked", "/answered/expires", "/answered/is revoked"} {
		gone[path] = make(chan struct{}, 10)
	}
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/answered/") {
			w.Header().Set("Content-Type", "application/grpc")
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex()
			_ = control.Flush()
		}
		_, _ = io.Copy(io.Discard, r.Body)
		gone[r.URL.Path] <- struct{}{}
	})
	test := func(t *testing.T, g *gateway, v version) {
		var all sync.WaitGroup
		for path := range gone {
			all.Go(func() {
				end := path[strings.LastIndex(path, "/")+1:]
				life := map[string]time.Duration{"expires": time.Second, "is revoked": time.Hour}[end]
				token, _ := lasting(secret, path, life)
				body, writer := io.Pipe()
				go func() {
					for {
						if _, err := io.WriteString(writer, "message"); err != nil {
							return
						}
						time.Sleep(10 * time.Millisecond)
					}
				}()
				defer writer.CloseWithError(io.ErrUnexpectedEOF)
				over := make(chan error, 1)
				go func() {
					r, _ := http.NewRequest(http.MethodPost, g.url+strings.ReplaceAll(path, " ", "%20"), body)
					r.Header.Set("Content-Type", "application/grpc+proto")
					r.Header.Set("Authorization", strings.TrimPrefix(token, "Authorization: "))
					resp, err := v.client.Do(r)
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
					over <- err
				}()
				if end == "is revoked" {
					patiently(t, "the call is counted", func() bool {
						status, answer := g.admin(http.MethodPost, "connections/end", mustJSON(map[string]string{"messenger": "support", "identity": path}))
						return status == 200 && answer == `{"ended":1}`
					})
				}
				select {
				case <-gone[path]:
				case <-time.After(patience):
					t.Errorf("%s: the backend goes on reading", path)
				}
				select {
				case err := <-over:
					if strings.HasPrefix(path, "/answered/") && err == nil {
						t.Errorf("%s: the answer looks complete", path)
					}
				case <-time.After(patience):
					t.Errorf("%s: the client goes on sending", path)
				}
			})
		}
		all.Wait()
	}
	eachVersionTo(t, up, messengers, "messenger_auth support {\n stream_types application/grpc\n}\nreverse_proxy UPSTREAM", test)
}
