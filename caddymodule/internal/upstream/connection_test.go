package upstream

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Connection names headers in any case, and the four options that stay are there once.
func TestConnectionHeaderIsParsedCompletely(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  string // what is left of Connection
		left  string // the other headers
	}{
		{[]string{"keep-alive"}, "keep-alive", "Te X-Contact-Identity X-One Xo"},
		{[]string{"Upgrade, HTTP2-Settings"}, "upgrade", "Te X-Contact-Identity X-One Xo"},
		{[]string{" TE ,\tclose,,te", "Close,Keep-Alive"}, "te, close, keep-alive", "Te X-Contact-Identity X-One Xo"},
		{[]string{"x-one, X-CONTACT-identity"}, "", "Te Xo"},
		{[]string{"xo,XO,xe", "X-One"}, "", "Te X-Contact-Identity"},
		{[]string{strings.Repeat("x-two,", 1000) + "x-one"}, "", "Te X-Contact-Identity Xo"},
		{[]string{strings.Repeat("te,", 1000)}, "te", "Te X-Contact-Identity X-One Xo"},
		{[]string{"x one, x-on, x-onee, \u212aeep-alive"}, "", "Te X-Contact-Identity X-One Xo"},
		{[]string{", ,\t,"}, "", "Te X-Contact-Identity X-One Xo"},
	} {
		header := http.Header{"Connection": tt.lines, "Te": {"1"}, "X-One": {"1"}, "Xo": {"1"}, "X-Contact-Identity": {"1"}}
		cleanConnection(header)
		got := header.Get("Connection")
		delete(header, "Connection")
		if left := strings.Join(slices.Sorted(maps.Keys(header)), " "); got != tt.want || left != tt.left {
			t.Errorf("%.60q: got %q and %s, want %q and %s", tt.lines, got, left, tt.want, tt.left)
		}
	}
}
