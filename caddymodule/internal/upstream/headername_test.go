package upstream

import (
	"regexp"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// notInVariable is what lighttpd's http_cgi_encode_varname writes as "_".
var notInVariable = regexp.MustCompile(`[^A-Z0-9]`)

// Every byte at every index of our header's name: what a backend could read as our variable is ours, and nothing else.
func TestEverySpellingOfAHeaderIsRecognised(t *testing.T) {
	c := NewContract(Names{Identity: DefaultIdentityHeader, Messenger: DefaultMessengerHeader, Information: DefaultClaimsHeader, Assertion: DefaultAssertionHeader})
	for i := range len(DefaultIdentityHeader) {
		for b := range 256 {
			key := []byte(DefaultIdentityHeader)
			key[i] = byte(b)
			variable := notInVariable.ReplaceAllString(asciiUpper(string(key)), "_")
			if want := variable == "X_CONTACT_IDENTITY"; c.Guards(string(key)) != want {
				t.Errorf("%q counts as ours: %v, want %v", key, !want, want)
			}
		}
	}
	for key, want := range map[string]bool{
		"x.contact_IDENTITY": true, "X!Contact!Identity": true, "x~contact`identity": true,
		"X-Contact-Identit": false, "X-Contact-Identity2": false, "X-Contact--Identity": false, "XContactIdentity": false, "": false,
	} {
		if got := c.Guards(key); got != want {
			t.Errorf("%q: got %v, want %v", key, got, want)
		}
	}
}

func asciiUpper(s string) string {
	upper := []byte(s)
	for i, c := range upper {
		if 'a' <= c && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	return string(upper)
}

// A token in another spelling of its header is not looked at, and reaches no backend that would.
func TestOtherSpellingsOfATokenHeaderAreRemoved(t *testing.T) {
	c := NewContract(Names{Identity: DefaultIdentityHeader, Messenger: DefaultMessengerHeader, Information: DefaultClaimsHeader, Assertion: DefaultAssertionHeader, Sources: authn.Sources{
		{Kind: authn.Header, Name: "X-Widget-Token"}, {Kind: authn.Header, Name: "Authorization", Scheme: "Bearer"},
		{Kind: authn.WebSocketProtocol, Name: "bearer"}, {Kind: authn.Cookie, Name: "X-Cookie"}}})
	for key, want := range map[string]bool{
		"X-Widget-Token": false, "X_widget_token": true, "X!widget!token": true, "Sec-Websocket-Protocol": false, "Sec_websocket_protocol": true,
		"Authorization": false, "X_cookie": false, "Http2-Settings": true, "Http2!settings": true, "Trailer": true, "X-Trailer": false,
	} {
		if got := c.removes(key); got != want {
			t.Errorf("%q: got %v, want %v", key, got, want)
		}
	}
}

// The lengths only spare comparisons: names of one length, names longer than 64 characters, and sets that grow.
func TestNameSetFindsNamesOfEveryLength(t *testing.T) {
	var s NameSet
	name := ""
	for n := range 200 {
		if s.Has(name) {
			t.Errorf("a name of %d characters is found before it is added", n)
		}
		s.Add(name)
		if !s.Has(name) || !s.mayHave(name) {
			t.Errorf("a name of %d characters is not found", n)
		}
		name += "x"
	}
	if s = NewNameSet("X-One"); s.Has("X-One"+name[:64]) || s.Has("X-Two") || !s.Has("x_one") {
		t.Errorf("got wrong answers from %v", s)
	}
}
