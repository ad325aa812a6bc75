package diagnose

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A mistake is a token as people really send it.
type mistake struct {
	origin    string // the product that makes it, or what people do
	messenger string
	text      string
	want      cause.Cause // the first finding
}

// mistakes are those of tokens.
func mistakes() []mistake {
	now := time.Now()
	token := hs(payload(""))
	parts := strings.Split(token, ".")
	identity := func(value string) string { return hs(`{"identity":` + value + `}`) }
	return []mistake{
		{"fetch of a page without a login", "raw", "", cause.SchemeAlone},
		{"localStorage.getItem of a page without a login, in a template literal", "raw", "undefined", cause.WordForNothing},
		{"the same, pasted with its scheme", "raw", "Bearer null", cause.WordForNothing},
		{"axios with a promise that was not awaited", "raw", "[object Promise]", cause.WordForObject},
		{"Authorization: Bearer:<token>", "raw", ":" + token, cause.SchemeColon},
		{"a whole line, pasted into explain", "raw", "Authorization: Bearer " + token, cause.TextIsHeader},
		{"the secret in place of a token", "raw", "mst_" + strings.Repeat("A", 49), cause.TextIsSecret},
		{"the public key in place of a token", "raw", "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", cause.TextIsKey},
		{"the address of the socket", "raw", "wss://chat.example.com/ws?v=1", cause.TextIsAddress},
		{"a header that was sent twice, as a proxy joins it", "raw", token + "," + token, cause.TextSeveral},
		{"an address with the token in its path", "raw", "https://chat.example.com/c/" + token, cause.TextAround},
		{"the claims", "raw", `{"identity":"mark"}`, cause.TextIsJSON},
		{"the answer of a token endpoint, which was not read as JSON", "raw", `{"access_token": "` + token + `"}`, cause.TextAround},
		{"a cookie of the browser's tools", "raw", "session=" + token, cause.TextAround},
		{"an address with a parameter", "raw", "https://chat.example.com/?token=" + token, cause.TextAround},
		{"a dot at the end of a sentence", "raw", token + ".", cause.CharacterLost},
		{"base64 of GNU coreutils, which wraps at 76 characters", "raw", token[:76] + "\n" + token[76:], cause.TextWrapped},
		{"response.text() of an answer with JSON", "raw", `"` + token + `"`, cause.TextQuoted},
		{"Python's base64.urlsafe_b64encode, by hand", "raw", parts[0] + "==." + parts[1] + "." + parts[2], cause.TextPadded},
		{"PHP's base64_encode, by hand", "raw", parts[0] + "." + parts[1] + ".ab+/", cause.TextStandardBase64},
		{"Auth0 without an audience: an opaque or encrypted access token", "raw", b64(`{"alg":"dir","enc":"A256GCM"}`) + "..aXY.Y2lwaGVy.dGFn", cause.TokenEncrypted},
		{"jwt.io, one part copied", "raw", parts[0], cause.HeaderAlone},
		{"jwt.io, the other part copied", "raw", parts[1], cause.PayloadAlone},
		{"jwt.io, two parts copied", "raw", parts[0] + "." + parts[1], cause.SignatureCut},
		{"PyJWT with algorithm none", "raw", b64(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".", cause.SignatureEmpty},
		{"an opaque access token of Google", "raw", "ya29.a0AfB_byC", cause.TokenCut},
		{"the first character was not marked when copying", "raw", token[1:], cause.CharacterLost},
		{"json.dumps of Python, with a NaN of pandas", "raw", hs(`{"identity":"mark","score":NaN}`), cause.PayloadNotJSON},
		{"OpenID back-channel logout", "raw", sign(`{"alg":"HS256","typ":"logout+jwt"}`, payload(""), rawSecret), cause.KindOther},
		{"Auth0 before RFC 9068: an access token without a typ of its own", "typed", sign(`{"alg":"HS256"}`, payload(""), rawSecret), cause.TypeMissing},
		{"the ID token of the login server that makes at+jwt access tokens", "typed", sign(`{"alg":"HS256","typ":"JWT"}`, payload(""), rawSecret), cause.TypeOther},
		{"OpenID back-channel logout, where a type is named", "typed", sign(`{"alg":"HS256","typ":"logout+jwt"}`, payload(""), rawSecret), cause.TypeOther},
		{"System.IdentityModel.Tokens.Jwt with RsaSha256Signature", "rsa", unsigned(`{"alg":"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256","typ":"JWT"}`, payload("")), cause.AlgXMLDSig},
		{"jsonwebtoken with algorithm none and a signature left in place", "raw", sign(`{"alg":"none"}`, payload(""), rawSecret), cause.AlgNone},
		{"a header written by hand", "raw", sign(`{"typ":"JWT"}`, payload(""), rawSecret), cause.AlgMissing},
		{"HS256 for a public key", "rsa", hs(payload("")), cause.AlgOther},
		{"Supabase and Zoom, whose keys are for ES256", "mixed", unsigned(`{"alg":"ES256","kid":"e1"}`, payload("")), cause.KeyLeftOut},
		{"the kid of the RSA key after a change to elliptic curves", "two", unsigned(`{"alg":"ES256","kid":"2026"}`, payload("")), cause.KIDOfAlgorithm},
		{"one site with two messengers", "base64", token, cause.OtherMessenger},
		{"five keys without a kid in the token", "five", unsigned(`{"alg":"RS256"}`, payload("")), cause.KIDMissing},
		{"a rotated key of Keycloak", "rsa", unsigned(`{"alg":"RS256","kid":"2025"}`, payload("")), cause.KIDUnknown},
		{"an access token of Microsoft Graph", "rsa", unsigned(`{"typ":"JWT","nonce":"AQABAAAA","alg":"RS256","kid":"2026"}`, payload(`,"aud":"00000003-0000-0000-c000-000000000000"`)), cause.NonceOfGraph},
		{"the login server of the staging environment", "rsa", unsigned(`{"alg":"RS256","kid":"2025"}`, payload(`,"iss":"https://login.staging.example.com/"`)), cause.OtherEnvironment},
		{"jose with a Buffer of the decoded secret", "text", sign(`{"alg":"HS256"}`, payload(""), "secret-of-32-bytes-for-the-tests"), cause.SecretDecodedBySite},
		{"jsonwebtoken with the text of a base64 secret", "base64", sign(`{"alg":"HS256"}`, payload(""), key64), cause.SecretDecodedHere},
		{"file_get_contents without trim", "raw", sign(`{"alg":"HS256"}`, payload(""), rawSecret+"\n"), cause.SecretWithBlank},
		{"docker run --env-file, which keeps quotes", "quoted", token, cause.SecretWithoutQuotes},
		{"openssl rand -base64 64, which makes two lines", "broken", sign(`{"alg":"HS256"}`, payload(""), key64), cause.SecretWithoutBreak},
		{"a character of the signature is missing", "unnamed", unsigned(`{"alg":"RS256"}`, payload(""))[:len(unsigned(`{"alg":"RS256"}`, payload("")))-6], cause.SignatureLength},
		{"the key of the test environment", "raw", sign(`{"alg":"HS256"}`, payload(""), "another secret of at least 32 bytes"), cause.KeyOther},
		{"a key server that does not run", "jwks", unsigned(`{"alg":"RS256"}`, payload("")), cause.KeysNotFetched},
		{"Date.now() in JavaScript", "raw", hs(fmt.Sprintf(`{"identity":"mark","exp":%d}`, now.Add(time.Hour).UnixMilli())), cause.TimeMilliseconds},
		{"strtotime and a string in PHP", "raw", hs(`{"identity":"mark","exp":"1795419749"}`), cause.TimeString},
		{"a boolean", "raw", hs(`{"identity":"mark","exp":true}`), cause.TimeOther},
		{"a page that keeps its token", "raw", hs(fmt.Sprintf(`{"identity":"mark","exp":%d}`, now.Add(-15*365*24*time.Hour).Unix())), cause.TimePassed},
		{"a virtual machine that was suspended", "raw", hs(fmt.Sprintf(`{"identity":"mark","iat":%d}`, now.Add(time.Hour).Unix())), cause.TimeAhead},
		{"a remember-me token", "strict", hs(fmt.Sprintf(`{"identity":"mark","iss":"https://login.example.com","aud":"chat","department":1,"iat":%d,"exp":%d}`, now.Unix(), now.Add(720*time.Hour).Unix())), cause.LifetimeLong},
		{"a jti that is an object", "raw", hs(`{"identity":"mark","jti":{}}`), cause.TokenIDOther},
		{"an access token of Amazon Cognito", "audience", hs(payload(`,"token_use":"access","client_id":"7example","scope":"openid"`)), cause.AudienceOfCognito},
		{"an ID token of Amazon Cognito", "audience", hs(payload(`,"token_use":"id","aud":"7example"`)), cause.IDTokenSent},
		{"an ID token of Entra ID", "audience", hs(payload(`,"nonce":"n-0S6","aud":"6731de76-14a6"`)), cause.IDTokenSent},
		{"an access token of Entra ID", "audience", hs(payload(`,"scp":"User.Read","aud":"api://other"`)), cause.AccessTokenSent},
		{"an access token without the e-mail address", "email", hs(payload(`,"scope":"openid email"`)), cause.AccessTokenSent},
		{"Auth0, whose issuer ends with a slash", "strict", hs(payload(fmt.Sprintf(`,"iss":"https://login.example.com/","iat":%d`, now.Unix()))), cause.ValueSlash},
		{"an audience in capitals", "audience", hs(payload(`,"aud":["Chat"]`)), cause.ValueCase},
		{"an issuer behind a proxy that ends TLS", "issuer", hs(payload(`,"iss":"http://login.example.com/"`)), cause.ValueScheme},
		{"a token without an audience", "audience", hs(payload("")), cause.ValueAbsent},
		{"another issuer", "issuer", hs(payload(`,"iss":"https://accounts.other.org"`)), cause.ValueOther},
		{"the test environment, signed with the same key", "issuer", hs(payload(`,"iss":"https://login-test.example.com/"`)), cause.OtherEnvironment},
		{"a claim that the site does not sign yet", "strict", hs(fmt.Sprintf(`{"identity":"mark","iss":"https://login.example.com","aud":"chat","iat":%d,"exp":%d}`, now.Unix(), now.Unix()+60)), cause.ClaimsAbsent},
		{"Firebase, with the identity in an object", "raw", hs(`{"user":{"identity":"mark"}}`), cause.IdentityNested},
		{"Rails, in another case", "raw", hs(`{"Identity":"mark"}`), cause.IdentitySpelled},
		{"most login servers", "raw", hs(`{"sub":"mark"}`), cause.IdentityElsewhere},
		{"a token for something else", "raw", hs(`{"colour":"red"}`), cause.IdentityAbsent},
		{"pandas: a column of integers with gaps", "raw", identity("42.0"), cause.IdentityFraction},
		{"lua-cjson, with its 14 digits", "raw", identity("1e+14"), cause.IdentityExponent},
		{"Gson: a Double of a large ID", "raw", identity("1.0E14"), cause.IdentityExponent},
		{"Go: map[string]any of a snowflake ID", "raw", identity("1.2345678901234568e+18"), cause.IdentityRounded},
		{"a negative zero of JavaScript", "raw", identity("-0"), cause.IdentityNegativeZero},
		{"a user that is not logged in", "raw", identity("null"), cause.IdentityNull},
		{"user && user.id in JavaScript", "raw", identity("false"), cause.IdentityBoolean},
		{"LDAP: attributes are lists", "raw", identity(`["mark"]`), cause.IdentityArray},
		{"the whole user", "raw", identity(`{"id":7,"name":"Mark"}`), cause.IdentityObject},
		{"MongoDB: EJSON of an ObjectId", "raw", identity(`{"$oid":"507f1f77bcf86cd799439011"}`), cause.IdentityObjectID},
		{"protobuf.js: a Long", "raw", identity(`{"low":1,"high":0,"unsigned":false}`), cause.IdentityLong},
		{"MongoDB: EJSON of a Long", "raw", identity(`{"$numberLong":"1"}`), cause.IdentityLong},
		{"mysql2: BINARY(16) as a Buffer", "raw", identity(`{"type":"Buffer","data":[1,2]}`), cause.IdentityBuffer},
		{"an empty string in place of null", "raw", identity(`""`), cause.IdentityEmpty},
		{"a blank", "raw", identity(`" "`), cause.IdentityBlank},
		{"Oracle: a CHAR(10) column", "raw", identity(`"mark      "`), cause.IdentityEdges},
		{"PHP: a binary UUID", "raw", identity(`"a\u0000b"`), cause.IdentityControl},
		{"a distinguished name", "raw", identity(`"` + strings.Repeat("ou=x,", 60) + `"`), cause.IdentityTooLong},
	}
}

// Each real mistake is named, in the log as in explain, and each cause that tokens can have is among them.
func TestEveryMistakeHasItsFinding(t *testing.T) {
	all := gateway(t)
	seen := []cause.Cause{cause.SchemeTwice, cause.SchemeMissing, cause.SchemeOther, cause.SchemeBasic, cause.MarkerCase} // in the tests of requests below
	for _, m := range mistakes() {
		t.Run(m.origin, func(t *testing.T) {
			rej, findings := examine(t, all, m.messenger, m.text)
			if rej == nil {
				t.Fatal("the token is accepted")
			}
			if len(findings) == 0 || findings[0].Name != m.want.String() {
				t.Fatalf("refused with %s (%s): got %+v, want %s", rej.Code, rej.Reason, findings, m.want)
			}
			info := m.want.Info()
			if f := findings[0]; !strings.HasPrefix(f.Cause, strings.TrimSuffix(cause.Sentence(info.Text), ".")) || f.Fix != cause.Sentence(info.Fix) {
				t.Errorf("got %+v, want the texts of the table", f)
			}
			got := Cause(all[m.messenger], m.text, rej)
			switch m.want {
			case cause.OtherMessenger, cause.SchemeAlone, cause.WordForNothing: // not for the log, or found before a token is looked at
			case cause.TextIsHeader:
			default:
				if got != m.want {
					t.Errorf("in the log: got %s, want %s", got, m.want)
				}
			}
		})
		seen = append(seen, m.want)
	}
	for c := cause.None + 1; c < cause.SecretQuoted; c++ {
		if !slices.Contains(seen, c) {
			t.Errorf("no input of this test leads to %s", c)
		}
	}
}

// What is valid, or is refused for another reason, does not get the advice of its neighbour.
func TestSimilarInputsGetNoWrongAdvice(t *testing.T) {
	all := gateway(t)
	for _, m := range []mistake{
		{"a token with a nonce in its header and a valid signature", "raw", sign(`{"alg":"HS256","nonce":"x"}`, payload(""), rawSecret), cause.None},
		{"an identity of digits", "raw", hs(`{"identity":9007199254740993}`), cause.None},
		{"an identity with a blank inside", "raw", hs(`{"identity":"a b"}`), cause.None},
		{"another secret, which fits no reading", "text", sign(`{"alg":"HS256"}`, payload(""), "another secret of at least 32 bytes"), cause.KeyOther},
		{"an issuer of another site, which only shares its top level domain", "issuer", hs(payload(`,"iss":"https://evil.com/"`)), cause.ValueOther},
		{"an issuer of another site below ours", "issuer", hs(payload(`,"iss":"https://login.example.com.evil.net/"`)), cause.ValueOther},
		{"an issuer on another path", "issuer", hs(payload(`,"iss":"https://test.example.com/x"`)), cause.ValueOther},
		{"client_id beside aud", "audience", hs(payload(`,"token_use":"access","client_id":"x","aud":"api"`)), cause.AccessTokenSent},
		{"an expired token with everything else", "raw", hs(`{"identity":42.0,"exp":1}`), cause.TimePassed},
		{"three segments of anything", "raw", "a.b.c", cause.CharacterLost},
		{"an object with oid", "raw", hs(`{"identity":{"oid":"x"}}`), cause.IdentityObject},
	} {
		rej, findings := examine(t, all, m.messenger, m.text)
		got := ""
		if rej != nil && len(findings) > 0 {
			got = findings[0].Name
		}
		if got != m.want.String() {
			t.Errorf("%s: got %s, want %s", m.origin, got, m.want)
		}
	}
}

// A token in another form than token_from names is what the log and the operator have to see; a visitor without one is not.
func TestTokensInUnconfiguredSourcesAreReported(t *testing.T) {
	sources := authn.Sources{{Kind: authn.Cookie, Name: "chat"}, {Kind: authn.Header, Name: "Authorization", Scheme: "Bearer"}, {Kind: authn.Header, Name: "X-Token"}}
	token := hs(payload(""))
	for _, tt := range []struct {
		origin string
		values []string
		want   cause.Cause
	}{
		{"passport-jwt 2: the scheme JWT", []string{"JWT " + token}, cause.SchemeOther},
		{"Django REST framework: the scheme Token", []string{"Token " + token}, cause.SchemeOther},
		{"JWT with two blanks", []string{"JWT  " + token}, cause.SchemeOther},
		{"Postman: an API key in the header Authorization", []string{token}, cause.SchemeMissing},
		{"basic_auth in front of the gateway", []string{"basic bWFyazptYXJr"}, cause.SchemeBasic},
		{"a header that is not there", nil, cause.None},
		{"an empty header", []string{""}, cause.None},
		{"the token of another system", []string{"Negotiate YIIJ"}, cause.None},
		{"AWS", []string{"AWS4-HMAC-SHA256 Credential=x"}, cause.None},
		{"an opaque token", []string{"Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"}, cause.None},
		{"two headers, which are ambiguous", []string{"JWT " + token, "x"}, cause.None},
	} {
		r := &http.Request{Header: http.Header{}}
		if tt.values != nil {
			r.Header[textproto.CanonicalMIMEHeaderKey("authorization")] = tt.values
		}
		if got := Astray(sources, r); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.origin, got, tt.want)
		}
	}
	rej := &authn.Rejection{Code: authn.TokenMalformed}
	if got := Cause(gateway(t)["raw"], "Bearer "+token, rej); got != cause.SchemeTwice {
		t.Errorf("a scheme that axios adds once more: got %s, want %s", got, cause.SchemeTwice)
	}
}

func TestDurationsAreReadable(t *testing.T) {
	for d, want := range map[time.Duration]string{
		137451*time.Hour + 53*time.Minute: "15 years", 365 * 24 * time.Hour: "1 year", 400 * 24 * time.Hour: "1 year", 36 * time.Hour: "1 day 12 hours", 240 * time.Hour: "10 days",
		time.Hour: "1 hour", 2*time.Hour + 5*time.Minute + 9*time.Second: "2 hours 5 minutes", 90 * time.Second: "1 minute 30 seconds", 59 * time.Minute: "59 minutes", time.Second: "1 second", 0: "0 seconds", time.Second - 1: "less than a second", -time.Millisecond: "less than a second",
		-5 * time.Second: "5 seconds", -1 << 63: "292 years",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

// A marker in another case looks like a page that has not sent a token.
func TestMarkerInAnotherCase(t *testing.T) {
	sources := authn.Sources{{Kind: authn.WebSocketProtocol, Name: "jwt"}, {Kind: authn.WebSocketProtocol, Name: "base64url.bearer.phx.", Prefix: true, Encoded: true}}
	for offers, want := range map[string]cause.Cause{
		"chat, JWT, a.b.c": cause.MarkerCase, "Base64URL.Bearer.Phx.YQ": cause.MarkerCase, "chat, jwts": cause.None, "base64url.bearer.k8s.YQ": cause.None,
	} {
		r := &http.Request{Header: http.Header{}}
		r.Header.Set("Sec-WebSocket-Protocol", offers)
		if got := Astray(sources, r); got != want {
			t.Errorf("%s: got %q, want %q", offers, got, want)
		}
	}
}

// The finding about keys that are left out has the line to write, which keeps what is accepted now.
func TestKeysThatAreLeftOutAreCounted(t *testing.T) {
	_, findings := examine(t, gateway(t), "mixed", unsigned(`{"alg":"ES256","kid":"e1"}`, payload("")))
	if len(findings) == 0 || !strings.Contains(findings[0].Cause, "2 ES256 keys; add algorithms RS256 ES256") {
		t.Errorf("got %+v", findings)
	}
	if _, findings := examine(t, gateway(t), "mixed", unsigned(`{"alg":"RS256","kid":"2026"}`, payload(""))); len(findings) == 0 || findings[0].Name == cause.KeyLeftOut.String() {
		t.Errorf("a token for a key that is used: got %+v", findings)
	}
}

// People paste the whole line of a request into explain. What is wrong with it in the request is wrong there too, and is named.
func TestPastedHeaderLinesAreRecognised(t *testing.T) {
	token := hs(payload(""))
	sources := authn.Sources{{Kind: authn.Header, Name: "Authorization", Scheme: "Bearer"}, {Kind: authn.WebSocketProtocol, Name: "jwt"},
		{Kind: authn.WebSocketProtocol, Name: "base64url.bearer.phx.", Prefix: true, Encoded: true},
		{Kind: authn.Cookie, Name: "chat"}, {Kind: authn.Query, Name: "token"}, {Kind: authn.Ticket, Name: "ticket"}} // which a line may not have
	for text, want := range map[string]cause.Cause{
		"JWT, " + token: cause.MarkerCase, "chat, Jwt," + token: cause.MarkerCase, "Sec-WebSocket-Protocol: JWT, " + token: cause.MarkerCase,
		"sec-websocket-protocol:  jWT , " + token: cause.MarkerCase, "Base64URL.bearer.phx." + b64(token): cause.MarkerCase, "phoenix, BASE64URL.BEARER.PHX." + b64(token): cause.MarkerCase,
		"jwt, " + token: cause.TextIsHeader, "base64url.bearer.phx." + b64(token): cause.TextIsHeader, "Sec-WebSocket-Protocol: chat": cause.TextIsHeader,
		"JWT " + token: cause.SchemeOther, `Token token="` + token + `"`: cause.SchemeOther, "Authorization: Token token=" + token: cause.SchemeOther,
		"Authorization: Bearer null": cause.WordForNothing, "Authorization: Bearer": cause.SchemeAlone, "Authorization: Bearer [object Promise]": cause.WordForObject,
		"Authorization: Token " + token: cause.SchemeOther, "authorization: jwt\t" + token: cause.None,
		"Authorization: " + token: cause.SchemeMissing, "Authorization: Basic bWFyazptYXJr": cause.SchemeBasic, "Basic bWFyazptYXJr": cause.SchemeBasic,
		"Authorization: Bearer:" + token: cause.SchemeColon, "bearer:" + token: cause.SchemeColon, "Authorization: Bearer " + token: cause.TextIsHeader,
		token: cause.None, token + " " + token: cause.None, "": cause.None, ":": cause.None, "JWT": cause.MarkerCase, "base64url.bearer.k8s." + b64(token): cause.None,
	} {
		got := WithPasted(nil, sources, text)
		switch {
		case want == cause.None && got != nil:
			t.Errorf("%s: got %s, want nothing", text, got[0].Name)
		case want != cause.None && (len(got) != 1 || got[0].Name != want.String() || strings.Contains(got[0].Cause+got[0].Fix, token[:12])):
			t.Errorf("%s: got %+v, want %s", text, got, want)
		}
	}
}
