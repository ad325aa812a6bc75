package keyserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An issuerServer serves metadata and a key set.
type issuerServer struct {
	*httptest.Server
	metadata atomic.Pointer[func(w http.ResponseWriter)]
	fetched  atomic.Int64 // key sets that were sent in full
	tag      atomic.Value // of the key set
}

func newIssuer(t *testing.T) *issuerServer {
	t.Helper()
	s := new(issuerServer)
	s.tag.Store("one")
	mux := http.NewServeMux()
	mux.HandleFunc("/tenant/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { (*s.metadata.Load())(w) })
	keys := func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf("%q", s.tag.Load().(string))
		if w.Header().Set("ETag", tag); r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		s.fetched.Add(1)
		fmt.Fprint(w, `{"keys":[]}`)
	}
	mux.HandleFunc("/keys", keys)
	mux.HandleFunc("/other-keys", keys)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *issuerServer) issuer() string { return s.URL + "/tenant" }

// says makes the server answer with this metadata.
func (s *issuerServer) says(text string) {
	f := func(w http.ResponseWriter) { fmt.Fprint(w, text) }
	s.metadata.Store(&f)
}

func (s *issuerServer) discovery() *Discovery {
	return &Discovery{Issuer: s.issuer(), Metadata: NewClient(s.issuer()+"/.well-known/openid-configuration", false)}
}

// An attacker who can change or imitate the metadata must not choose the keys, nor make the gateway ask other addresses.
func TestHostileMetadata(t *testing.T) {
	s := newIssuer(t)
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"another issuer":                    {`{"issuer": "https://evil.example", "jwks_uri": "` + s.URL + `/keys"}`, errOtherIssuer},
		"a slash more":                      {`{"issuer": "` + s.issuer() + `/", "jwks_uri": "` + s.URL + `/keys"}`, errOtherIssuer},
		"another case":                      {`{"issuer": "` + strings.ToUpper(s.issuer()) + `", "jwks_uri": "` + s.URL + `/keys"}`, errOtherIssuer},
		"an issuer that is not a string":    {`{"issuer": ["` + s.issuer() + `"], "jwks_uri": "` + s.URL + `/keys"}`, errNoMetadata},
		"no issuer":                         {`{"jwks_uri": "` + s.URL + `/keys"}`, errNoMetadata},
		"no jwks_uri":                       {`{"issuer": "` + s.issuer() + `"}`, errNoMetadata},
		"two issuers":                       {`{"issuer": "https://evil.example", "issuer": "` + s.issuer() + `", "jwks_uri": "` + s.URL + `/keys"}`, errNoMetadata},
		"two jwks_uris":                     {`{"issuer": "` + s.issuer() + `", "jwks_uri": "https://evil.example/", "jwks_ur\u0069": "` + s.URL + `/keys"}`, errNoMetadata},
		"a key set":                         {`{"keys": []}`, errNoMetadata},
		"an array":                          {`[]`, errNoMetadata},
		"text behind it":                    {`{"issuer": "` + s.issuer() + `", "jwks_uri": "` + s.URL + `/keys"} {}`, errNoMetadata},
		"plain http elsewhere":              {`{"issuer": "` + s.issuer() + `", "jwks_uri": "http://keys.example/keys"}`, errKeyURL},
		"a file":                            {`{"issuer": "` + s.issuer() + `", "jwks_uri": "file:///etc/passwd"}`, errKeyURL},
		"a user name":                       {`{"issuer": "` + s.issuer() + `", "jwks_uri": "https://me@keys.example/"}`, errKeyURL},
		"a path alone":                      {`{"issuer": "` + s.issuer() + `", "jwks_uri": "/keys"}`, errKeyURL},
		"huge":                              {`{"issuer": "` + s.issuer() + `", "jwks_uri": "` + s.URL + `/keys", "x": "` + strings.Repeat("x", maxAnswer) + `"}`, errTooLarge},
		"a lone surrogate in its own names": {`{"issuer": "` + s.issuer() + `", "jwks_uri": "` + s.URL + `/keys", "\ud800": 1}`, errNoMetadata},
	} {
		t.Run(name, func(t *testing.T) {
			s.says(tt.text)
			before := s.fetched.Load()
			answer, err := s.discovery().Fetch(t.Context(), Validators{})
			if !errors.Is(err, tt.want) || answer != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if strings.Contains(Reason(err).Error(), "evil") {
				t.Errorf("a site owner is shown %q", Reason(err))
			}
			if s.fetched.Load() != before {
				t.Error("a key set was fetched")
			}
		})
	}
}

func TestMetadataThatRedirectOrHang(t *testing.T) {
	s := newIssuer(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("another host was asked")
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": "%s/keys"}`, s.issuer(), s.URL)
	}))
	t.Cleanup(other.Close)
	redirect := func(w http.ResponseWriter) {
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusFound)
	}
	s.metadata.Store(&redirect)
	if _, err := s.discovery().Fetch(t.Context(), Validators{}); !errors.Is(err, errRedirect) {
		t.Errorf("a redirect to another host: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hang := func(w http.ResponseWriter) {
		w.(http.Flusher).Flush()
		cancel() // as the time limit does
		<-ctx.Done()
		time.Sleep(time.Millisecond)
	}
	s.metadata.Store(&hang)
	if _, err := s.discovery().Fetch(ctx, Validators{}); err == nil {
		t.Error("metadata that never end were waited for")
	}
}

// An https issuer elsewhere must not make the gateway ask its own machine over plain http.
func TestRemoteIssuerCannotReferToThisMachine(t *testing.T) {
	d := &Discovery{Issuer: "https://login.example"}
	for _, uri := range []string{"http://127.0.0.1:2019/config/", "http://localhost/keys", "http://[::1]/keys"} {
		if _, err := d.read([]byte(`{"issuer": "https://login.example", "jwks_uri": "` + uri + `"}`)); !errors.Is(err, errKeyURL) {
			t.Errorf("%s: got %v", uri, err)
		}
	}
}

// Of a stored messenger both fetches keep to public addresses, unless the operator has listed the host.
func TestMetadataAndKeysAreFetchedFromPublicAddressesOnly(t *testing.T) {
	s := newIssuer(t)
	s.says(fmt.Sprintf(`{"issuer": %q, "jwks_uri": "%s/keys"}`, s.issuer(), s.URL))
	d := s.discovery()
	var asked string
	d.Public = func(hostname, _ string) bool { asked = hostname; return true }
	if _, err := d.Fetch(t.Context(), Validators{}); !errors.Is(err, errForbiddenAddress) || asked != "127.0.0.1" {
		t.Errorf("got %v for %q", err, asked)
	}
	d = &Discovery{Issuer: s.issuer(), Metadata: NewClient(s.issuer()+"/.well-known/openid-configuration", true)}
	if _, err := d.Fetch(t.Context(), Validators{}); !errors.Is(err, errForbiddenAddress) {
		t.Errorf("the metadata: got %v", err)
	}
}

// Validators belong to the URL of the key set: when the metadata name another one, it is fetched in full.
func TestMovedKeySetIsFetchedInFull(t *testing.T) {
	s := newIssuer(t)
	at := func(path string) { s.says(fmt.Sprintf(`{"issuer": %q, "jwks_uri": "%s%s"}`, s.issuer(), s.URL, path)) }
	at("/keys")
	d := s.discovery()
	defer d.Close()
	first, err := d.Fetch(t.Context(), Validators{})
	if err != nil || first.NotModified {
		t.Fatalf("got %+v, %v", first, err)
	}
	again, err := d.Fetch(t.Context(), first.Validators)
	if err != nil || !again.NotModified {
		t.Errorf("the same URL: got %+v, %v", again, err)
	}
	at("/other-keys")
	moved, err := d.Fetch(t.Context(), first.Validators)
	if err != nil || moved.NotModified || len(moved.Body) == 0 {
		t.Errorf("another URL: got %+v, %v", moved, err)
	}
	if n := s.fetched.Load(); n != 2 {
		t.Errorf("the set was sent %d times, want 2", n)
	}
}
