package authn

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

var (
	bearerSource   = Source{Kind: Header, Name: "Authorization", Scheme: "Bearer"}
	plainSource    = Source{Kind: Header, Name: "X-Token"}
	cookieSource   = Source{Kind: Cookie, Name: "session"}
	querySource    = Source{Kind: Query, Name: "token"}
	protocolSource = Source{Kind: WebSocketProtocol, Name: "jwt"}
	allSources     = Sources{bearerSource, plainSource, cookieSource, querySource, protocolSource}
)

// request returns a request for a path with header lines such as "Cookie: a=b".
func request(t testing.TB, target string, lines ...string) *http.Request {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Method: http.MethodGet, URL: u, RequestURI: target, Header: make(http.Header)}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], value)
	}
	return r
}

func TestExactlyOneDistinctTokenCounts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sources Sources
		target  string
		lines   []string
		want    string // the token, or the code
	}{
		{"nothing", allSources, "/", nil, "token_missing"},
		{"a bearer token", allSources, "/", []string{"Authorization: Bearer T1"}, "T1"},
		{"a scheme in another case, and more blanks", allSources, "/", []string{"Authorization: bEARER \t T1"}, "T1"},
		{"a scheme alone", allSources, "/", []string{"Authorization: Bearer"}, "token_malformed"},
		{"a scheme and a blank", allSources, "/", []string{"Authorization: Bearer "}, "token_malformed"},
		{"a scheme with a colon, for the verifier to refuse", allSources, "/", []string{"Authorization: Bearer:T1"}, ":T1"},
		{"a scheme with a quote, for the verifier to refuse", allSources, "/", []string{"Authorization: bearer\"T1\""}, "\"T1\""},
		{"a longer name of a scheme", allSources, "/", []string{"Authorization: Bearer-2 T1"}, "token_missing"},
		{"no blank behind the scheme", allSources, "/", []string{"Authorization: BearerT1"}, "token_missing"},
		{"another scheme", allSources, "/", []string{"Authorization: Basic T1"}, "token_missing"},
		{"a scheme that ours begins", allSources, "/", []string{"Authorization: Bear T1"}, "token_missing"},
		{"two tokens in one value, for the verifier to refuse", allSources, "/", []string{"Authorization: Bearer T1, Bearer T2"}, "T1, Bearer T2"},
		{"two headers", allSources, "/", []string{"Authorization: Bearer T1", "Authorization: Bearer T2"}, "token_ambiguous"},
		{"two headers of one value", allSources, "/", []string{"Authorization: Bearer T1", "Authorization: Bearer T1"}, "token_ambiguous"},
		{"two headers of which one has another scheme", allSources, "/", []string{"Authorization: Basic x", "Authorization: Bearer T1"}, "token_ambiguous"},
		{"a header without scheme", allSources, "/", []string{"X-Token: T1"}, "T1"},
		{"a header without scheme takes all of the value", allSources, "/", []string{"X-Token: Bearer T1"}, "Bearer T1"},
		{"a cookie", allSources, "/", []string{"Cookie: a=1; session=T1; b=2"}, "T1"},
		{"a cookie with = in its value", allSources, "/", []string{"Cookie: session=T1="}, "T1="},
		{"a cookie in another case is another cookie", allSources, "/", []string{"Cookie: Session=T1"}, "token_missing"},
		{"a cookie whose name only ends so", allSources, "/", []string{"Cookie: __Host-session=T1"}, "token_missing"},
		{"an empty cookie", allSources, "/", []string{"Cookie: session="}, "token_missing"},
		{"a cookie twice, with one value", allSources, "/", []string{"Cookie: session=T1; session=T1"}, "T1"},
		{"a cookie twice, tossed by a subdomain", allSources, "/", []string{"Cookie: session=T2; session=T1"}, "token_ambiguous"},
		{"a cookie in two lines", allSources, "/", []string{"Cookie: session=T1", "Cookie: session=T2"}, "token_ambiguous"},
		{"a parameter", allSources, "/?a=1&token=T1&b=2", nil, "T1"},
		{"a parameter with an encoded name and value", allSources, "/?%74oken=%541", nil, "T1"},
		{"a parameter in another case", allSources, "/?Token=T1", nil, "token_missing"},
		{"a parameter twice, with one value", allSources, "/?token=T1&token=T1", nil, "T1"},
		{"a parameter twice", allSources, "/?token=T1&%74oken=T2", nil, "token_ambiguous"},
		{"a parameter twice, the first one empty", allSources, "/?token=&token=T1", nil, "token_ambiguous"},
		{"a parameter twice, the last one empty", allSources, "/?token=T1&a=1&token=", nil, "token_ambiguous"},
		{"a parameter twice, one without =", allSources, "/?token&token=T1", nil, "token_ambiguous"},
		{"an empty parameter twice", allSources, "/?token=&token", nil, "token_missing"},
		{"a parameter and a list of its name, as PHP and Rack read", allSources, "/?token=T1&token[]=T1", nil, "token_ambiguous"},
		{"a parameter and a list of its name, encoded", allSources, "/?token%5B0%5D=T2&token=T1", nil, "token_ambiguous"},
		{"a parameter and another behind a semicolon", allSources, "/?token=T1&a=1;token=T2", nil, "token_ambiguous"},
		{"a parameter and another behind a blank, as PHP reads", allSources, "/?token=T1&+token=T2", nil, "token_ambiguous"},
		{"a parameter and another with a NUL, as PHP reads", allSources, "/?token=T1&token%00x=T2", nil, "token_ambiguous"},
		{"a parameter and others that only look like it", allSources, "/?token=T1&Token=T2&tokens=1&a[token]=2&xtoken=3&a=token&token2=%zz", nil, "T1"},
		{"a list of its name alone", allSources, "/?token[]=T1", nil, "token_missing"},
		{"another separator alone", allSources, "/?a=1;token=T1", nil, "token_missing"},
		{"a cookie twice, the first one empty", allSources, "/", []string{"Cookie: session=; session=T1"}, "token_ambiguous"},
		{"a cookie twice, the last one empty", allSources, "/", []string{"Cookie: session=T1", "Cookie: session"}, "token_ambiguous"},
		{"a header twice, the first one empty", allSources, "/", []string{"X-Token: ", "X-Token: T1"}, "token_ambiguous"},
		{"an empty cookie beside a header", allSources, "/", []string{"Cookie: session=", "Authorization: Bearer T1"}, "T1"},
		{"an empty parameter beside a header", allSources, "/?token=", []string{"Authorization: Bearer T1"}, "T1"},
		{"a parameter that cannot be decoded, for the verifier to refuse", allSources, "/?token=%zz", nil, "%zz"},
		{"a subprotocol", allSources, "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt, T1"}, "T1"},
		{"a subprotocol in two lines", allSources, "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt", "Sec-WebSocket-Protocol: T1, chat.v2"}, "T1"},
		{"a marker without a token", allSources, "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt"}, "token_missing"},
		{"a marker twice", allSources, "/", []string{"Sec-WebSocket-Protocol: jwt, T1, jwt, T1"}, "token_ambiguous"},
		{"a marker behind a marker", allSources, "/", []string{"Sec-WebSocket-Protocol: jwt, jwt, T1"}, "token_ambiguous"},
		{"one token in two places", allSources, "/?token=T1", []string{"Authorization: Bearer T1"}, "T1"},
		{"two tokens in two places", allSources, "/?token=T2", []string{"Authorization: Bearer T1"}, "token_ambiguous"},
		{"two tokens in cookie and subprotocol", allSources, "/", []string{"Cookie: session=T1", "Sec-WebSocket-Protocol: jwt, T2"}, "token_ambiguous"},
		{"a token in a place that is not a source", Sources{cookieSource}, "/?token=T1", []string{"Authorization: Bearer T2", "Cookie: session=T3"}, "T3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, rej := tt.sources.Find(request(t, tt.target, tt.lines...), Look{Handshake: true})
			got := found.Token
			if rej != nil {
				got = string(rej.Code)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFindSaysWhereTheTokenWas(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target string
		lines  []string
		want   Found
	}{
		{"in a header", "/", []string{"Authorization: Bearer T1"}, Found{"T1", Header, "", true, false}},
		{"in a cookie", "/", []string{"Cookie: session=T1"}, Found{"T1", Cookie, "", true, true}},
		{"in cookies only, twice", "/", []string{"Cookie: session=T1; session=T1"}, Found{"T1", Cookie, "", true, true}},
		{"in a parameter", "/?token=T1", nil, Found{"T1", Query, "", true, false}},
		{"in a subprotocol", "/", []string{"Sec-WebSocket-Protocol: jwt, T1"}, Found{"T1", WebSocketProtocol, "jwt", true, false}},
		{"in a header and a cookie: a page has sent it", "/", []string{"Authorization: Bearer T1", "Cookie: session=T1"}, Found{"T1", Header, "", true, false}},
		{"in a cookie and a subprotocol, which needs its answer", "/", []string{"Cookie: session=T1", "Sec-WebSocket-Protocol: jwt, T1"}, Found{"T1", Cookie, "jwt", true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, rej := allSources.Find(request(t, tt.target, tt.lines...), Look{Handshake: true})
			if rej != nil || got != tt.want {
				t.Errorf("got %+v %+v, want %+v", got, rej, tt.want)
			}
		})
	}
}

// A token must not reach the upstream, its logs and its error pages. Everything next to it must
// stay as it was, with its order, its case and its needless characters.
func TestRemoveRemovesTheTokenAndNoOtherByte(t *testing.T) {
	for _, tt := range []struct {
		name      string
		target    string
		lines     []string
		wantURL   string
		wantLines []string
	}{
		{"nothing there", "/a?b=%7e+&&c", []string{"Cookie: a = 1 ;b; =", "Accept: */*"}, "/a?b=%7e+&&c", []string{"Cookie: a = 1 ;b; =", "Accept: */*"}},
		{"a header", "/", []string{"Authorization: Bearer T1", "Accept: */*"}, "/", []string{"Accept: */*"}},
		{"a header of another scheme stays", "/", []string{"Authorization: Basic eDp5"}, "/", []string{"Authorization: Basic eDp5"}},
		{"one header of two", "/", []string{"Authorization: Basic eDp5", "Authorization: Bearer T1"}, "/", []string{"Authorization: Basic eDp5"}},
		{"a header without scheme", "/", []string{"X-Token: T1"}, "/", nil},
		{"the only cookie", "/", []string{"Cookie: session=T1"}, "/", nil},
		{"the first cookie", "/", []string{"Cookie: session=T1; a=1; b=\"2\""}, "/", []string{`Cookie: a=1; b="2"`}},
		{"a cookie in the middle", "/", []string{"Cookie: a=1;session=T1;  b=2"}, "/", []string{"Cookie: a=1;  b=2"}},
		{"the last cookie", "/", []string{"Cookie: a=1; a=1; session=T1"}, "/", []string{"Cookie: a=1; a=1"}},
		{"cookies of that name in several lines", "/", []string{"Cookie: session=T1", "Cookie: a=1; session=T2; b=2", "Cookie:  c=3;"}, "/", []string{"Cookie: a=1; b=2", "Cookie:  c=3;"}},
		{"the only parameter", "/a?token=T1", nil, "/a", nil},
		{"the first parameter", "/?token=T1&b=%7E&&a=+", nil, "/?b=%7E&&a=+", nil},
		{"a parameter in the middle", "/?b=2&token=T1&a=1", nil, "/?b=2&a=1", nil},
		{"the last parameter", "/?b=2&a=1;x&token=T1", nil, "/?b=2&a=1;x", nil},
		{"a parameter with an encoded name", "/?a=1&t%6Fken=T1", nil, "/?a=1", nil},
		{"a parameter that is there many times", "/?token=T1&a=1&token=&token&token=T2", nil, "/?a=1", nil},
		{"a parameter that cannot be decoded", "/?a=%zz&token=%zz", nil, "/?a=%zz", nil},
		{"a Referer with the parameter", "/?token=T1", []string{"Referer: https://a.example/b?x=%7e&token=T1#f?g"}, "/", []string{"Referer: https://a.example/b?x=%7e#f?g"}},
		{"a Referer with nothing else", "/", []string{"Referer: https://a.example/b?token=T1"}, "/", []string{"Referer: https://a.example/b"}},
		{"a Referer without it", "/", []string{"Referer: https://a.example/b?x=1&#f"}, "/", []string{"Referer: https://a.example/b?x=1&#f"}},
		{"a subprotocol", "/", []string{"Sec-WebSocket-Protocol: jwt, T1"}, "/", nil},
		{"a subprotocol among others", "/", []string{"Sec-WebSocket-Protocol: chat.v2,jwt,T1,chat.v1"}, "/", []string{"Sec-WebSocket-Protocol: chat.v2, chat.v1"}},
		{"a marker at the end", "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt"}, "/", []string{"Sec-WebSocket-Protocol: chat.v1"}},
		{"a marker twice", "/", []string{"Sec-WebSocket-Protocol: jwt, T1, chat.v1, jwt, T2"}, "/", []string{"Sec-WebSocket-Protocol: chat.v1"}},
		{"a marker behind a marker", "/", []string{"Sec-WebSocket-Protocol: jwt, jwt, T1, chat.v1"}, "/", []string{"Sec-WebSocket-Protocol: chat.v1"}},
		{"subprotocols without the marker", "/", []string{"Sec-WebSocket-Protocol: chat.v1,chat.v2"}, "/", []string{"Sec-WebSocket-Protocol: chat.v1,chat.v2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, want := request(t, tt.target, tt.lines...), request(t, "/", tt.wantLines...)
			original, err := url.Parse(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			allSources.Remove(r, original)
			if r.URL.String() != tt.wantURL || r.RequestURI != tt.wantURL || original.String() != tt.wantURL {
				t.Errorf("got %s, %s and originally %s, want %s", r.URL, r.RequestURI, original, tt.wantURL)
			}
			for name := range want.Header {
				if !slices.Equal(r.Header[name], want.Header[name]) {
					t.Errorf("%s: got %q, want %q", name, r.Header[name], want.Header[name])
				}
			}
			for name := range r.Header {
				if want.Header[name] == nil {
					t.Errorf("%s is left: %q", name, r.Header[name])
				}
			}
			if found, rej := allSources.Find(r, Look{Handshake: true}); rej == nil {
				t.Errorf("a token is left: %+v", found)
			}
		})
	}
}

// Caddy's placeholders and error routes hold these very URLs: a copy would leave the token in theirs.
func TestRemoveChangesTheURLInPlace(t *testing.T) {
	r := request(t, "/?token=T1")
	u := r.URL
	Sources{querySource}.Remove(r, nil)
	if r.URL != u || u.RawQuery != "" {
		t.Errorf("got %s, the same URL: %v", u, r.URL == u)
	}
}

// Pages of visitors without a login send the scheme and what a variable without a token is as text. Where a login is
// optional that is no token; elsewhere it is a malformed one.
func TestRequestsWithAnEmptyOrUndefinedToken(t *testing.T) {
	for _, tt := range []struct {
		name               string
		target             string
		lines              []string
		required, optional string // the token, or the code
		nothing            bool
	}{
		{"a scheme alone", "/", []string{"Authorization: Bearer"}, "token_malformed", "token_missing", true},
		{"blanks behind the scheme", "/", []string{"Authorization: Bearer \t "}, "token_malformed", "token_missing", true},
		{"undefined", "/", []string{"Authorization: Bearer undefined"}, "token_malformed", "token_missing", true},
		{"null", "/", []string{"Authorization: bearer null"}, "token_malformed", "token_missing", true},
		{"an object", "/", []string{"Authorization: Bearer [object Object]"}, "token_malformed", "token_missing", true},
		{"a promise", "/", []string{"Authorization: Bearer [object Promise]"}, "token_malformed", "token_missing", true},
		{"undefined in a header without scheme", "/", []string{"X-Token: undefined"}, "token_malformed", "token_missing", true},
		{"null in a cookie", "/", []string{"Cookie: session=null"}, "token_malformed", "token_missing", true},
		{"a promise in a parameter", "/?token=%5Bobject+Promise%5D", nil, "token_malformed", "token_missing", true},
		{"undefined in a subprotocol", "/", []string{"Sec-WebSocket-Protocol: jwt, undefined"}, "token_malformed", "token_missing", true},
		{"two of them", "/?token=null", []string{"Authorization: Bearer undefined"}, "token_malformed", "token_missing", true},
		{"beside a token in another place", "/?token=T1", []string{"Authorization: Bearer undefined"}, "token_ambiguous", "T1", false},
		{"before a token in another place", "/", []string{"Authorization: Bearer", "Cookie: session=T1"}, "token_ambiguous", "T1", false},
		{"beside a token in the same place", "/?token=undefined&token=T1", nil, "token_ambiguous", "token_ambiguous", false},
		{"in two headers", "/", []string{"Authorization: Bearer undefined", "Authorization: Bearer undefined"}, "token_ambiguous", "token_ambiguous", false},
		{"with a colon", "/", []string{"Authorization: Bearer: undefined"}, ": undefined", ": undefined", false},
		{"another text", "/", []string{"Authorization: Bearer undefined1"}, "undefined1", "undefined1", false},
		{"nothing at all", "/", nil, "token_missing", "token_missing", false},
		{"an empty header without scheme", "/", []string{"X-Token: "}, "token_missing", "token_missing", false},
		{"another scheme", "/", []string{"Authorization: Basic undefined"}, "token_missing", "token_missing", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for anonymous, want := range map[bool]string{false: tt.required, true: tt.optional} {
				found, rej := allSources.Find(request(t, tt.target, tt.lines...), Look{Handshake: true, Anonymous: anonymous})
				got, nothing := found.Token, false
				if rej != nil {
					got, nothing = string(rej.Code), rej.Cause != cause.None
				}
				if got != want || nothing != tt.nothing {
					t.Errorf("optional %v: got %q, nothing %v, want %q, %v", anonymous, got, nothing, want, tt.nothing)
				}
				if rej != nil && rej.Cause != cause.None && (!found.Any || found.Kind == "" || rej.Reason == "") {
					t.Errorf("the place of the text, or why it is not a token, is missing: %+v %+v", found, rej)
				}
			}
		})
	}
}

// A page can set subprotocols for a WebSocket alone, and what comes behind looks at them there alone. On another request a
// token there is none, and goes no further either.
func TestSubprotocolIsASourceOnAHandshakeOnly(t *testing.T) {
	line := "Sec-WebSocket-Protocol: chat.v1, jwt, T1"
	found, rej := allSources.Find(request(t, "/", line), Look{})
	if rej == nil || rej.Code != TokenMissing || !found.Any || found.Token != "" || found.Marker != "" {
		t.Errorf("got %+v %+v", found, rej)
	}
	if found, rej := allSources.Find(request(t, "/", line, "Authorization: Bearer T2"), Look{}); rej != nil || found.Token != "T2" || found.Marker != "" {
		t.Errorf("beside a token of a header: got %+v %+v", found, rej)
	}
	if found, rej := allSources.Find(request(t, "/", "Sec-WebSocket-Protocol: chat.v1, jwt"), Look{}); rej == nil || found.Any {
		t.Errorf("without a token: got %+v %+v", found, rej)
	}
}
