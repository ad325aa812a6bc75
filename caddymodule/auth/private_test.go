package auth

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// The two writers that a contact's response can have, each around a recorder.
func privateWriters(t *testing.T) map[string]func(http.ResponseWriter, caddyhttp.Handler) error {
	t.Helper()
	m, c := guardedMessenger(t, time.Hour, time.Hour)
	return map[string]func(http.ResponseWriter, caddyhttp.Handler) error{
		"guarded": func(w http.ResponseWriter, next caddyhttp.Handler) error {
			return new(Handler).guardAs(m, w, get("Accept: */*"), config.ModeRequired, &upstream.Outcome{Contact: c}, next)
		},
		"not guarded": func(w http.ResponseWriter, next caddyhttp.Handler) error { return servePrivately(w, get(), next) },
	}
}

// However a handler begins its response, and whatever it says about caching, it is decided once, before the head.
func TestResponsesToContactsArePrivate(t *testing.T) {
	says := func(name string, values ...string) func(http.Header) {
		return func(h http.Header) { h[name] = values }
	}
	headers := map[string]struct {
		set  func(http.Header)
		want []string
	}{
		"nothing":                 {func(http.Header) {}, []string{"private"}},
		"an empty Cache-Control":  {says("Cache-Control", ""), []string{"private"}},
		"blanks in Cache-Control": {says("Cache-Control", " ,", ""), []string{"private"}},
		"an empty Expires":        {says("Expires", ""), []string{"private"}},
		"other words about caching": {func(h http.Header) {
			h.Set("Etag", `"1"`)
			h.Set("Last-Modified", "x")
			h.Set("Vary", "*")
			h.Set("Pragma", "x")
		}, []string{"private"}},
		"a cookie":                         {says("Set-Cookie", "a=b"), []string{"private"}},
		"public":                           {says("Cache-Control", "public, max-age=60"), []string{"public, max-age=60"}},
		"private for some fields":          {says("Cache-Control", `private="X-A", no-cache="Set-Cookie"`), []string{`private="X-A", no-cache="Set-Cookie"`, "private"}},
		"private in a quoted string":       {says("Cache-Control", `a="x,private,y"`), []string{`a="x,private,y"`, "private"}},
		"private":                          {says("Cache-Control", `a="x", Private`), []string{`a="x", Private`}},
		"no-store":                         {says("Cache-Control", "no-store"), []string{"no-store"}},
		"a second line of it":              {says("Cache-Control", "", "max-age=1"), []string{"", "max-age=1"}},
		"Expires":                          {says("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"), nil},
		"Expires that is not a date, as 0": {says("Expires", "0"), nil},
	}
	begins := map[string]func(http.ResponseWriter){
		"WriteHeader":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"a redirect":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusMovedPermanently) },
		"not modified": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotModified) },
		"Write":        func(w http.ResponseWriter) { _, _ = w.Write([]byte("x")) },
		"ReadFrom":     func(w http.ResponseWriter) { _, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("x")}) },
		"Flush":        func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		"nothing":      func(http.ResponseWriter) {},
		"a head, then more": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			w.Header().Del("Cache-Control")
			_, _ = w.Write([]byte("x"))
		},
	}
	for kind, serve := range privateWriters(t) {
		for said, header := range headers {
			for began, begin := range begins {
				t.Run(kind+", "+said+", begun by "+began, func(t *testing.T) {
					w := httptest.NewRecorder()
					if err := serve(w, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
						header.set(w.Header())
						begin(w)
						return nil
					})); err != nil {
						t.Error(err)
					}
					sent := w.Header()
					if began != "nothing" { // a recorder keeps the head that was sent
						sent = w.Result().Header
					}
					if got := sent["Cache-Control"]; !slices.Equal(got, header.want) {
						t.Errorf("Cache-Control: got %q, want %q", got, header.want)
					}
				})
			}
		}
	}
}

// Heads that are not the answer stay as they are.
func TestInformationalResponsesAreNotMadePrivate(t *testing.T) {
	for kind, serve := range privateWriters(t) {
		for _, status := range []int{http.StatusContinue, http.StatusSwitchingProtocols, http.StatusEarlyHints} {
			_ = serve(httptest.NewRecorder(), caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.WriteHeader(status)
				if got, found := w.Header()["Cache-Control"]; found {
					t.Errorf("%s, %d: got Cache-Control %q", kind, status, got)
				}
				return nil
			}))
		}
	}
}

// A handler in front may change values in place, as Caddy's header directive does.
func TestEveryResponseHasItsOwnCacheControl(t *testing.T) {
	for kind, serve := range privateWriters(t) {
		for range 2 {
			w := httptest.NewRecorder()
			_ = serve(w, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(200); return nil }))
			if got := w.Header()["Cache-Control"]; len(got) != 1 || got[0] != "private" || cap(got) != 1 {
				t.Fatalf("%s: got %q with room for %d", kind, got, cap(got))
			}
			w.Header()["Cache-Control"][0] = "public"
		}
	}
}

// What fails behind us is answered without us.
func TestErrorsOfLaterHandlersKeepTheirCacheControl(t *testing.T) {
	failed := errors.New("failed")
	for kind, serve := range privateWriters(t) {
		w := httptest.NewRecorder()
		if err := serve(w, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return failed })); !errors.Is(err, failed) {
			t.Errorf("%s: got %v", kind, err)
		}
		if got, found := w.Header()["Cache-Control"]; found {
			t.Errorf("%s: got Cache-Control %q", kind, got)
		}
		_ = new(Handler).keepErrorPrivate(w, get(), failed)
		if got := w.Header().Get("Cache-Control"); got != "private" {
			t.Errorf("%s: got Cache-Control %q, want private", kind, got)
		}
	}
}

// sendfile is a writer that takes a file whole.
type sendfile struct {
	http.ResponseWriter
	from io.Reader
}

func (s *sendfile) ReadFrom(from io.Reader) (int64, error) { s.from = from; return 0, nil }

func TestPrivateResponsesKeepSendfile(t *testing.T) {
	for kind, serve := range privateWriters(t) {
		w, file := &sendfile{ResponseWriter: httptest.NewRecorder()}, struct{ io.Reader }{strings.NewReader("x")}
		_ = serve(w, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.Copy(w, file)
			return err
		}))
		if w.from != io.Reader(file) {
			t.Errorf("%s: the writer behind ours was not given the file", kind)
		}
	}
}
