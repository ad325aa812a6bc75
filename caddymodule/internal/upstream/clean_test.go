package upstream

import (
	"net/http"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Every request is cleaned, and nearly none has anything to clean: looking must not cost memory.
func TestCleaningAUsualRequestAllocatesNothing(t *testing.T) {
	c := NewContract(Names{Identity: DefaultIdentityHeader, Messenger: DefaultMessengerHeader, Information: DefaultClaimsHeader, Assertion: DefaultAssertionHeader, Claims: []string{"name"}, ClaimHeaders: []string{"X-Contact-Name"},
		Sources: authn.Sources{{Kind: authn.Header, Name: "X-Widget-Token"}, {Kind: authn.WebSocketProtocol, Name: "jwt"}}})
	c.Others.AddAll(&c.Own)
	for name, header := range map[string]http.Header{
		"of a browser":               {"Accept": {"*/*"}, "Connection": {"keep-alive"}, "Sec-Fetch-Mode": {"cors"}, "Referer": {"/"}, "X-Request-Id-Longer": {"1"}},
		"with names as long as ours": {"X-Contact-Identitx": {"1"}, "X-Contact-Messengex": {"1"}, "Http2-Settingx": {"1"}, "X-Widget-Tokex": {"1"}},
	} {
		r, o := &http.Request{Method: http.MethodGet, ProtoMajor: 1, Header: header}, new(Outcome)
		before := len(header)
		if n := testing.AllocsPerRun(100, func() { _ = c.Clean(r, o) }); n > 0 || len(header) != before {
			t.Errorf("a request %s: %v allocations, and %d headers are left of %d", name, n, len(header), before)
		}
	}
}
