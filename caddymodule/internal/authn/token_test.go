package authn

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

func TestCompactFormIsParsedStrictly(t *testing.T) {
	valid := signHS256(`{"identity":"mark"}`)
	parts := strings.Split(valid, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	for _, tt := range []struct {
		name, text string
		code       Code
		reason     string
	}{
		{"nothing between the dots", "..", TokenMalformed, "header segment is empty"},
		{"no header", "." + payload + "." + signature, TokenMalformed, "header segment is empty"},
		{"no payload", header + ".." + signature, TokenMalformed, "payload segment is empty"},
		{"no signature", header + "." + payload + ".", TokenMalformed, "signature segment is empty"},
		{"one segment", header, TokenMalformed, "one segment"},
		{"two segments", header + "." + payload, TokenMalformed, "two segments"},
		{"four segments", valid + "." + signature, TokenMalformed, "exactly three"},
		{"five segments", valid + "." + signature + "." + signature, TokenMalformed, "JWE"},
		{"nothing but dots", strings.Repeat(".", MaxToken), TokenMalformed, "exactly three"},
		{"JSON serialization", `{"payload":"` + payload + `"}`, TokenMalformed, "JSON"},
		{"padding", header + "=." + payload + "." + signature, TokenMalformed, "padding"},
		{"the standard alphabet", header + "+." + payload + "." + signature, TokenMalformed, "standard base64"},
		{"the standard alphabet's slash", valid + "/", TokenMalformed, "standard base64"},
		{"a scheme in front", "Bearer " + valid, TokenMalformed, "scheme name"},
		{"quotes", `"` + valid + `"`, TokenMalformed, "quotes"},
		{"a line break inside", header + ".\r\n" + payload + "." + signature, TokenMalformed, "base64url does not have"},
		{"a NUL behind", valid + "\x00", TokenMalformed, "base64url does not have"},
		{"a character outside ASCII", valid + "é", TokenMalformed, "base64url does not have"},
		{"a length that base64 cannot have", header + "AAA." + payload + "." + signature, TokenMalformed, "header"},
		{"trailing bits that are not zero", valid[:len(valid)-1] + nextChar(valid[len(valid)-1]), TokenMalformed, "signature segment"},
		{"a byte more than the limit", strings.Repeat("A", MaxToken+1), TokenTooLarge, "8 KiB"},
		{"exactly the limit", strings.Repeat("A", MaxToken), TokenMalformed, "one segment"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, rej := parseToken(tt.text)
			if rej == nil || rej.Code != tt.code || !strings.Contains(rej.Reason, tt.reason) {
				t.Errorf("got %+v, want %s with a reason that says %q", rej, tt.code, tt.reason)
			}
		})
	}
	tok, rej := parseToken(valid)
	if rej != nil {
		t.Fatalf("the valid token: %+v", rej)
	}
	claims, err := tok.payload()
	if err != nil || tok.signed != header+"."+payload || string(claims) != `{"identity":"mark"}` || tok.header.alg != "HS256" {
		t.Errorf("got %+v", tok)
	}
}

// nextChar returns the base64url character whose value is one more: the same bytes, in another spelling.
func nextChar(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)+1:][:1]
}

func TestHeaderIsParsedStrictly(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		want         header
		reason       string // of the rejection; "" is none
	}{
		{"alg alone", `{"alg":"HS256"}`, header{alg: "HS256"}, ""},
		{"alg with a kid", `{"alg":"HS256","kid":"k1"}`, header{alg: "HS256", kid: "k1", hasKID: true}, ""},
		{"an empty kid is a kid", `{"alg":"HS256","kid":""}`, header{alg: "HS256", hasKID: true}, ""},
		{"typ in any case", `{"alg":"HS256","typ":"jwt"}`, header{alg: "HS256", typ: "jwt", hasTyp: true}, ""},
		{"typ of an access token (RFC 9068)", `{"alg":"HS256","typ":"AT+JWT"}`, header{alg: "HS256", typ: "at+jwt", hasTyp: true}, ""},
		{"typ with a media type's prefix", `{"alg":"HS256","typ":"application/jwt"}`, header{alg: "HS256", typ: "jwt", hasTyp: true}, ""},
		{"typ of an access token with the prefix", `{"alg":"HS256","typ":"Application/AT+JWT"}`, header{alg: "HS256", typ: "at+jwt", hasTyp: true}, ""},
		{"typ of the form", `{"alg":"HS256","typ":"jose"}`, header{alg: "HS256", typ: "jose", hasTyp: true}, ""},
		{"members that would bring a key are not read", `{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"jku":"https://evil.example","x5u":1,"x5c":[]}`, header{alg: "HS256"}, ""},
		{"no alg", `{"typ":"JWT"}`, header{typ: "jwt", hasTyp: true}, ""},
		{"an alg that is not a string", `{"alg":["HS256"]}`, header{}, ""},
		{"a member Alg is not alg", `{"Alg":"HS256"}`, header{}, ""},
		{"a kid that is a number", `{"alg":"HS256","kid":1}`, header{}, "kid"},
		{"a kid that is null", `{"alg":"HS256","kid":null}`, header{}, "kid"},
		{"typ of something else", `{"alg":"HS256","typ":"JWE"}`, header{}, "typ"},
		{"typ with the prefix twice", `{"alg":"HS256","typ":"application/application/jwt"}`, header{}, "typ"},
		{"typ with another prefix", `{"alg":"HS256","typ":"text/jwt"}`, header{}, "typ"},
		{"typ with a parameter", `{"alg":"HS256","typ":"application/jwt;v=1"}`, header{}, "typ"},
		{"typ with a blank", `{"alg":"HS256","typ":"JWT "}`, header{}, "typ"},
		{"typ of a set of signatures", `{"alg":"HS256","typ":"JOSE+JSON"}`, header{}, "typ"},
		{"typ of an OpenID logout", `{"alg":"HS256","typ":"logout+jwt"}`, header{}, "typ"},
		{"typ of a proof of possession", `{"alg":"HS256","typ":"dpop+jwt"}`, header{}, "typ"},
		{"typ of a security event", `{"alg":"HS256","typ":"application/secevent+jwt"}`, header{}, "typ"},
		{"typ of a request object", `{"alg":"HS256","typ":"oauth-authz-req+jwt"}`, header{}, "typ"},
		{"typ of an introspection", `{"alg":"HS256","typ":"token-introspection+jwt"}`, header{}, "typ"},
		{"an empty typ", `{"alg":"HS256","typ":""}`, header{}, "typ"},
		{"typ that is null", `{"alg":"HS256","typ":null}`, header{}, "typ"},
		{"crit", `{"alg":"HS256","crit":["exp"],"exp":1}`, header{}, "crit"},
		{"an empty crit", `{"alg":"HS256","crit":[]}`, header{}, "crit"},
		{"b64, even if true", `{"alg":"HS256","b64":true}`, header{}, "b64"},
		{"zip", `{"alg":"HS256","zip":"DEF"}`, header{}, "zip"},
		{"enc", `{"alg":"HS256","enc":"A128GCM"}`, header{}, "enc"},
		{"an escaped crit", `{"alg":"HS256","\u0063rit":["x"]}`, header{}, "crit"},
		{"a duplicate alg", `{"alg":"none","alg":"HS256"}`, header{}, "same name"},
		{"a duplicate alg, once escaped", `{"alg":"none","\u0061lg":"HS256"}`, header{}, "same name"},
		{"an array", `[]`, header{}, "not a JSON object"},
		{"two objects", `{"alg":"HS256"}{}`, header{}, "text after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _ = readHeaderOf(segment(tt.header))
			got, rej := readHeaderOf(segment(tt.header)) // which may be remembered now
			if rej == nil {
				rej = got.checkType("")
			}
			if tt.reason != "" {
				if rej == nil || rej.Code != TokenMalformed || !strings.Contains(rej.Reason, tt.reason) {
					t.Errorf("got %+v, want token_malformed with a reason that says %q", rej, tt.reason)
				}
				return
			}
			if tt.want.algorithm, _ = sigkey.ParseAlgorithm(tt.want.alg); rej != nil || got != tt.want {
				t.Errorf("got %+v %+v, want %+v", got, rej, tt.want)
			}
		})
	}
}

// A messenger that names a type accepts this one alone, in every spelling that is the same type. The tokens that one login server
// makes for other purposes are signed with the same key (RFC 8725 section 3.11).
func TestOnlyTheConfiguredTokenTypeIsAccepted(t *testing.T) {
	for header, accepting := range map[string]string{
		`{}`: "", `{"typ":"JWT"}`: "jwt", `{"typ":"application/jwt"}`: "jwt", `{"typ":"at+jwt"}`: "at+jwt", `{"typ":"APPLICATION/AT+JWT"}`: "at+jwt",
		`{"typ":"JOSE"}`: "jose", `{"typ":"Chat+JWT"}`: "chat+jwt", `{"typ":"application/chat+jwt"}`: "chat+jwt", `{"typ":"logout+jwt"}`: "", `{"typ":""}`: "",
		`{"typ":"application/"}`: "", `{"typ":"text/at+jwt"}`: "", `{"typ":"at+jwt "}`: "", `{"typ":"at+jwt;v=1"}`: "", `{"typ":"application/application/at+jwt"}`: "",
		"{\"typ\":\"a\\u0074+jwt\"}": "at+jwt", `{"typ":"at+jwtK"}`: "", `{"Typ":"at+jwt"}`: "",
	} {
		for _, named := range []string{"jwt", "at+jwt", "jose", "chat+jwt"} {
			h, rej := readHeaderOf(segment(header))
			if rej == nil {
				rej = h.checkType(named)
			}
			if accepted := rej == nil; accepted != (named == accepting) || rej != nil && rej.Code != TokenMalformed {
				t.Errorf("%s, where %s is named: got %+v", header, named, rej)
			}
		}
	}
	for _, header := range []string{`{"typ":null}`, `{"typ":["at+jwt"]}`, `{"typ":{}}`} {
		if _, rej := readHeaderOf(segment(header)); rej == nil {
			t.Errorf("%s is accepted", header)
		}
	}
}

// Any number of headers share the few places of those that are remembered, on any number of cores.
func TestCachedHeaderMatchesItsText(t *testing.T) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 20 * rememberedHeaders {
				kid := fmt.Sprint(i % (5 * rememberedHeaders))
				h, rej := readHeaderOf(segment(`{"alg":"HS256","kid":"` + kid + `"}`))
				if want := (header{alg: "HS256", algorithm: sigkey.HS256, kid: kid, hasKID: true}); rej != nil || h != want {
					t.Errorf("got %+v %+v, want %+v", h, rej, want)
				}
			}
		})
	}
	all.Wait()
}

func readHeaderOf(segment string) (header, *Rejection) {
	t := &token{first: segment}
	rej := t.readHeader()
	return t.header, rej
}

// A flood of invented headers does not evict the one header that all contacts of a site have.
func TestForgedHeadersDoNotEvictThoseOfSignedTokens(t *testing.T) {
	v, site := sharedTokenVerifier(t, Policy{}), segment(`{"alg":"HS256","kid":"of the site"}`)
	if _, rej := v.Verify(context.Background(), macWith(testSecret, site+"."+segment(`{"identity":"mark"}`))); rej != nil {
		t.Fatal(rej)
	}
	for i := range 100 * rememberedHeaders {
		_, rej := v.Verify(context.Background(), macWith("another secret", segment(fmt.Sprintf(`{"alg":"HS256","kid":"%d"}`, i))+"."+segment(`{"identity":"eve"}`)))
		if rej == nil || rej.Code != SignatureInvalid {
			t.Fatalf("got %+v", rej)
		}
	}
	if known := headerSlot(site).Load(); known == nil || known.segment != site || !known.signed {
		t.Error("the header of the site was evicted")
	}
}
