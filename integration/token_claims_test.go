package integration

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// Two members of one name: one parser takes the first, another the last, and between two parsers an attacker who gets
// one member into a token is two people (RFC 8725 section 2.6; JSON parser differentials, Bishop Fox 2021). jwx takes the
// last one of each. An escaped name is the same name.
func TestDuplicateMembers(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		for _, members := range []string{
			`"alg":"ALG","alg":"none"`, `"alg":"none","alg":"ALG"`, `"alg":"ALG","alg":"ALG"`, `"\u0061lg":"none","alg":"ALG"`, `"alg":"ALG","a\u006cg":"ALG"`,
			`"alg":"ALG","kid":"a","kid":"b"`, `"alg":"ALG","typ":"JWT","typ":"JWT"`, `"alg":"ALG","jwk":{"kty":"RSA","kty":"oct"}`, `"alg":"ALG","x":1,"x":2`,
		} {
			s.refuses(t, "header "+strings.ReplaceAll(members, `"`, "'"), s.genuine("{"+members+"}", payload("mark")), "token_malformed")
		}
		for _, members := range []string{
			`"identity":"mark","identity":"eve"`, `"identity":"mark","identity":"mark"`, `"identity":"eve","\u0069dentity":"mark"`, `"identity":"mark","identit\u0079":null`,
			`"identity":"mark","exp":1,"exp":4102444800`, `"identity":"mark","exp":4102444800,"\u0065xp":1`, `"identity":"mark","other":{"a":1,"a":2}`,
			`"identity":"mark","other":[{"deep":{"a":1,"\u0061":2}}]`, `"identity":"mark","":1,"":2`, `"identity":"mark","\ud83d\ude00":1,"😀":2`,
		} {
			s.refuses(t, "payload "+strings.ReplaceAll(members, `"`, "'"), s.genuine(plainHeader, "{"+members+"}"), "token_malformed")
		}
		// Names that differ in case are different names, here and in every JSON parser but those that fold (encoding/json
		// of Go among them).
		s.passes(t, "mark", s.genuine(plainHeader, `{"Identity":"eve","identity":"mark","IDENTITY":"eve","Exp":1,"EXP":1}`))
		s.refuses(t, "another case only", s.genuine(plainHeader, `{"Identity":"eve","IDENTITY":"eve"}`), "identity_missing")
		s.passes(t, "mark", s.genuine(`{"alg":"ALG","ALG":"none","Crit":["b64"]}`, payload("mark")))
	})
}

// Text that one parser forgives and another does not: what stands behind an object, comments, other quotes, nesting that
// fills a stack (RFC 8725 section 2.6; Bishop Fox 2021).
func TestPayloadsThatAreNotOneJSONObject(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		for _, text := range []string{
			`null`, `"mark"`, `42`, `[]`, `[{"identity":"mark"}]`, `{}{}`, `{"identity":"mark"}{"identity":"eve"}`, `{"identity":"mark"}x`, `{"identity":"mark"},`, `{"identity":"mark",}`,
			`{'identity':'mark'}`, `{identity:"mark"}`, `{"identity":"mark"/*x*/}`, `{"identity":"mark"}//x`, `{"identity":"mark"`, `{"identity":"mark"}}`, "\ufeff" + `{"identity":"mark"}`,
			"{\"identity\":\"mark\"}\x00", "{\"identity\":\"ma\nrk\"}", `{"identity":"\x6dark"}`, `{"identity":NaN}`, `{"identity":Infinity}`, `{"identity":"mark","a":01}`, `{"identity":"mark","a":+1}`,
			`{"identity":"mark","a":.5}`, `{"identity":"mark","a":1.}`, `{"identity":"mark","a":0x10}`, `{"identity":"mark","a":1_000}`, `{"identity":"mark","a":tru}`,
			`{"identity":"mark","a":` + strings.Repeat("[", 2500) + strings.Repeat("]", 2500) + `}`,
			`{"identity":"mark","a":` + strings.Repeat(`{"a":`, 800) + "1" + strings.Repeat("}", 800) + `}`,
		} {
			s.refuses(t, strings.ToValidUTF8(text[:min(len(text), 40)], "?"), s.genuine(plainHeader, text), "token_malformed")
		}
	})
}

// A time that a library reads as "no limit" makes a token eternal: zero, a string, a number too large for its integer.
// RFC 7519 section 2 has numbers only; jwx v2 takes "0", 0 and 0.5 for no exp at all. Milliseconds are the honest form of
// the same mistake.
func TestInvalidTimesAreRefused(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		for _, claim := range []string{"exp", "nbf", "iat"} {
			for _, value := range []string{
				`"4102444800"`, `"0"`, `"tomorrow"`, `"2100-01-01T00:00:00Z"`, `""`, `null`, `true`, `[4102444800]`, `{"$date":1}`,
				`1e400`, `-1e400`, `1e18`, `9223372036854775807`, `9223372036854775808`, `18446744073709551616`, `18446744073709551617`, `-9223372036854775809`,
				`4102444800000`, `1e99`, `253402300800`, strings.Repeat("9", 400),
			} {
				s.refuses(t, claim+" "+value[:min(len(value), 24)], s.genuine(plainHeader, `{"identity":"mark","`+claim+`":`+value+`}`), "claim_invalid")
			}
		}
		for _, value := range []string{`0`, `0.0`, `-0`, `0.5`, `0e9`, `-1`, `1`, `1e-300`, `-253402300799`, `1000000000`, `1e9`} {
			s.refuses(t, "exp "+value, s.genuine(plainHeader, `{"identity":"mark","exp":`+value+`}`), "token_expired")
		}
		for _, claim := range []string{"nbf", "iat"} {
			s.refuses(t, claim+" in the year 9999", s.genuine(plainHeader, `{"identity":"mark","`+claim+`":253402300799}`), "token_not_yet_valid")
			s.passes(t, "mark", s.genuine(plainHeader, `{"identity":"mark","`+claim+`":0,"exp":253402300799}`))
		}
		s.passes(t, "mark", s.genuine(plainHeader, `{"identity":"mark","exp":4.1024448e9}`))
	})
}

// A replayed token is a valid token at the wrong time (RFC 7519 sections 4.1.4 to 4.1.6). The tolerance for clocks is a
// minute and no more.
func TestReplayOutsideTheValidityPeriod(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		at := func(offset time.Duration) int64 { return time.Now().Add(offset).Unix() }
		s.refuses(t, "exp two minutes ago", sign(s.key, with(valid("mark"), claims{"exp": at(-2 * time.Minute)})), "token_expired")
		s.refuses(t, "exp years ago", sign(s.key, with(valid("mark"), claims{"exp": 1000000000})), "token_expired")
		s.refuses(t, "nbf in three minutes", sign(s.key, with(valid("mark"), claims{"nbf": at(3 * time.Minute)})), "token_not_yet_valid")
		s.refuses(t, "iat in three minutes", sign(s.key, with(valid("mark"), claims{"iat": at(3 * time.Minute)})), "token_not_yet_valid")
		s.passes(t, "mark", sign(s.key, with(valid("mark"), claims{"exp": at(-10 * time.Second)})))
		s.passes(t, "mark", sign(s.key, with(valid("mark"), claims{"nbf": at(10 * time.Second), "iat": at(10 * time.Second)})))
	})
}

// A number that is rounded on its way is somebody else: 2^53+1 is the first integer that a double cannot hold, and
// -0, 1.0 and 1e0 are three spellings of what one database calls 0 or 1 (RFC 8259 section 6; Bishop Fox 2021).
func TestRoundedNumbersAreRefused(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		for _, value := range []string{`-0`, `0.0`, `1.0`, `1e0`, `1E3`, `1e400`, `-1e-1`, `42.5`, `9007199254740993.0`, strings.Repeat("9", 256), "-" + strings.Repeat("9", 255)} {
			s.refuses(t, value[:min(len(value), 24)], s.genuine(plainHeader, `{"identity":`+value+`}`), "identity_invalid")
		}
		for _, value := range []string{`0`, `-1`, `42`, `9007199254740993`, `18446744073709551617`, strings.Repeat("9", 255)} {
			s.passes(t, value, s.genuine(plainHeader, `{"identity":`+value+`}`))
		}
		for _, value := range []string{`true`, `false`, `null`, `[]`, `["mark"]`, `{}`, `{"id":"mark"}`, `""`} {
			s.refuses(t, value, s.genuine(plainHeader, `{"identity":`+value+`}`), "identity_invalid")
		}
	})
}

// Half a character is replaced by U+FFFD in one library and kept or cut in another, so that different texts become one
// (Unicode Technical Report 36 section 3; RFC 8725 section 2.6). Invisible and control characters end a name for one
// reader and not for the next: a NUL in C, a line break in a header (CWE-113).
func TestAmbiguousTextIsRefused(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		identity := func(text string) string { return s.genuine(plainHeader, `{"identity":"`+text+`"}`) }
		for name, text := range map[string]string{
			"a high surrogate alone": `\ud83d`, "a low surrogate alone": `mark\udc00`, "two in the wrong order": `\ude00\ud83d`, "a high one before a letter": `\ud83dx`,
			"a byte that no UTF-8 has": "mark\xff", "an overlong slash (CVE-2000-0884)": "\xc0\xaf", "an encoded surrogate (CESU-8)": "\xed\xa0\xbd\xed\xb8\x80",
			"a cut character": "mark\xe5\xbc", "beyond Unicode": "\xf4\x90\x80\x80", "Latin-1": "Zo\xeb", "UTF-16": "m\x00a\x00",
		} {
			s.refuses(t, name, identity(text), "token_malformed")
			elsewhere := s.genuine(plainHeader, `{"identity":"mark","name":["`+text+`"]}`)
			if strings.Contains(text, `\u`) { // a name that was cut through an emoji; it is not forwarded here
				s.passes(t, "mark", elsewhere)
			} else {
				s.refuses(t, name+", in a claim that is not read", elsewhere, "token_malformed")
			}
			for _, claim := range []string{"sub", "iss", "aud", "jti", "exp"} {
				s.refuses(t, name+", in "+claim, s.genuine(plainHeader, `{"identity":"mark","`+claim+`":"`+text+`"}`), "token_malformed")
			}
			s.refuses(t, name+", in a name", s.genuine(plainHeader, `{"identity":"mark","x":{"`+text+`":1}}`), "token_malformed")
			s.refuses(t, name+", in the header", s.genuine(`{"alg":"ALG","x":"`+text+`"}`, payload("mark")), "token_malformed")
		}
		for _, text := range []string{
			`mark\u0000`, `\u0000`, `mark\u0000eve`, `mark\r\nX-Admin: 1`, `mark\n`, `a\tb`, `mark\u007f`, `mark\u0085eve`, `mark\u001b[31m`, ` mark`, `mark `, ` `, `\u00a0mark`, `mark\u2003`, `\u2028mark`, `mark\u3000`,
		} {
			s.refuses(t, "the identity "+text, identity(text), "identity_invalid")
		}
	})
}

// Names that look alike are different contacts. Who normalizes, folds or trims them on the way lets "ｍark" or "MARK" be
// mark (Unicode Technical Report 36; the Spotify account takeover of 2013). Every one arrives as the bytes that were
// signed.
func TestSimilarNamesStayDifferent(t *testing.T) {
	alike := []string{
		"mark", "Mark", "MARK", "mаrk" /* Cyrillic а */, "ｍark", "mark\u200b", "\ufeffmark", "m\u00adark", "\u202ekram", "mar\u212a", "ma\u0301rk", "márk", "m\u00e1rk\u200d", "ᴍark", "mark%00", "mark\ufffd", "ma\u2028rk",
	}
	besiege(t, func(t *testing.T, s *siege) {
		arrived := make(map[string]string)
		for _, name := range alike {
			if a := s.g.get("/", bearer(sign(s.key, valid(name)))); a.status != 200 {
				t.Errorf("%q: got %d %s", name, a.status, a.body)
				continue
			}
			got := s.up.one(t).header.Get("X-Contact-Identity")
			if decoded, err := url.PathUnescape(got); err != nil || decoded != name {
				t.Errorf("%q arrives as %q, which is %q, %v", name, got, decoded, err)
			}
			if other, found := arrived[got]; found {
				t.Errorf("%q and %q both arrive as %q", name, other, got)
			}
			arrived[got] = name
		}
		if want := len(alike); len(arrived) != want {
			t.Errorf("%d names arrived, want %d", len(arrived), want)
		}
	})
}
