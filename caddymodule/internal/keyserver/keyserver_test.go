package keyserver

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestURLIsHTTPSOrLoopback(t *testing.T) {
	for _, valid := range []string{"https://keys.example/jwks.json", "https://keys.example:8443/a?b=c", "http://127.0.0.1:8080/jwks", "http://[::1]/jwks", "http://localhost/jwks"} {
		if err := CheckURL(valid); err != nil {
			t.Errorf("%s: %v", valid, err)
		}
	}
	for invalid, want := range map[string]string{
		"http://keys.example/jwks.json":   "plain http",
		"http://127.0.0.1.evil.example/":  "plain http",
		"http://[::1%25lo]/jwks":          "plain http",
		"keys.example/jwks.json":          "is not a URL",
		"https://":                        "is not a URL",
		"https://user:pw@keys.example/":   "user name",
		"https://keys.example/jwks#first": "fragment",
		"file:///etc/jwks.json":           "is not a URL",
		"ftp://keys.example/jwks":         "is not an https URL",
	} {
		if err := CheckURL(invalid); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", invalid, err, want)
		}
	}
}

// A max-age that is too large for a number counts as expired. It must not wrap around into a lifetime without an end.
func TestOverflowingLifetimeCountsAsExpired(t *testing.T) {
	now := time.Now()
	for value, want := range map[string]time.Duration{
		"max-age=2147483647":                       (1<<31 - 1) * time.Second,
		"max-age=2147483648":                       0,
		"max-age=99999999999999999999999999999999": 0,
		"max-age=-1":                               0,
	} {
		if got := lifetime(http.Header{"Cache-Control": {value}}, now); got != want {
			t.Errorf("%s: got %v, want %v", value, got, want)
		}
	}
	if got := lifetime(http.Header{"Expires": {"Fri, 31 Dec 9999 23:59:59 GMT"}}, now); got < 200*365*24*time.Hour {
		t.Errorf("an Expires of the year 9999: got %v", got)
	}
}

// How long a cache has had an answer is taken off, whichever header says how long it may be used.
func TestAgeIsSubtractedFromTheLifetime(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, header := range map[string]http.Header{
		"max-age":          {"Cache-Control": {"max-age=1200"}, "Age": {"600"}},
		"Expires":          {"Date": {at(-10 * time.Minute)}, "Expires": {at(10 * time.Minute)}, "Age": {"600"}},
		"blanks":           {"Cache-Control": {"max-age = 600"}},
		"an escaped quote": {"Cache-Control": {`a="x\"y", max-age=600`}},
		"a quoted string":  {"Cache-Control": {`a="x,max-age=9999", max-age=600`}},
	} {
		if got := lifetime(header, now); got != 10*time.Minute {
			t.Errorf("%s: got %v, want 10m", name, got)
		}
	}
	for name, header := range map[string]http.Header{
		"max-age":                           {"Cache-Control": {"max-age=60"}, "Age": {"600"}},
		"Expires":                           {"Date": {at(0)}, "Expires": {at(time.Minute)}, "Age": {"600"}},
		"no-store comes last":               {"Cache-Control": {"max-age=60, no-store"}},
		"no-store is on another line":       {"Cache-Control": {"max-age=60", "no-store"}},
		"a text that does not end before":   {"Cache-Control": {`a="x`, "no-store, max-age=60"}},
		"a text that does not end":          {"Cache-Control": {`a="x, no-store, max-age=60`}},
		"a text that does not end, after":   {"Cache-Control": {`max-age=60, a="x, no-store`}},
		"an escaped quote does not end it":  {"Cache-Control": {`max-age=600, foo="bar\", no-store`}},
		"blanks around the equals sign":     {"Cache-Control": {`no-cache = "x", max-age=60`}},
		"the shorter of two ages":           {"Cache-Control": {"max-age=60, max-age=0"}},
		"the shorter of two ages, on lines": {"Cache-Control": {"max-age=0", "max-age=60"}},
	} {
		if got := lifetime(header, now); got != 0 {
			t.Errorf("%s: got %v, want 0", name, got)
		}
	}
}

// A server that was not asked whether the content has changed must not answer that it has not: the caller has no content.
func TestNotModifiedIsAcceptedOnlyForKnownContent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.WriteHeader(http.StatusNotModified)
	}))
	defer server.Close()
	client := NewClient(server.URL, false)
	defer client.Close()
	if _, err := client.Fetch(t.Context(), Validators{}); !errors.Is(err, errStatus) || ClassOf(err) != Refused {
		t.Errorf("without content: got %v, want %v", err, errStatus)
	}
	if answer, err := client.Fetch(t.Context(), Validators{etag: `"v1"`}); err != nil || !answer.NotModified || answer.Body != nil {
		t.Errorf("with content: got %+v, %v", answer, err)
	}
}

// A redirect to another host or scheme would move the trust in the configured URL to a server that is not configured.
func TestRedirectsToOtherHostsAreRefused(t *testing.T) {
	for target, want := range map[string]error{
		"/keys": nil, "/again": errRedirects, "http://localhost:PORT/keys": errRedirect, "https://127.0.0.1:PORT/keys": errRedirect, "HTTP://127.0.0.1:PORT/keys": nil,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				_, _ = w.Write([]byte("{}"))
				return
			}
			http.Redirect(w, r, strings.ReplaceAll(target, "PORT", r.Host[strings.LastIndexByte(r.Host, ':')+1:]), http.StatusFound)
		}))
		client := NewClient(server.URL, false)
		answer, err := client.Fetch(t.Context(), Validators{})
		if !errors.Is(err, want) || want == nil && string(answer.Body) != "{}" {
			t.Errorf("%s: got %v, %v, want %v", target, answer, err, want)
		}
		client.Close()
		server.Close()
	}
}

func gzipped(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, part := range parts {
		w := gzip.NewWriter(&b)
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// An answer is read up to the limit and no further, compressed or not, and only in encodings that are known.
func TestAnswersAreBounded(t *testing.T) {
	set := []byte(`{"keys":[]}`)
	whole := gzipped(t, set)
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 0xff
	for name, tt := range map[string]struct {
		body     []byte
		encoding string
		want     string // the content
		err      error
	}{
		"at the limit":                            {make([]byte, maxAnswer), "", string(make([]byte, maxAnswer)), nil},
		"one byte over it":                        {make([]byte, maxAnswer+1), "", "", errTooLarge},
		"identity":                                {set, "Identity", string(set), nil},
		"gzip, without being asked":               {whole, "gzip", string(set), nil},
		"gzip by its old name":                    {whole, "X-GZIP", string(set), nil},
		"gzip in two parts":                       {gzipped(t, set[:4], set[4:]), "gzip", string(set), nil},
		"gzip at the limit":                       {gzipped(t, make([]byte, maxAnswer)), "gzip", string(make([]byte, maxAnswer)), nil},
		"a small answer that becomes a large one": {gzipped(t, make([]byte, 100*maxAnswer)), "gzip", "", errTooLarge},
		"parts without content, without an end":   {bytes.Repeat(gzipped(t, nil), maxAnswer/20), "gzip", "", errTooLarge},
		"gzip that is cut off":                    {whole[:len(whole)-1], "gzip", "", errUnreachable},
		"gzip that is damaged":                    {damaged, "gzip", "", errEncoding},
		"gzip in name only":                       {set, "gzip", "", errEncoding},
		"gzip twice":                              {gzipped(t, whole), "gzip, gzip", "", errEncoding},
		"gzip that is not said":                   {whole, "", string(whole), nil},
		"another encoding":                        {set, "br", "", errEncoding},
		"a byte-order mark":                       {[]byte("\xef\xbb\xbf" + string(set)), "", string(set), nil},
		"two byte-order marks, which no file has": {[]byte("\xef\xbb\xbf\xef\xbb\xbf" + string(set)), "", "\xef\xbb\xbf" + string(set), nil},
		"a byte-order mark in gzip":               {gzipped(t, []byte("\xef\xbb\xbf"+string(set))), "gzip", string(set), nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.Header.Get("Accept"), "*/*;q=0.1") || r.Header.Get("Accept-Encoding") != "identity" {
					w.WriteHeader(http.StatusNotAcceptable)
				}
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				_, _ = w.Write(tt.body)
			}))
			defer server.Close()
			client := NewClient(server.URL, false)
			defer client.Close()
			answer, err := client.Fetch(t.Context(), Validators{})
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if err == nil && string(answer.Body) != tt.want {
				t.Errorf("got %d bytes, want %d", len(answer.Body), len(tt.want))
			}
			if err != nil && !errors.Is(err, errUnreachable) && ClassOf(err) != Unusable {
				t.Errorf("got class %s, want %s", ClassOf(err), Unusable)
			}
		})
	}
}
