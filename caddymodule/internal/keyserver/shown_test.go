package keyserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestShownHidesTheValuesOfAQuery(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.example/keys":               "https://a.example/keys",
		"https://a.example/keys?key=s3cret&v=": "https://a.example/keys?key=…&v=…",
		"https://a.example/?s3cret":            "https://a.example/?…",
		"https://a.example/?a=b=s3cret?c":      "https://a.example/?a=…",
	} {
		if got := Shown(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

// A key server repeats what it was asked for, in each place that an error or an answer quotes.
func TestErrorsDoNotRepeatTheQuery(t *testing.T) {
	const secret = "S3cret/of a query"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value := r.URL.Query().Get("key")
		if value == "" {
			value, _ = url.QueryUnescape(r.URL.RawQuery)
		}
		switch r.URL.Path {
		case "/redirect":
			w.Header().Set("Location", "/"+url.PathEscape(value))
			w.WriteHeader(http.StatusFound)
		case "/elsewhere":
			w.Header().Set("Location", "ftp://x/?"+r.URL.RawQuery)
			w.WriteHeader(http.StatusFound)
		case "/type":
			w.Header().Set("Content-Type", strings.ToLower(value))
		case "/encoding":
			w.Header().Set("Content-Encoding", value)
		case "/broken":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", value)
			conn.Close()
		}
	}))
	defer server.Close()
	for _, path := range []string{"/redirect", "/elsewhere", "/type", "/encoding", "/broken"} {
		said := ""
		for _, query := range []string{"?v=1&key=", "?"} {
			answer, err := NewClient(server.URL+path+query+url.QueryEscape(secret), false).Fetch(t.Context(), Validators{})
			said += fmt.Sprint(err)
			if answer != nil {
				said += answer.ContentType
			}
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if strings.Contains(strings.ToLower(said), strings.ToLower(form)) {
				t.Errorf("%s: %s", path, said)
			}
		}
	}
}
