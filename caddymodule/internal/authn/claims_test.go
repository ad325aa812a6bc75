package authn

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of the tests stands still at midnight of 2000-01-01 UTC, as testing/synctest sets it.
const testNow = 946684800

func TestTimeClaims(t *testing.T) {
	skewed := Policy{ClockSkew: time.Minute}
	limited := Policy{ClockSkew: time.Minute, MaxLifetime: time.Hour}
	eternal := Policy{ClockSkew: time.Minute, MaxLifetime: math.MaxInt64}
	at := func(offset int) string { return fmt.Sprint(testNow + offset) }
	for _, tt := range []struct {
		name   string
		policy Policy
		times  string
		want   string
	}{
		{"no times at all", Policy{}, ``, "ok"},
		{"exp in a second", Policy{}, `"exp":` + at(1), "ok"},
		{"exp now", Policy{}, `"exp":` + at(0), "token_expired"},
		{"exp in half a second", Policy{}, `"exp":` + at(0) + `.5`, "ok"},
		{"exp half a second ago", Policy{}, `"exp":` + at(-1) + `.5`, "token_expired"},
		{"exp a second less ago than the skew", skewed, `"exp":` + at(-59), "ok"},
		{"exp as long ago as the skew", skewed, `"exp":` + at(-60), "token_expired"},
		{"nbf now", Policy{}, `"nbf":` + at(0), "ok"},
		{"nbf in a second", Policy{}, `"nbf":` + at(1), "token_not_yet_valid"},
		{"nbf at the end of the skew", skewed, `"nbf":` + at(60), "ok"},
		{"nbf behind the skew", skewed, `"nbf":` + at(61), "token_not_yet_valid"},
		{"iat now", Policy{}, `"iat":` + at(0), "ok"},
		{"iat in a second", Policy{}, `"iat":` + at(1), "token_not_yet_valid"},
		{"iat at the end of the skew", skewed, `"iat":` + at(60), "ok"},
		{"iat behind the skew", skewed, `"iat":` + at(61), "token_not_yet_valid"},
		{"an expired token that is not valid yet either", Policy{}, `"nbf":` + at(9) + `,"exp":` + at(-9), "token_expired"},

		{"exp 0 is 1970, and not no limit", skewed, `"exp":0`, "token_expired"},
		{"exp -0", skewed, `"exp":-0`, "token_expired"},
		{"exp too small for a float", skewed, `"exp":1e-400`, "token_expired"},
		{"exp before 1970", skewed, `"exp":-1`, "token_expired"},
		{"exp a whole age before 1970", skewed, `"exp":-253402300799`, "token_expired"},
		{"exp with an exponent", skewed, `"exp":1e10`, "ok"},
		{"exp in the last second of the year 9999", skewed, `"exp":253402300799`, "ok"},
		{"exp as a string", skewed, `"exp":"` + at(9) + `"`, "claim_invalid"},
		{"exp as an RFC 3339 date", skewed, `"exp":"2100-01-01T00:00:00Z"`, "claim_invalid"},
		{"exp null", skewed, `"exp":null`, "claim_invalid"},
		{"exp true", skewed, `"exp":true`, "claim_invalid"},
		{"exp in an array", skewed, `"exp":[` + at(9) + `]`, "claim_invalid"},
		{"exp in an object", skewed, `"exp":{}`, "claim_invalid"},
		{"exp in milliseconds", skewed, `"exp":` + at(9) + `000`, "claim_invalid"},
		{"exp in microseconds", skewed, `"exp":` + at(9) + `000000`, "claim_invalid"},
		{"exp before 1970 in milliseconds", skewed, `"exp":-` + at(9) + `000`, "claim_invalid"},
		{"exp that wraps around in 64 bits", skewed, `"exp":18446744073709551616`, "claim_invalid"},
		{"exp at the end of 64 bits", skewed, `"exp":9223372036854775807`, "claim_invalid"},
		{"exp beyond a float", skewed, `"exp":1e400`, "claim_invalid"},
		{"exp beyond a float on the other side", skewed, `"exp":-1e400`, "claim_invalid"},
		{"nbf as a string", skewed, `"nbf":"0"`, "claim_invalid"},
		{"nbf null", skewed, `"nbf":null`, "claim_invalid"},
		{"nbf before all times", skewed, `"nbf":-1e400`, "claim_invalid"},
		{"iat as a string", skewed, `"iat":"0"`, "claim_invalid"},
		{"iat null", skewed, `"iat":null`, "claim_invalid"},

		{"max_lifetime without exp", limited, `"iat":` + at(0), "claim_missing"},
		{"exp max_lifetime after iat", limited, `"iat":` + at(-1800) + `,"exp":` + at(1800), "ok"},
		{"exp a second more than max_lifetime after iat", limited, `"iat":` + at(-1800) + `,"exp":` + at(1801), "token_lifetime_too_long"},
		{"exp half a second more than max_lifetime after iat", limited, `"iat":` + at(-1800) + `,"exp":` + at(1800) + `.5`, "token_lifetime_too_long"},
		{"max_lifetime without iat", limited, `"exp":` + at(60), "claim_missing"},
		{"max_lifetime with an iat that is null", limited, `"iat":null,"exp":` + at(60), "claim_invalid"},
		{"max_lifetime without iat, and exp has passed", limited, `"exp":` + at(-60), "token_expired"},
		{"an iat within the skew to come, and exp max_lifetime after it", limited, `"iat":` + at(60) + `,"exp":` + at(3660), "ok"},
		{"an iat of long ago does not make room", limited, `"iat":0,"exp":` + at(60), "token_lifetime_too_long"},
		{"the longest max_lifetime, and a year more after iat", eternal, `"iat":` + at(0) + `,"exp":` + at(292*366*24*3600), "token_lifetime_too_long"},
		{"iat so far from exp that the time between overflows", limited, `"iat":-253402300799,"exp":253402300799`, "token_lifetime_too_long"},
	} {
		t.Run(tt.name, inBubble(func(t *testing.T) {
			if got := time.Now().Unix(); got != testNow {
				t.Fatalf("the clock says %d, want %d", got, testNow)
			}
			payload := `{"identity":"mark"}`
			if tt.times != "" {
				payload = `{"identity":"mark",` + tt.times + `}`
			}
			_, rej := sharedTokenVerifier(t, tt.policy).Verify(context.Background(), signHS256(payload))
			if got := outcomeText(rej); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		}))
	}
}

// inBubble makes a test run with the clock of testing/synctest.
func inBubble(test func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

func TestIssuerAudienceAndRequiredClaims(t *testing.T) {
	issuers := Policy{Issuers: []string{"https://a.example", "https://b.example/"}}
	audiences := Policy{Audiences: []string{"chat", "https://chat.example"}}
	required := Policy{RequiredClaims: []string{"exp", "email", "identity"}}
	for _, tt := range []struct {
		name   string
		policy Policy
		claims string
		want   string
	}{
		{"any iss where none is configured", Policy{}, `"iss":{}`, "ok"},
		{"the first issuer", issuers, `"iss":"https://a.example"`, "ok"},
		{"the second issuer", issuers, `"iss":"https://b.example/"`, "ok"},
		{"an issuer that was escaped", issuers, `"iss":"https:\/\/\u0061.example"`, "ok"},
		{"a slash too many", issuers, `"iss":"https://a.example/"`, "issuer_not_allowed"},
		{"a slash too few", issuers, `"iss":"https://b.example"`, "issuer_not_allowed"},
		{"an issuer in another case", issuers, `"iss":"https://A.example"`, "issuer_not_allowed"},
		{"no iss", issuers, `"x":1`, "issuer_not_allowed"},
		{"iss in another case", issuers, `"Iss":"https://a.example"`, "issuer_not_allowed"},
		{"an empty iss", issuers, `"iss":""`, "issuer_not_allowed"},
		{"iss null", issuers, `"iss":null`, "issuer_not_allowed"},
		{"iss in an array", issuers, `"iss":["https://a.example"]`, "issuer_not_allowed"},

		{"any aud where none is configured", Policy{}, `"aud":1`, "ok"},
		{"an audience", audiences, `"aud":"chat"`, "ok"},
		{"an audience among others", audiences, `"aud":["shop","chat"]`, "ok"},
		{"an audience that was escaped", audiences, `"aud":["\u0063hat"]`, "ok"},
		{"a part of an audience", audiences, `"aud":"cha"`, "audience_not_allowed"},
		{"an audience with more behind it", audiences, `"aud":"chat "`, "audience_not_allowed"},
		{"another audience", audiences, `"aud":"shop"`, "audience_not_allowed"},
		{"other audiences", audiences, `"aud":["shop","Chat"]`, "audience_not_allowed"},
		{"an empty array", audiences, `"aud":[]`, "audience_not_allowed"},
		{"an array that nests the audience", audiences, `"aud":[["chat"]]`, "audience_not_allowed"},
		{"an array with a number beside the audience", audiences, `"aud":["chat",1]`, "audience_not_allowed"},
		{"an object that names the audience", audiences, `"aud":{"chat":true}`, "audience_not_allowed"},
		{"no aud", audiences, `"x":1`, "audience_not_allowed"},
		{"aud null", audiences, `"aud":null`, "audience_not_allowed"},

		{"all required claims", required, `"exp":4102444800,"email":""`, "ok"},
		{"a required claim that is false", required, `"exp":4102444800,"email":false`, "ok"},
		{"a required claim that is absent", required, `"exp":4102444800`, "claim_missing"},
		{"a required claim that is null", required, `"exp":4102444800,"email":null`, "claim_missing"},
		{"a required claim in another case", required, `"exp":4102444800,"Email":"x"`, "claim_missing"},
		{"a required claim inside another", required, `"exp":4102444800,"x":{"email":"x"}`, "claim_missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token := signHS256(`{"identity":"mark",` + tt.claims + `}`)
			_, rej := sharedTokenVerifier(t, tt.policy).Verify(context.Background(), token)
			if got := outcomeText(rej); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestIdentityIsForwardedUnchangedOrRefused(t *testing.T) {
	for _, tt := range []struct{ name, claim, want, code string }{
		{"a string", `"mark"`, "mark", "ok"},
		{"a string in another case is another contact", `"Mark"`, "Mark", "ok"},
		{"inner blanks stay", `"mark  twain"`, "mark  twain", "ok"},
		{"escapes are resolved", `"Zo\u00eb \u5f20"`, "Zoë 张", "ok"},
		{"a pair of surrogates is one character", `"\ud83d\ude00"`, "\U0001F600", "ok"},
		{"a combining accent is not composed", `"e\u0301"`, "e\u0301", "ok"},
		{"255 bytes", `"` + strings.Repeat("x", 255) + `"`, strings.Repeat("x", 255), "ok"},
		{"0", `0`, "0", "ok"},
		{"a negative integer", `-7`, "-7", "ok"},
		{"2^53+1, which no float holds", `9007199254740993`, "9007199254740993", "ok"},
		{"an integer beyond 64 bits", `18446744073709551617`, "18446744073709551617", "ok"},
		{"255 digits", strings.Repeat("9", 255), strings.Repeat("9", 255), "ok"},
		{"a string of digits", `"007"`, "007", "ok"},

		{"256 bytes", `"` + strings.Repeat("x", 256) + `"`, "", "identity_invalid"},
		{"128 characters of two bytes", `"` + strings.Repeat("é", 128) + `"`, "", "identity_invalid"},
		{"256 digits", strings.Repeat("9", 256), "", "identity_invalid"},
		{"an empty string", `""`, "", "identity_invalid"},
		{"a blank", `" "`, "", "identity_invalid"},
		{"blanks of all kinds", `"\u2003\u00a0"`, "", "identity_invalid"},
		{"a blank in front", `" mark"`, "", "identity_invalid"},
		{"a blank behind", `"mark "`, "", "identity_invalid"},
		{"a no-break space in front", `"\u00a0mark"`, "", "identity_invalid"},
		{"an ideographic space behind", `"mark\u3000"`, "", "identity_invalid"},
		{"a line separator behind", `"mark\u2028"`, "", "identity_invalid"},
		{"a NUL inside", `"mark\u0000admin"`, "", "identity_invalid"},
		{"a line break inside", `"mark\r\nX-Admin: 1"`, "", "identity_invalid"},
		{"a tab inside", `"mark\ttwain"`, "", "identity_invalid"},
		{"DEL", `"mark\u007f"`, "", "identity_invalid"},
		{"a control character of the second set", `"ma\u0085rk"`, "", "identity_invalid"},
		{"-0", `-0`, "", "identity_invalid"},
		{"a fraction", `1.5`, "", "identity_invalid"},
		{"a fraction of nothing", `1.0`, "", "identity_invalid"},
		{"an exponent", `1e3`, "", "identity_invalid"},
		{"an exponent in capitals", `1E3`, "", "identity_invalid"},
		{"true", `true`, "", "identity_invalid"},
		{"null", `null`, "", "identity_invalid"},
		{"an array", `["mark"]`, "", "identity_invalid"},
		{"an object", `{"id":"mark"}`, "", "identity_invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contact, rej := sharedTokenVerifier(t, Policy{}).Verify(context.Background(), signHS256(`{"identity":`+tt.claim+`}`))
			if got := outcomeText(rej); got != tt.code {
				t.Fatalf("got %s, want %s", got, tt.code)
			}
			if rej == nil && contact.Identity != tt.want {
				t.Errorf("got %q, want %q", contact.Identity, tt.want)
			}
		})
	}
}

// The identity key is one top-level name, compared exactly: nothing that merely resembles it holds an identity.
func TestIdentityKeyIsALiteralName(t *testing.T) {
	for _, tt := range []struct{ name, key, payload, want string }{
		{"a plain name", "sub", `{"sub":"mark"}`, "mark"},
		{"a name that was escaped in the token", "sub", `{"\u0073ub":"mark"}`, "mark"},
		{"a name of other letters", "客户", `{"客户":"mark"}`, "mark"},
		{"a name that is a URL", "https://example.com/id", `{"https://example.com/id":"mark"}`, "mark"},
		{"a name with dots is not a path", "user.id", `{"user.id":"mark","user":{"id":"eve"}}`, "mark"},
		{"iss can be an identity", "iss", `{"iss":"mark"}`, "mark"},
		{"a path", "user.id", `{"user":{"id":"mark"}}`, "identity_missing"},
		{"another case", "sub", `{"Sub":"mark"}`, "identity_missing"},
		{"letters that fold to it", "sub", `{"\u017fub":"mark"}`, "identity_missing"},
		{"another Unicode form", "é", `{"e\u0301":"mark"}`, "identity_missing"},
		{"deeper down", "sub", `{"x":{"sub":"mark"}}`, "identity_missing"},
		{"nothing at all", "sub", `{}`, "identity_missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contact, rej := sharedTokenVerifier(t, Policy{IdentityKey: tt.key}).Verify(context.Background(), signHS256(tt.payload))
			got := outcomeText(rej)
			if contact != nil {
				got = contact.Identity
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestRequestedClaims(t *testing.T) {
	payload := `{"identity":"mark","s":"a \"b\"\n","i":9007199254740993,"f":1.50E+3,"b":false,"n":null,"a":[ 1, "x y" ],"o":{ "k" : "\u00eb" },"e":""}`
	want := []string{"s", "i", "f", "b", "n", "a", "o", "e", "absent", "identity", "s"}
	contact, rej := sharedTokenVerifier(t, Policy{}).verify(context.Background(), signHS256(payload), NewClaimSelection(want), nil)
	if rej != nil {
		t.Fatal(rej)
	}
	for i, expected := range []Claim{
		{"a \"b\"\n", true}, {"9007199254740993", true}, {"1.50E+3", true}, {"false", true}, {}, {`[1,"x y"]`, true},
		{`{"k":"\u00eb"}`, true}, {"", true}, {}, {"mark", true}, {"a \"b\"\n", true},
	} {
		if contact.Claims[i] != expected {
			t.Errorf("%s: got %+v, want %+v", want[i], contact.Claims[i], expected)
		}
	}
}

// A token is revoked by its jti. A jti that no revocation could name is refused: otherwise an operator would be told that a token
// is revoked, and it would still be valid. An integer is the same as the string of its digits, as an operator would write it.
func TestTokenIDIsAStringOrAnInteger(t *testing.T) {
	long := strings.Repeat("j", 5000)
	for _, tt := range []struct{ name, claim, jti, code string }{
		{"a string", `"a"`, "a", "ok"},
		{"a string that was escaped", `"\u0061\/"`, "a/", "ok"},
		{"a string with a blank in front is another", `" a"`, " a", "ok"},
		{"a string in another case is another", `"A"`, "A", "ok"},
		{"a long string", `"` + long + `"`, long, "ok"},
		{"an integer", `12345`, "12345", "ok"},
		{"a string of the same digits", `"12345"`, "12345", "ok"},
		{"0", `0`, "0", "ok"},
		{"a negative integer", `-7`, "-7", "ok"},
		{"2^53+1, which no float holds", `9007199254740993`, "9007199254740993", "ok"},
		{"5000 digits", strings.Repeat("9", 5000), strings.Repeat("9", 5000), "ok"},
		{"an empty string counts as absent", `""`, "", "ok"},

		{"-0", `-0`, "", "claim_invalid"},
		{"a fraction of nothing", `1.0`, "", "claim_invalid"},
		{"a fraction", `1.5`, "", "claim_invalid"},
		{"an exponent", `1e3`, "", "claim_invalid"},
		{"an exponent in capitals", `1E3`, "", "claim_invalid"},
		{"true", `true`, "", "claim_invalid"},
		{"false", `false`, "", "claim_invalid"},
		{"null", `null`, "", "claim_invalid"},
		{"an array", `["a"]`, "", "claim_invalid"},
		{"an empty array", `[]`, "", "claim_invalid"},
		{"an object", `{"a":"a"}`, "", "claim_invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			revoked := new(Revocations)
			c, v := NewCache(10), sharedTokenVerifier(t, Policy{Revoked: revoked})
			token := signHS256(`{"identity":"mark","jti":` + tt.claim + `}`)
			for range 2 { // the second time from the cache
				contact, _, rej := c.Verify(context.Background(), time.Now(), v, token, noClaims, nil)
				if got := outcomeText(rej); got != tt.code {
					t.Fatalf("got %s, want %s", got, tt.code)
				}
				if rej == nil && contact.TokenID != NewTokenID(tt.jti) {
					t.Errorf("got %s, want that of %.20q", contact.TokenID, tt.jti)
				}
			}
			revoked.Set([]Revocation{{TokenID: NewTokenID("other")}, {TokenID: NewTokenID(tt.jti)}})
			if want := map[bool]string{true: "token_revoked", false: tt.code}[tt.code == "ok" && tt.jti != ""]; tt.jti != "" {
				for _, c := range []*Cache{c, nil} {
					if _, _, rej := c.Verify(context.Background(), time.Now(), v, token, noClaims, nil); outcomeText(rej) != want {
						t.Errorf("once its jti is revoked: got %s, want %s", outcomeText(rej), want)
					}
				}
			}
		})
	}
}

// A display name that was cut through an emoji does not make a token invalid if the name is not read. In a claim that is read,
// U+FFFD in its place would make different texts equal.
func TestLoneSurrogateIsRefusedInClaimsThatAreRead(t *testing.T) {
	v := sharedTokenVerifier(t, Policy{ContactClaims: []string{"phone"}})
	for _, tt := range []struct {
		payload string
		want    []string
		code    Code
	}{
		{`{"identity":"mark","name":"Zo\ud83d"}`, nil, ""},
		{`{"identity":"mark","names":{"first":["\ude00"]},"exp":4102444800}`, []string{"mail"}, ""},
		{`{"identity":"mark","name":"Zo\ud83d"}`, []string{"name"}, TokenMalformed},
		{`{"identity":"mark","names":{"first":["\ude00"]}}`, []string{"names"}, TokenMalformed},
		{`{"identity":"mark\ud83d"}`, nil, TokenMalformed},
		{`{"identity":"mark","sub":"\ud83d"}`, nil, TokenMalformed},
		{`{"identity":"mark","iss":"\ud83d"}`, nil, TokenMalformed},
		{`{"identity":"mark","aud":["a","\ud83d"]}`, nil, TokenMalformed},
		{`{"identity":"mark","jti":"\ud83d"}`, nil, TokenMalformed},
		{`{"identity":"mark","exp":"\ud83d"}`, nil, TokenMalformed},
		{`{"identity":"mark","nbf":["\ud83d"]}`, nil, TokenMalformed},
		{`{"identity":"mark","\ud83d":1}`, nil, TokenMalformed},
		{`{"identity":"mark","phone":"\ud83d"}`, nil, TokenMalformed},
	} {
		contact, rej := v.verify(context.Background(), signHS256(tt.payload), NewClaimSelection(tt.want), nil)
		switch {
		case tt.code == "" && (rej != nil || contact.Identity != "mark"):
			t.Errorf("%s, claims %q: got %+v", tt.payload, tt.want, rej)
		case tt.code != "" && (rej == nil || rej.Code != tt.code):
			t.Errorf("%s, claims %q: got %+v, want %s", tt.payload, tt.want, rej, tt.code)
		}
	}
}
