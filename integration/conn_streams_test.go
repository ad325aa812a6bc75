package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// streamingRoutes has the guard for other streams among other handlers.
const streamingRoutes = `
	handle /plain/* {
		messenger_auth support {
			stream_types application/x-ndjson Application/gRPC multipart/x-mixed-replace
		}
		reverse_proxy UPSTREAM
	}
	handle /encode/* {
		encode {
			match header Content-Type application/*
			minimum_length 1
		}
		messenger_auth support {
			stream_types application/x-ndjson
		}
		reverse_proxy UPSTREAM
	}
	handle /events/* {
		messenger_auth support
		reverse_proxy UPSTREAM
	}`

// mustBeCut reads a stream to its end, which must not look like one.
func mustBeCut(t *testing.T, what string, resp *http.Response) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: its end is %v after %d bytes, want a reset", what, err, len(body))
	}
	if strings.Contains(string(body), "event: auth") {
		t.Errorf("%s: it ends with %q", what, body[max(0, len(body)-100):])
	}
}

// A chat whose answers are lines of JSON, calls of gRPC, or pictures that replace each other would go on for as long as its
// backend likes, with a token that expired long ago. It ends with its token, and never looks complete.
func TestStreamOfAnotherTypeEndsWithItsToken(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	eachVersion(t, messengers, streamingRoutes, func(t *testing.T, g *gateway, v version) {
		var all sync.WaitGroup
		for path, accept := range map[string]string{
			"/plain/events?type=application/x-ndjson":                  "*/*",
			"/plain/quiet?type=application/x-ndjson%3bcharset=utf-8":   "*/*",
			"/plain/quiet?type=application/grpc":                       "text/event-stream",
			"/plain/events?type=APPLICATION/GRPC%2bproto":              "text/event-stream",
			"/plain/events?type=multipart/x-mixed-replace%3bboundary=": "image/*",
			"/encode/events?type=application/x-ndjson":                 "text/event-stream",
		} {
			token, end := lasting(secret, "mark", time.Second)
			resp := g.stream(v, path, token, "Accept: "+accept, "Accept-Encoding: gzip")
			all.Go(func() {
				mustBeCut(t, path, resp)
				if early := time.Until(end); early > 0 {
					t.Errorf("%s: it ended %v before its token", path, early)
				}
			})
		}
		all.Wait()
		eventually(t, "no connection is left", func() bool { return g.connections().Open == 0 })
	})
}

// What is not named in stream_types is a download, whose end would be taken for its whole; so is one with a length.
func TestOnlyStreamTypesAreCut(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "max_session 1s")
	g := start(t, newChat(t).upstream, messengers, streamingRoutes)
	long, _ := lasting(secret, "mark", time.Hour)
	_ = g.stream(version{"HTTP/1.1", plainClient}, "/plain/hello", long)
	token, end := lastingExactly(secret, "mark", time.Second)
	var all sync.WaitGroup
	for _, path := range []string{"/plain/download?type=application/grpc-web", "/plain/download?type=application/x-ndjson-seq", "/plain/download?type=application/json",
		"/plain/sized?type=application/x-ndjson", "/encode/download?type=application/grpc", "/events/download?type=application/x-ndjson"} {
		resp := g.stream(version{"HTTP/1.1", plainClient}, path, token)
		all.Go(func() {
			if body, err := io.ReadAll(resp.Body); err != nil || len(body) != downloadSize {
				t.Errorf("%s: got %d bytes, %v", path, len(body), err)
			}
		})
	}
	all.Wait()
	if time.Now().Before(end) {
		t.Error("the token has not expired; nothing was tested")
	}
}

// Over HTTP/1.0 the end of the connection is the end of the answer, and proxies with that version pass it on as the whole. It is
// broken off instead. An event stream ends as ever.
func TestStreamOverHTTP10IsBrokenOff(t *testing.T) {
	messengers, secret := strict(t, "max_session 0")
	const wrapper, line = "servers {\n listener_wrappers {\n proxy_protocol\n %s\n }\n}\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"
	for name, server := range map[string]struct{ scheme, options, line string }{
		"plain":                      {"http://", "", ""},
		"TLS":                        {"https://", "", ""},
		"without HTTP/2":             {"http://", "servers {\n protocols h1\n}\n", ""},
		"the PROXY protocol":         {"http://", fmt.Sprintf(wrapper, ""), line},
		"TLS and the PROXY protocol": {"https://", fmt.Sprintf(wrapper, "tls"), line},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, newChat(t).upstream, server.scheme)
			g.load(server.options+messengers, streamingRoutes)
			for path, want := range map[string]string{"/plain/quiet?type=application/x-ndjson": "connection reset", "/events/quiet": revokedEvent} {
				conn := g.dial()
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(conn, server.line)
				if server.scheme == "https://" {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "127.0.0.1"})
				}
				_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\n%s\r\n\r\n", path, g.addr, bearer(sign(secret, claims{"identity": "mark", "jti": path})))
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s: %v", path, err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
				g.operator().want(200, "POST", "connections/end", map[string]any{"messenger": "support", "identity": "mark"})
				body, err := io.ReadAll(resp.Body)
				if got := fmt.Sprint(string(body), err); !strings.Contains(got, want) || resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 {
					t.Errorf("%s: it ends with %q", path, got)
				}
			}
		})
	}
}

// A client may send what it likes behind its request. The backend's side of its stream ends nevertheless, and the contact has no more
// connections than it may.
func TestBytesAfterARequestDoNotKeepAStreamOpen(t *testing.T) {
	messengers, secret := strict(t, "max_session 0")
	gone := make(chan struct{}, 10)
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	g := start(t, up, messengers, "messenger_auth support {\n stream_types application/x-ndjson\n contact_limit {\n connections 1\n }\n}\nreverse_proxy UPSTREAM")
	for _, kind := range []string{"text/event-stream", "application/x-ndjson"} {
		for _, more := range []string{"", "G", "GET /second HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\r\n", 100)} {
			open := func() net.Conn {
				conn := g.dial()
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(conn, "GET /first?type="+kind+" HTTP/1.1\r\nHost: "+g.addr+"\r\n"+bearer(sign(secret, valid("mark")))+"\r\n\r\n")
				if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
					t.Fatalf("%q, %v", line, err)
				}
				_, _ = io.WriteString(conn, more)
				return conn
			}
			first := open()
			patiently(t, "it is counted", func() bool { return g.connections().Open == 1 })
			second := open()
			for _, end := range []func(){func() {}, func() { g.operator().want(200, "POST", "connections/end", `{"messenger":"support"}`) }} {
				end()
				select {
				case <-gone:
				case <-time.After(patience):
					t.Fatalf("%s, %q: the backend's side goes on", kind, more)
				}
			}
			first.Close()
			second.Close()
		}
	}
}

// An operator sees such a stream, and ends it; a revocation does too, and a stream that begins after it sends nothing.
func TestStreamOfAnotherTypeIsTracked(t *testing.T) {
	messengers, secret := strict(t, "max_session 0")
	eachVersion(t, messengers, streamingRoutes, func(t *testing.T, g *gateway, v version) {
		for name, end := range map[string]func() (int, string){
			"ended": func() (int, string) {
				return g.admin(http.MethodPost, "connections/end", `{"messenger":"support","identity":"mark"}`)
			},
			"revoked": func() (int, string) {
				return g.admin(http.MethodPost, "messengers/support/revocations", `{"jti":"`+v.name+`revoked"}`)
			},
		} {
			resp := g.stream(v, "/plain/quiet?type=application/x-ndjson", bearer(sign(secret, claims{"identity": "mark", "jti": v.name + name})))
			if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is counted", func() bool { return g.connections().Open == 1 })
			if status, body := end(); status >= 300 {
				t.Errorf("%s: got %d %s", name, status, body)
			}
			mustBeCut(t, name, resp)
			eventually(t, "it is not counted any more", func() bool { return g.connections().Open == 0 })
		}
	})
}

// A call of gRPC goes both ways at once, over HTTP/2 on both sides, and so does an event stream whose client does not end its
// request. Both sides learn of the end, although the client goes on sending.
func TestTwoWayStreamsEnd(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, kind := range []string{"application/grpc+proto", "text/event-stream"} {
		t.Run(kind, func(t *testing.T) { endTwoWayStream(t, kind) })
	}
}

func endTwoWayStream(t *testing.T, kind string) {
	gone := make(chan struct{}, 1)
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Trailer", "Grpc-Status")
		_ = http.NewResponseController(w).Flush()
		buffer := make([]byte, 100)
		for {
			n, err := r.Body.Read(buffer)
			if err != nil {
				break
			}
			_, _ = w.Write(buffer[:n])
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
		gone <- struct{}{}
	}))
	backend.Config.Protocols = new(http.Protocols)
	backend.Config.Protocols.SetUnencryptedHTTP2(true)
	backend.Start()
	defer backend.Close()
	messengers, secret := strict(t, "max_session 0")
	g := newGateway(t, nil, "https://")
	g.unlogged = true
	g.load(messengers, `messenger_auth support {
		stream_types application/grpc
	}
	reverse_proxy h2c://`+strings.TrimPrefix(backend.URL, "http://"))
	client := g.versions()[1].client
	token := bearer(sign(secret, claims{"identity": "mark"}))
	call := func() (io.WriteCloser, *http.Response) {
		t.Helper()
		reader, writer := io.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/chat.Chat/Talk", reader)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.TrimPrefix(token, "Authorization: "))
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Te", "trailers")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if _, err := writer.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatalf("the answer: %v", err)
		}
		return writer, resp
	}
	talk, resp := call()
	_ = talk.Close()
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("a call that ends by itself: %v, trailer %v", err, resp.Trailer)
	}
	<-gone
	_, resp = call()
	g.operator().want(200, "POST", "connections/end", map[string]any{"messenger": "support"})
	// An event stream ends with a clean end, where that can be told from an event that is cut.
	if _, err := io.ReadAll(resp.Body); (err == nil) != (kind == "text/event-stream") || errors.Is(err, context.DeadlineExceeded) || resp.Trailer.Get("Grpc-Status") != "" {
		t.Errorf("a call that is ended: %v, trailer %v", err, resp.Trailer)
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the backend does not learn of the end")
	}
}
