package integration

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// misbehaviours are answers of key servers that have been seen, or that an attacker would give.
func misbehaviours(t *testing.T) map[string]http.HandlerFunc {
	body := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	working := newKeyServer(t, publicJWK(rsaKey(2), "elsewhere"))
	set := readAll(t, working.url)
	private := publicJWK(rsaKey(2), "private")
	private["d"] = "AQAB"
	return map[string]http.HandlerFunc{
		"500 with a valid set in its body": body(500, set),
		"503":                              body(503, "try later"),
		"404 with a valid set in its body": body(404, set),
		"204":                              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"206 with a valid set in its body": body(206, set),
		"304 without a condition":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) },
		"an HTML login page":               body(200, "<!doctype html><title>Sign in</title>"),
		"an empty set":                     body(200, `{"keys":[]}`),
		"null":                             body(200, `null`),
		"keys null":                        body(200, `{"keys":null}`),
		"a truncated set":                  body(200, set[:len(set)/2]),
		"only a private key":               body(200, mustJSON(map[string]any{"keys": []jwk{private}})),
		"only a symmetric key":             body(200, `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}`),
		"a set larger than any":            body(200, `{"keys":[],"padding":"`+strings.Repeat("x", 300<<10)+`"}`),
		"more entries than any":            body(200, `{"keys":[`+strings.TrimSuffix(strings.Repeat("{},", 200), ",")+`]}`),
		"gzip, unasked":                    gzipBomb,
		"an endless body":                  endless,
		"a body that stops half-way": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9999")
			_, _ = io.WriteString(w, set)
		},
		"silence": hang,
		"headers, then silence": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[`)
			flush(w)
			hang(w, r)
		},
		"a body that drips": func(w http.ResponseWriter, r *http.Request) {
			for i := 0; r.Context().Err() == nil && i < len(set); i++ {
				_, _ = io.WriteString(w, set[i:i+1])
				flush(w)
				time.Sleep(20 * time.Millisecond)
			}
		},
		"headers that drip": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			for _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: "); err == nil; _, err = io.WriteString(conn, "x") {
				time.Sleep(20 * time.Millisecond)
			}
		},
		"a redirect to another host": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, working.url, http.StatusFound) },
		"a redirect to another scheme": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+"/x", http.StatusFound)
		},
		"a redirect to a file": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"a redirect to itself":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"a connection that is cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"more headers than any": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 100<<10))
			_, _ = io.WriteString(w, set)
		},
	}
}

func gzipBomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(manyZeros())
}

// manyZeros are 64 MiB in 64 KiB: a MiB, 64 times over (RFC 1952, section 2.2).
var manyZeros = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 1<<20)) // a buffer takes everything
	_ = z.Close()
	return bytes.Repeat(b.Bytes(), 64)
})

func endless(w http.ResponseWriter, r *http.Request) {
	block := bytes.Repeat([]byte(" "), 32<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

func readAll(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A key server fails in every way there is. While a usable key is there, no valid token is refused or delayed; where no
// key was ever seen the gateway cannot decide, says so, and starts all the same.
func TestMisbehavingKeyServers(t *testing.T) {
	if !alone(t) {
		return
	}
	const quick = "messenger %s {\n identity_key identity\n audience chat\n jwks %s {\n timeout 500ms\n }\n}\n"
	for name, misbehave := range misbehaviours(t) {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t)
			failing, never := newKeyServer(t, publicJWK(rsaKey(0), "a")), newKeyServer(t)
			never.behave(misbehave)
			g := start(t, up, fmt.Sprintf(quick, "support", failing.url)+fmt.Sprintf(quick, "never", never.url),
				"handle /never {\nmessenger_auth never\nreverse_proxy UPSTREAM\n}\nhandle {\n"+supportSite+"\n}")
			valid := bearer(signWithKID(rsaKey(0), "a", forChat("mark")))
			if a := g.get("/", valid); a.status != 200 {
				t.Fatalf("before: got %d %s", a.status, a.body)
			}
			failing.behave(misbehave)
			if status := g.refresh("support"); status != 502 {
				t.Errorf("refresh: got %d, want 502", status)
			}
			if a := g.get("/", valid); a.status != 200 {
				t.Errorf("a valid token with a usable key: got %d %s", a.status, a.body)
			}
			up.take()
			a := g.get("/never", valid)
			if a.status != 503 || a.code(t) != "keys_unavailable" || a.header.Get("Retry-After") == "" || a.header.Get("Www-Authenticate") != "" {
				t.Errorf("no key ever seen: got %d %v %s", a.status, a.header, a.body)
			}
			up.none(t)
		})
	}
}

// Memory is bounded whatever a key server sends: an answer is read up to 256 KiB.
func TestHostileAnswersTakeLittleMemory(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, hostile := range map[string]http.HandlerFunc{"endless": endless, "gzip": gzipBomb} {
		t.Run(name, func(t *testing.T) {
			keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
			g := start(t, newUpstream(t), jwksMessenger(keys.url), supportSite)
			keys.behave(hostile)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			const fetches = 8
			for range fetches {
				g.refresh("support")
			}
			runtime.ReadMemStats(&after)
			// The server of the test allocates in the same process: the gzip writer about 1 MiB a time.
			if perFetch := (after.TotalAlloc - before.TotalAlloc) / fetches; perFetch > 4<<20 {
				t.Errorf("%d bytes were allocated for a fetch", perFetch)
			}
		})
	}
}

// One key server hangs. Twenty other messengers do not notice.
func TestHangingKeyServerDoesNotAffectOthers(t *testing.T) {
	if !alone(t) {
		return
	}
	hanging := newKeyServer(t)
	hanging.behave(hang)
	messengers, routes := "messenger hanging {\n identity_key identity\n audience chat\n jwks "+hanging.url+"\n}\n", "handle /hanging {\nmessenger_auth hanging\nrespond ok\n}\n"
	for i := range 20 {
		keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
		messengers += fmt.Sprintf("messenger m%d {\n identity_key identity\n audience chat\n jwks %s\n}\n", i, keys.url)
		routes += fmt.Sprintf("handle /m%d {\nmessenger_auth m%d\nrespond ok\n}\n", i, i)
	}
	g := start(t, nil, messengers, routes)
	token := bearer(signWithKID(rsaKey(0), "a", forChat("mark")))
	var stuck sync.WaitGroup
	answered := make(chan int, 1)
	stuck.Go(func() { answered <- g.get("/hanging", token).status })
	for i := range 20 {
		if a := g.get(fmt.Sprintf("/m%d", i), token); a.status != 200 {
			t.Errorf("m%d: got %d %s", i, a.status, a.body)
		}
	}
	select {
	case status := <-answered:
		t.Errorf("the request to the hanging messenger was answered with %d before the others", status)
	default:
	}
	stuck.Wait()
	if status := <-answered; status != 503 {
		t.Errorf("the hanging messenger: got %d, want 503", status)
	}
}
