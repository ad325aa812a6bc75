package keyserver

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

const secretValue = "Bearer s3cr3t-of-the-key-server"

func withHeader() (Access, error) {
	return Access{Header: http.Header{"X-Api-Key": {secretValue}, "user-agent": {"chat"}}}, nil
}

// A server that is asked with a secret sends the gateway elsewhere, by a redirect or in a document. The secret does not go there.
func TestHeadersAreNotSentToOtherHosts(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if elsewhere.Add(1); r.Header.Get("X-Api-Key") != "" {
			t.Error("the header goes to another host")
		}
	}))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != secretValue || r.Header.Get("User-Agent") != "chat" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("%s: got %v", r.URL, r.Header)
		}
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/"+url.PathEscape(secretValue), http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/keys", http.StatusTemporaryRedirect)
		default:
			_, _ = w.Write([]byte("{}"))
		}
	}))
	defer server.Close()
	client := NewClient(server.URL+"/here", false)
	client.Access = withHeader
	if answer, err := client.Fetch(t.Context(), Validators{}); err != nil || string(answer.Body) != "{}" {
		t.Errorf("a redirect on the same host: got %v, %v", answer, err)
	}
	away := client.For(server.URL+"/away", false)
	if _, err := away.Fetch(t.Context(), Validators{}); !errors.Is(err, errRedirect) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a redirect to another host: got %v", err)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the other host was asked %d times", n)
	}
	if _, err := client.For(other.URL, false).Fetch(t.Context(), Validators{}); err != nil || elsewhere.Load() != 1 {
		t.Errorf("a document that names another host: got %v", err)
	}
	if IsSameHost(server.URL, strings.Replace(server.URL, "http:", "https:", 1)) || IsSameHost("", "") || IsSameHost("https://a.example", "https://a.example:8443") || IsSameHost("https://a.example@b.example/", "https://a.example/") || !IsSameHost("https://A.example/x", "https://a.example/y") {
		t.Error("hosts are not told apart")
	}
}

// A server repeats what it was sent. Errors go to logs, and to those who may see the messenger.
func TestErrorsDoNotRepeatSecrets(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := strings.Cut(r.Header.Get("X-Api-Key"), " ")
		switch r.URL.Path {
		case "/encoding":
			w.Header().Set("Content-Encoding", token)
		case "/redirect":
			http.Redirect(w, r, "https://login.example.net/"+token, http.StatusFound)
		default:
			w.Header().Set("Content-Type", "text/"+token)
		}
	}))
	defer server.Close()
	for path, want := range map[string]error{"/encoding": errEncoding, "/redirect": errRedirect} {
		client := NewClient(server.URL+path, false)
		client.Access = withHeader
		if _, err := client.Fetch(t.Context(), Validators{}); err == nil || err.Error() != Reason(want).Error() {
			t.Errorf("%s: got %v, want %v alone", path, err, want)
		}
	}
	client := NewClient(server.URL+"/type", false)
	client.Access = withHeader
	if answer, err := client.Fetch(t.Context(), Validators{}); err != nil || answer.ContentType != "" {
		t.Errorf("a content type: got %+v, %v", answer, err)
	}
}

// The authorities that are named are the only ones, so that no other one can vouch for a server in between.
func TestOnlyConfiguredAuthoritiesAreTrusted(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer server.Close()
	server.Config.ErrorLog = nil
	own := x509.NewCertPool()
	own.AddCert(server.Certificate())
	for name, tt := range map[string]struct {
		roots *x509.CertPool
		works bool
	}{"its own": {own, true}, "others": {x509.NewCertPool(), false}, "the system's": {nil, false}} {
		client := NewClient(server.URL, false)
		client.Access = func() (Access, error) { return Access{Roots: tt.roots}, nil }
		if _, err := client.Fetch(t.Context(), Validators{}); (err == nil) != tt.works {
			t.Errorf("%s: got %v", name, err)
		}
	}
	client := NewClient(server.URL, false)
	client.Access = func() (Access, error) { return Access{}, errors.New("ca /etc/ca.pem: no such file") }
	if _, err := client.Fetch(t.Context(), Validators{}); !errors.Is(err, errAccess) || !strings.Contains(err.Error(), "/etc/ca.pem") || strings.Contains(Reason(err).Error(), "/etc") {
		t.Errorf("a file that is gone: got %v", err)
	}
}
