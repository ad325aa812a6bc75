package keyserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Operators learn what the key server did, and site owners only the reason, which describes no network and no answer.
func TestKeyServerFailuresHaveACause(t *testing.T) {
	for _, tt := range []struct {
		origin  string
		handler http.HandlerFunc
		want    cause.Cause
		detail  string // for operators alone
	}{
		{"a login server that has moved", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example.net/keys?secret=hidden", http.StatusFound)
		}, cause.ServerRedirect, "https://login.example.net/keys"},
		{"a content delivery network with brotli", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
		}, cause.ServerEncoding, `"br"`},
	} {
		server := httptest.NewServer(tt.handler)
		client := NewClient(server.URL, false)
		_, err := client.Fetch(t.Context(), Validators{})
		if cause.Of(err) != tt.want || !strings.Contains(err.Error(), tt.detail) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v, want %s and %s", tt.origin, err, tt.want, tt.detail)
		}
		if shown := Reason(err).Error(); shown != tt.want.Err().Error() {
			t.Errorf("%s: site owners see %q", tt.origin, shown)
		}
		client.Close()
		server.Close()
	}
	private := httptest.NewTLSServer(http.NotFoundHandler())
	defer private.Close()
	private.Config.ErrorLog = nil
	client := NewClient(private.URL, false)
	defer client.Close()
	if _, err := client.Fetch(t.Context(), Validators{}); cause.Of(err) != cause.ServerAuthority || ClassOf(err) != Unreachable || Reason(err).Error() != errUnreachable.Error() {
		t.Errorf("a server of a private authority: got %v, and site owners see %v", err, Reason(err))
	}
}
