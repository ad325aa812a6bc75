package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/pberkel/caddy-storage-redis" // a storage that nodes share

	_ "github.com/messengerauth/caddy-messenger-auth"
)

// An answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// problem returns the code of a problem answer.
func (a answer) code(t testing.TB) string {
	t.Helper()
	var p struct {
		Type, Title, Code, Detail string
		Status                    int
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("status %d with a body that is not a problem: %q", a.status, a.body)
	}
	if p.Status != a.status || p.Title == "" || p.Detail == "" || !strings.HasSuffix(p.Type, "#"+p.Code) {
		t.Errorf("incomplete problem: %s", a.body)
	}
	return p.Code
}

// get sends a GET with header lines such as "Authorization: Bearer x".
func (g *gateway) get(path string, headers ...string) answer {
	g.t.Helper()
	return g.do(http.MethodGet, path, headers...)
}

func (g *gateway) do(method, path string, headers ...string) answer {
	g.t.Helper()
	return g.send(plainClient, method, path, headers...)
}

func (g *gateway) send(client *http.Client, method, path string, headers ...string) answer {
	g.t.Helper()
	return g.sendRequest(client, method, path, func(r *http.Request) {
		for _, line := range headers {
			name, value, _ := strings.Cut(line, ": ")
			r.Header[name] = append(r.Header[name], value) // as spelled, not canonical
		}
	})
}

// sendRequest sends a request that send cannot make, such as one with a body and trailers.
func (g *gateway) sendRequest(client *http.Client, method, path string, change func(r *http.Request)) answer {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	change(r)
	resp, err := client.Do(r)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	if resp.StatusCode >= 400 {
		search.add("error answer", append(headerText(resp.Header), body...))
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func headerText(h http.Header) []byte {
	var b bytes.Buffer
	_ = h.Write(&b)
	return b.Bytes()
}

// plainClient follows no redirects and keeps no connection, so that goroutine counts are stable.
var plainClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// raw sends text over a TCP connection and returns the answer, for requests that no client library makes.
func (g *gateway) raw(text string) answer {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		g.t.Fatal(err)
	}
	return readAnswer(g.t, conn)
}
