package integration

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// downloadSize is how many bytes a download has; it takes longer than the tokens of these tests live.
const downloadSize = 15_000

// serveStreams answers with a stream of a kind that the path names, until the client goes:
// /events all the time, in pieces; /flood without a pause; /quiet one event; /download and /hello no events; /sized
// an event stream with a length. The query may name another type.
func serveStreams(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w).Flush
	w.Header().Set("Content-Type", cmp.Or(r.URL.Query().Get("type"), "text/event-stream; charset=utf-8"))
	switch {
	case strings.HasSuffix(r.URL.Path, "/hello"):
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprint(w, "hello")
	case strings.HasSuffix(r.URL.Path, "/quiet"):
		_, _ = fmt.Fprint(w, "data: 0 of 0\n\n")
		_ = flush()
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/download"), strings.HasSuffix(r.URL.Path, "/sized"):
		w.Header().Set("Content-Type", cmp.Or(r.URL.Query().Get("type"), "application/octet-stream"))
		if strings.HasSuffix(r.URL.Path, "/sized") {
			w.Header().Set("Content-Type", cmp.Or(r.URL.Query().Get("type"), "text/event-stream"))
			w.Header().Set("Content-Length", fmt.Sprint(downloadSize))
		}
		for range downloadSize / 1000 {
			if _, err := fmt.Fprint(w, strings.Repeat("x", 1000)); err != nil {
				return
			}
			_ = flush()
			time.Sleep(100 * time.Millisecond)
		}
	case strings.HasSuffix(r.URL.Path, "/flood"):
		for text := "data: " + strings.Repeat("x", 100_000) + "\n\n"; r.Context().Err() == nil; {
			if _, err := fmt.Fprint(w, text); err != nil {
				return
			}
			_ = flush()
		}
	default:
		for i := 0; r.Context().Err() == nil; i++ {
			text := strings.Repeat("x", 2000)
			for _, piece := range []string{fmt.Sprintf("id: %d\nda", i), "ta: " + text, fmt.Sprintf("\ndata: end of %d\n", i), "\n"} {
				if _, err := fmt.Fprint(w, piece); err != nil {
					return
				}
				_ = flush()
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
}

const lastEvent = "event: auth\ndata: token_expired\n\n"

var wholeEvents = regexp.MustCompile(`^(id: \d+\ndata: x+\ndata: end of \d+\n\n)+$`)

// eachVersion runs test with a client for each version of HTTP.
func eachVersion(t *testing.T, messengers, site string, test func(t *testing.T, g *gateway, v version)) {
	eachVersionTo(t, newChat(t).upstream, messengers, site, test)
}

// eachVersionTo is eachVersion with a backend of the test's own.
func eachVersionTo(t *testing.T, up *upstream, messengers, site string, test func(t *testing.T, g *gateway, v version)) {
	t.Run("HTTP/1.1", func(t *testing.T) {
		g := newGateway(t, up, "http://")
		g.unlogged = true
		g.load(messengers, site)
		test(t, g, version{"HTTP/1.1", plainClient})
	})
	t.Run("over TLS", func(t *testing.T) {
		g := newGateway(t, up, "https://")
		g.unlogged = true
		g.load(messengers, site)
		for _, v := range g.versions() {
			t.Run(v.name, func(t *testing.T) { test(t, g, v) })
		}
	})
}

// stream opens a stream. The caller reads and closes its body.
func (g *gateway) stream(v version, path string, headers ...string) *http.Response {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := v.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		g.t.Fatalf("%s: got %d", path, resp.StatusCode)
	}
	return resp
}

// An event stream ends with its token: between two events, with an event that says why, and with a clean end of the
// response. The Accept header of the client makes no difference, because an attacker chooses it freely.
func TestEventStreamEndsWithItsToken(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	eachVersion(t, messengers, guardedRoutes, func(t *testing.T, g *gateway, v version) {
		var all sync.WaitGroup
		for _, path := range guardedPaths {
			for _, accept := range []string{"text/event-stream", "*/*", "application/json"} {
				token, end := lasting(secret, "mark", time.Second)
				resp := g.stream(v, path+"/events", token, "Accept: "+accept, "Accept-Encoding: identity")
				all.Go(func() {
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Errorf("%s, accepting %s: the response has no clean end: %v", path, accept, err)
					}
					events, ok := strings.CutSuffix(string(body), lastEvent)
					if !ok || !wholeEvents.MatchString(events) {
						t.Errorf("%s, accepting %s: it ends with %q", path, accept, body[max(0, len(body)-100):])
					}
					if late := time.Since(end); late < 0 || late > 10*time.Second {
						t.Errorf("it ended %v after its token", late)
					}
				})
			}
		}
		all.Wait()
	})
}

// A backend that is silent changes nothing.
func TestQuietEventStreamEndsWithItsToken(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	const want = "data: 0 of 0\n\n" + lastEvent
	eachVersion(t, messengers, guardedRoutes, func(t *testing.T, g *gateway, v version) {
		token, _ := lasting(secret, "mark", time.Second)
		asked := g.stream(v, "/plain/quiet", token, "Accept: text/event-stream")
		other := g.stream(v, "/plain/quiet", token, "Accept: */*")
		for _, resp := range []*http.Response{asked, other} {
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != want {
				t.Errorf("accepting %s: %q, %v", resp.Request.Header.Get("Accept"), body, err)
			}
		}
	})
}

// A cut download must not look complete, and so none is cut.
func TestDownloadOutlivesItsToken(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "max_session 1s")
	eachVersion(t, messengers, guardedRoutes, func(t *testing.T, g *gateway, v version) {
		long, _ := lasting(secret, "mark", time.Hour)
		_ = g.stream(v, "/plain/hello", long) // so that the connection is there when the token begins to live
		token, end := lastingExactly(secret, "mark", time.Second)
		var all sync.WaitGroup
		for _, path := range []string{"/plain/download", "/plain/sized", "/encode/download"} {
			for _, accept := range []string{"*/*", "text/event-stream"} {
				resp := g.stream(v, path, token, "Accept: "+accept)
				all.Go(func() {
					if body, err := io.ReadAll(resp.Body); err != nil || len(body) != downloadSize {
						t.Errorf("%s: got %d bytes, %v", path, len(body), err)
					}
				})
			}
		}
		all.Wait()
		if time.Now().Before(end) {
			t.Error("the token has not expired; nothing was tested")
		}
	})
}

// A compressed event stream ends without a last event, and whole: what came can be read to its end.
func TestCompressedEventStreamEndsWhole(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	eachVersion(t, messengers, guardedRoutes, func(t *testing.T, g *gateway, v version) {
		token, _ := lasting(secret, "mark", time.Second)
		resp := g.stream(v, "/encode/events", token, "Accept: text/event-stream", "Accept-Encoding: gzip")
		if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
			t.Fatalf("it is encoded as %q", got)
		}
		plain, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(plain)
		if err != nil {
			t.Errorf("reading to its end: %v", err)
		}
		whole := string(body[:strings.LastIndex(string(body), "\n\n")+2]) // a client drops an event without its end
		if !wholeEvents.MatchString(whole) || strings.Contains(string(body), "event: auth") {
			t.Errorf("it ends with %q", body[max(0, len(body)-100):])
		}
	})
}

// A reload leaves event streams open. Their ends come all the same.
func TestEventStreamEndsAfterAReload(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	up := newChat(t)
	g := start(t, up.upstream, messengers, guardedRoutes)
	token, _ := lasting(secret, "mark", 2*time.Second) // in which the reload has to be over
	resp := g.stream(version{"HTTP/1.1", plainClient}, "/plain/events", token)
	reader := bufio.NewReader(resp.Body)
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	g.load(messengers, guardedRoutes+"\nheader X-Reloaded 1")
	body, err := io.ReadAll(reader)
	if err != nil || !strings.HasSuffix(string(body), lastEvent) {
		t.Errorf("it ends with %q, %v", body[max(0, len(body)-100):], err)
	}
	if got := g.get("/plain/none", token).header.Get("X-Reloaded"); got != "1" {
		t.Errorf("after the reload the header is %q", got)
	}
}

// A client that reads no events is cut off like one that reads no frames.
func TestEventStreamThatIsNotReadIsCutOff(t *testing.T) {
	if !alone(t) {
		return
	}
	g, _, secret := startStrict(t, "", guardedRoutes)
	token, end := lasting(secret, "mark", time.Second)
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := fmt.Fprintf(conn, "GET /plain/flood HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", g.addr, token); err != nil {
		t.Fatal(err)
	}
	g.waitForLog(`"msg":"handled request"`)
	if late := time.Since(end); late < 0 || late > 5*time.Second {
		t.Errorf("it was freed %v after its token", late)
	}
}
