package authn

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
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
		{"a scheme alone", allSources, "/", []string{"Authorization: Bearer"}, "token_missing"},
		{"a scheme and a blank", allSources, "/", []string{"Authorization: Bearer "}, "token_missing"},
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
		{"a parameter that cannot be decoded, for the verifier to refuse", allSources, "/?token=%zz", nil, "%zz"},
		{"a subprotocol", allSources, "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt, T1"}, "T1"},
		{"a subprotocol in two lines", allSources, "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt", "Sec-WebSocket-Protocol: T1, chat.v2"}, "T1"},
		{"a marker without a token", allSources, "/", []string{"Sec-WebSocket-Protocol: chat.v1, jwt"}, "token_missing"},
		{"a marker twice", allSources, "/", []string{"Sec-WebSocket-Protocol: jwt, T1, jwt, T1"}, "token_ambiguous"},
		{"a marker behind a marker", allSources, "/", []string{"Sec-WebSocket-Protocol: jwt, jwt, T1"}, "token_ambiguous"},
		{"one token in two places", allSources, "/?token=T1", []string{"Authorization: Bearer T1"}, "T1"},
		{"two tokens in two places", allSources, "/?token=T2", []string{"Authorization: Bearer T1"}, "token_ambiguous"},
		{"two tokens in cookie and subprotocol", allSources, "/", []string{"Cookie: session=T1", "Sec-WebSocket-Protocol: jwt, T2"}, "token_ambiguous"},
		{"a token in a place that is no source", Sources{cookieSource}, "/?token=T1", []string{"Authorization: Bearer T2", "Cookie: session=T3"}, "T3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, rej := tt.sources.Find(request(t, tt.target, tt.lines...))
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

func TestFindSaysWhereTheTokenStood(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target string
		lines  []string
		want   Found
	}{
		{"in a header", "/", []string{"Authorization: Bearer T1"}, Found{"T1", Header, "Authorization", "", false}},
		{"in a cookie", "/", []string{"Cookie: session=T1"}, Found{"T1", Cookie, "session", "", true}},
		{"in cookies only, twice", "/", []string{"Cookie: session=T1; session=T1"}, Found{"T1", Cookie, "session", "", true}},
		{"in a parameter", "/?token=T1", nil, Found{"T1", Query, "token", "", false}},
		{"in a subprotocol", "/", []string{"Sec-WebSocket-Protocol: jwt, T1"}, Found{"T1", WebSocketProtocol, "jwt", "jwt", false}},
		{"in a header and a cookie: a page has sent it", "/", []string{"Authorization: Bearer T1", "Cookie: session=T1"}, Found{"T1", Header, "Authorization", "", false}},
		{"in a cookie and a subprotocol, which needs its answer", "/", []string{"Cookie: session=T1", "Sec-WebSocket-Protocol: jwt, T1"}, Found{"T1", Cookie, "session", "jwt", false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, rej := allSources.Find(request(t, tt.target, tt.lines...))
			if rej != nil || got != tt.want {
				t.Errorf("got %+v %+v, want %+v", got, rej, tt.want)
			}
		})
	}
}

// The upstream, its logs and its error pages are no place for a token; all that stands beside it is none of our business,
// down to its order, its case and its needless characters.
func TestRemoveTakesTheTokenAndLeavesEveryOtherByte(t *testing.T) {
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
			if found, rej := allSources.Find(r); rej == nil {
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
