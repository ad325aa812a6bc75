package auth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

func TestAmbiguousAndReservedHeaderNamesAreRefused(t *testing.T) {
	for _, name := range []string{"X-Contact-Name", "x-name", "Remote-User", "X-1"} {
		if err := checkHeaderName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "X Contact", "X:", "X-Ä", "X_Contact", "X.Contact", "Host", "COOKIE", "authorization", "Content-Type", "Sec-Fetch-Site",
		"X-Forwarded-For", "Forwarded", "Connection", "Upgrade", "TE", "Proxy-Authorization", "Transfer-Encoding"} {
		if checkHeaderName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
	for _, c := range "!#$%&'*+^|~`_." { // the characters of a name that are neither letter, digit nor "-"
		if name := "X" + string(c) + "Contact"; checkHeaderName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

// A handler in front of ours gives it a copy of the request, headers included. What fails behind ours is answered by an error
// route on the original, which still has the identity that the client forged, under a name that was set on the copy.
func TestErrorRoutesOfCopiedRequestsGetNoForgedHeaders(t *testing.T) {
	c := (&Handler{ClaimHeaders: []ClaimHeader{{Claim: "name", Header: "X-Contact-Name"}}}).Contract()
	original := httptest.NewRequest(http.MethodGet, "/", nil)
	original = original.WithContext(context.WithValue(original.Context(), caddyhttp.VarsCtxKey, map[string]any{}))
	for _, name := range []string{"X-Contact-Identity", "X-Contact-Messenger", "X-Contact-Name", "X!contact!identity", "X-Other"} {
		original.Header[name] = []string{"eve"}
	}
	o := upstream.OutcomeOf(original)
	o.Messenger, o.Contact = "support", &authn.Contact{Identity: "mark", Claims: []authn.Claim{{Text: "Mark", Present: true}}}
	serve := func(r *http.Request) http.Header {
		var seen http.Header
		_ = errorCleaner{&c, false}.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			seen = r.Header
			return nil
		}))
		return seen
	}
	shared := original.Clone(original.Context())
	_ = c.Clean(shared, o)
	c.Set(shared, o)
	want := http.Header{"X-Contact-Identity": {"mark"}, "X-Contact-Messenger": {"support"}, "X-Contact-Name": {"Mark"}, "X-Other": {"eve"}}
	if got := serve(shared); !reflect.DeepEqual(got, want) {
		t.Errorf("where the headers are the same: got %v, want %v", got, want)
	}
	if got := serve(original); !reflect.DeepEqual(got, http.Header{"X-Other": {"eve"}}) {
		t.Errorf("where they were copied: got %v", got)
	}
}
