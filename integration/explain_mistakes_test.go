package integration

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// An explained is what "explain --json" and the admin API say.
type explained struct {
	Messenger, Method, Mode string
	Accepted                bool
	Status                  int
	Code, Reason, Detail    string
	Findings                []struct{ Cause, Fix string }
	Checks                  []check
	Upstream                []struct {
		Headers []struct{ Name, Value string }
	}
}

type check struct{ Name, Outcome, Reason string }

// outcome is the code of the refusal, or "verified".
func (e explained) outcome() string {
	if e.Accepted {
		return "verified"
	}
	return e.Code
}

// explain asks the running gateway.
func (g *gateway) explain(messenger, token string) explained {
	g.t.Helper()
	status, body := g.admin("POST", "messengers/"+messenger+"/explain", mustJSON(map[string]string{"token": token}))
	if status != 200 {
		g.t.Fatalf("explain: %d %s", status, body)
	}
	return parseExplained(g.t, body)
}

func parseExplained(t testing.TB, text string) (e explained) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return e
}

// A mistake is a token of which explain has to name what is wrong.
type mistake struct {
	name      string
	messenger string
	token     string
	code      string
	cause     string // a regular expression for one of the causes
	fix       string // and for its fix
}

// mistaken returns a configuration, and the mistakes that people make with it.
func mistaken(t *testing.T) (messengers string, secrets []string, mistakes []mistake) {
	raw := newSecret() // text of base64url, used as it is
	key := make([]byte, 32)
	copy(key, newSecret())
	decoded := base64.StdEncoding.EncodeToString(key) // text of base64, which the gateway decodes
	hexed := hex.EncodeToString(key)
	other := newSecret()
	search.secret(decoded)
	search.secret(hexed)
	secrets = []string{raw, string(key), decoded, hexed, other}
	shared := func(name, secret, more string) string {
		return "messenger " + name + " {\n identity_key identity\n shared_token {file." + write(t, name, []byte(secret)) + "} " + more + "\n}\n"
	}
	keys := newKeyServer(t, publicJWK(rsaKey(0), "2026"))
	messengers = shared("raw", raw, "") + shared("base64", decoded, "base64") + shared("hex", hexed, "hex") + shared("other", other, "") +
		shared("strict", raw, "\n issuer https://www.example.com\n audience chat\n require_claims exp department\n max_lifetime 2h") +
		"messenger rsa {\n identity_key identity\n public_key {file." + write(t, "rsa.pem", publicPEM(rsaKey(1))) + "}\n}\n" +
		"messenger jwks {\n identity_key identity\n audience chat\n jwks " + keys.url + "\n}\n"

	with := func(change claims) claims {
		c := valid("mark")
		for name, value := range change {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
		return c
	}
	strict := func(change claims) string {
		c := with(claims{"iss": "https://www.example.com", "aud": "chat", "department": "x"})
		for name, value := range change {
			c[name] = value
		}
		return sign(raw, c)
	}
	bytesOf := func(text string, decode func(string) ([]byte, error)) string {
		b, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	now := time.Now()
	token := sign(raw, valid("mark"))
	header, payload, signature := cut3(token)
	return messengers, secrets, []mistake{
		{"signed with another messenger's key", "raw", sign(other, valid("mark")), "signature_invalid", "key of another messenger: it is that of other", "Send it to that messenger"},
		{"signed with the RSA key of another messenger", "jwks", sign(rsaKey(1), valid("mark")), "signature_invalid", "key of another messenger: it is that of rsa", "Send it to that messenger"},
		{"signed for a messenger of another method", "rsa", token, "algorithm_not_allowed", "key of another messenger: it is that of raw", "Send it to that messenger"},
		{"another algorithm", "rsa", sign(newSecret(), valid("mark")), "algorithm_not_allowed", `alg "HS256"; this messenger's method uses RS256`, "library's algorithm"},
		{"a key that is not configured", "rsa", sign(rsaKey(2), valid("mark")), "signature_invalid", "signed with another key, or changed", "test or production"},
		{"the site decodes the secret, the gateway does not", "raw", sign(bytesOf(raw, base64.RawURLEncoding.DecodeString), valid("mark")), "signature_invalid",
			"The site decodes the secret before it signs.* the encoding is base64(url)?", "site's encoding"},
		{"the gateway decodes the secret as base64, the site does not", "base64", sign(decoded, valid("mark")), "signature_invalid",
			"The site signs with the text of the secret as it is; the gateway decodes it first: the encoding is base64", "encoding raw"},
		{"the gateway decodes the secret as hex, the site does not", "hex", sign(hexed, valid("mark")), "signature_invalid", "decodes it first: the encoding is hex", "encoding raw"},
		{"the site reads the secret with its line break", "raw", sign(raw+"\n", valid("mark")), "signature_invalid", "line break", "Trim"},
		{"exp in milliseconds", "raw", sign(raw, with(claims{"exp": now.Add(time.Hour).UnixMilli()})), "claim_invalid", "counts milliseconds: exp", "Divide by 1000"},
		{"iat in milliseconds", "raw", sign(raw, with(claims{"iat": now.UnixMilli()})), "claim_invalid", "counts milliseconds: iat", "Divide by 1000"},
		{"exp as a string", "raw", sign(raw, with(claims{"exp": fmt.Sprint(now.Add(time.Hour).Unix())})), "claim_invalid", "time is a string: exp", "without quotes"},
		{"no identity, but sub", "raw", sign(raw, claims{"sub": "mark", "name": "Mark"}), "identity_missing", `does not have "identity"; it has "sub"`, "configure identity_key"},
		{"no identity, but another plausible claim", "raw", sign(raw, claims{"user_id": "mark"}), "identity_missing", `it has "user_id"`, "configure identity_key"},
		{"the identity in another case", "raw", sign(raw, claims{"Identity": "mark"}), "identity_missing", `another spelling: it has "Identity"`, "same spelling"},
		{"the identity inside of another claim", "raw", sign(raw, claims{"user": map[string]string{"identity": "mark"}}), "identity_missing", `is inside "user"`, "top level"},
		{"no identity at all", "raw", sign(raw, claims{"colour": "red"}), "identity_missing", `it has \["colour"\]`, "primary key"},
		{"the issuer without its final slash", "strict", strict(claims{"iss": "https://www.example.com/"}), "issuer_not_allowed", "differ by the final slash", "same spelling"},
		{"the issuer with another scheme", "strict", strict(claims{"iss": "http://www.example.com"}), "issuer_not_allowed", "differ in the scheme", "same spelling"},
		{"another issuer", "strict", strict(claims{"iss": "https://login.example.com"}), "issuer_not_allowed", `iss is \["https://login.example.com"\]; the configured values of issuer are`, "add the token's value"},
		{"the audience in another case", "strict", strict(claims{"aud": []string{"Chat"}}), "audience_not_allowed", "differ in upper and lower case", "same spelling"},
		{"no audience", "jwks", signWithKID(rsaKey(0), "2026", valid("mark")), "audience_not_allowed", `does not have the claim.*: aud; the configured values are \["chat"\]`, "Add it"},
		{"a claim that is required", "strict", strict(claims{"department": nil}), "claim_missing", `"department"`, "Add"},
		{"no iat, with max_lifetime", "strict", sign(raw, with(claims{"iat": nil, "iss": "https://www.example.com", "aud": "chat", "department": "x"})), "claim_missing", `"iat"`, "Add them to the token"},
		{"a jti that is not text", "raw", sign(raw, with(claims{"jti": 1.5})), "claim_invalid", "jti is neither a string nor an integer", "as a JSON string"},
		{"a life that is too long", "strict", strict(claims{"iat": now.Unix(), "exp": now.Unix() + 5*60*60}), "token_lifetime_too_long", "is valid for 5 hours.*max_lifetime is 2 hours", "iat plus max_lifetime"},
		{"the site's clock is behind", "raw", sign(raw, with(claims{"exp": now.Add(-10 * time.Hour).Unix()})), "token_expired", `exp passed 10 hours ago`, "clock is behind"},
		{"the site's clock is ahead", "raw", sign(raw, with(claims{"iat": now.Add(10 * time.Hour).Unix(), "exp": now.Add(11 * time.Hour).Unix()})), "token_not_yet_valid", `iat is (10 hours|9 hours 59 minutes) ahead.*clock_skew is 1 minute`, "NTP"},
		{"a kid that is unknown", "jwks", signWithKID(rsaKey(0), "2025", valid("mark")), "key_unknown", `kid is not that of an active key: it is "2025"; the messenger's keys have \["2026"\]`, "publish it at the messenger's URL"},
		{"the last character is missing", "raw", tokenWithout(raw, 1, false), "token_malformed", "A character of the header, payload or signature is missing", "first to the last character"},
		{"the last character is missing, and what is left is base64", "raw", tokenWithout(raw, 1, true), "signature_invalid", "another length than this messenger's key makes: it has 31 bytes", "Copy the whole token"},
		{"the first character is missing", "raw", token[1:], "token_malformed", "A character of the header, payload or signature is missing", "first to the last character"},
		{"a character in the middle is missing", "raw", header + "." + payload[:10] + payload[11:] + "." + signature, "token_malformed", "A character of the header, payload or signature is missing", "first to the last character"},
		{"two characters of the signature are missing", "raw", tokenWithout(raw, 2, false), "token_malformed", "A character of the header, payload or signature is missing", "first to the last character"},
		{"three characters of the signature are missing", "raw", tokenWithout(raw, 3, true), "signature_invalid", "it has 30 bytes", "Copy the whole token"},
		{"the header alone", "raw", header, "token_malformed", "this is the header alone", "whole token"},
		{"the payload alone", "raw", payload, "token_malformed", "this is the payload", "whole token"},
		{"no signature", "raw", header + "." + payload, "token_malformed", "only header and payload", "whole token"},
		{"no signature behind the dot", "raw", header + "." + payload + ".", "token_malformed", "ends with its second dot", "whole token"},
		{"the header's line", "raw", "Bearer " + token, "token_malformed", "begins with a header's name or a scheme", "the token alone"},
		{"the header's line with a colon", "raw", "Bearer:" + token, "token_malformed", "begins with a header's name or a scheme", "the token alone"},
		{"a scheme alone", "raw", "Bearer", "token_malformed", "scheme is not followed by a token", "Leave the Authorization header out"},
		{"undefined behind the scheme", "raw", "Bearer undefined", "token_malformed", "sent the word undefined or null", "Leave the Authorization header out"},
		{"null", "raw", "null", "token_malformed", "sent the word undefined or null", "wait for the token"},
		{"a promise", "raw", "[object Promise]", "token_malformed", "an object that was converted to text", "Await the promise"},
		{"the claims", "raw", `{"identity":"mark"}`, "token_malformed", "This is JSON", "Sign the claims"},
		{"wrapped on two lines", "raw", header + "." + payload[:20] + "\n" + payload[20:] + "." + signature, "token_malformed", "it was wrapped", "as one line"},
		{"a public key", "raw", string(publicPEM(rsaKey(0))), "token_malformed", "This is a key", "Sign a token"},
		{"too long", "raw", strings.Repeat("x", 9000), "token_too_large", "", ""},
	}
}

// tokenWithout returns a token that lost its last characters. Whether what is left of the signature is base64url depends on
// its bits: it signs until that is as wanted.
func tokenWithout(secret string, characters int, decodes bool) string {
	for i := 0; ; i++ {
		token := sign(secret, claims{"identity": "mark", "number": i})
		token = token[:len(token)-characters]
		_, _, signature := cut3(token)
		if _, err := base64.RawURLEncoding.Strict().DecodeString(signature); (err == nil) == decodes {
			return token
		}
	}
}

func cut3(token string) (header, payload, signature string) {
	parts := strings.Split(token, ".")
	return parts[0], parts[1], parts[2]
}

// checkMistake compares what was said about a mistake, in words and as JSON, with what is wrong.
func checkMistake(t *testing.T, m mistake, e explained, secrets []string, texts ...string) {
	t.Helper()
	if e.Accepted || !regexp.MustCompile("^("+m.code+")$").MatchString(e.Code) || e.Status == 200 || e.Detail == "" || e.Reason == "" {
		t.Errorf("got %+v, want %s", e, m.code)
	}
	named := m.cause == ""
	for _, f := range e.Findings {
		named = named || regexp.MustCompile(m.cause).MatchString(f.Cause) && strings.Contains(f.Fix, m.fix)
	}
	if !named {
		t.Errorf("want a cause %q with the fix %q, got %+v", m.cause, m.fix, e.Findings)
	}
	failed := slices.IndexFunc(e.Checks, func(c check) bool { return c.Outcome == "failed" })
	for i, c := range e.Checks {
		if want := map[bool]string{true: "passed", false: "not reached"}[i < failed]; i != failed && c.Outcome != want {
			t.Errorf("the check %s: got %s, want %s", c.Name, c.Outcome, want)
		}
	}
	if failed < 0 || len(e.Checks) < 10 || len(e.Upstream) != 0 {
		t.Errorf("want all checks, of which one failed, and no headers: %+v", e)
	}
	for _, text := range texts {
		for _, secret := range append(secrets, m.token[max(0, strings.LastIndexByte(m.token, '.')+1):]) {
			if len(secret) >= 24 && strings.Contains(text, secret[len(secret)-24:]) {
				t.Errorf("a secret or a signature is shown: %s", text)
			}
		}
	}
}

// Every mistake that people make is named, with its fix.
func TestExplainNamesTheMistake(t *testing.T) {
	messengers, secrets, mistakes := mistaken(t)
	g := start(t, nil, messengers, "messenger_auth raw\nrespond ok")
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			_, body := g.admin("POST", "messengers/"+m.messenger+"/explain", mustJSON(map[string]string{"token": m.token}))
			checkMistake(t, m, parseExplained(t, body), secrets, body)
		})
	}
}

// The command says the same as the gateway, with and without one, in words and as JSON.
func TestExplainCommandNamesTheMistake(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	messengers, secrets, mistakes := mistaken(t)
	g := start(t, nil, messengers, "messenger_auth raw\nrespond ok")
	config := s.file("Caddyfile", g.caddyfile(messengers, "messenger_auth raw\nrespond ok"))
	for i, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			where := []string{"--address", "unix/" + g.sock}
			if i%2 == 0 {
				where = []string{"--config", config}
			}
			// As JSON it is the gateway's answer, whatever that is: a few show it.
			asJSON := ran{status: 2}
			if i%10 < 2 {
				asJSON = s.messenger(m.token, append([]string{"explain", m.messenger, "--json"}, where...)...)
			} else {
				_, asJSON.out = g.admin("POST", "messengers/"+m.messenger+"/explain", mustJSON(map[string]string{"token": m.token}))
			}
			text := s.messenger(m.token+"\n", append([]string{"explain", m.messenger}, where...)...)
			if asJSON.status != 2 || text.status != 2 || asJSON.err+text.err != "" {
				t.Fatalf("status %d and %d: %s%s", asJSON.status, text.status, asJSON.err, text.err)
			}
			e := parseExplained(t, asJSON.out)
			checkMistake(t, m, e, secrets, asJSON.out, text.out)
			want := []string{fmt.Sprintf("messenger %s (", m.messenger), "FAIL", fmt.Sprintf("refused: %d %s\n  %s\n", e.Status, e.Code, e.Detail)}
			for _, f := range e.Findings {
				// Times go on between the two.
				if !strings.Contains(f.Cause, " here)") {
					want = append(want, "  cause: "+f.Cause+"\n  fix:   "+f.Fix+"\n")
				}
			}
			for _, want := range want {
				if !strings.Contains(text.out, want) {
					t.Errorf("the text lacks %q:\n%s", want, text.out)
				}
			}
			for _, out := range []string{asJSON.out, text.out} {
				search.add("output of explain", []byte(out))
			}
		})
	}
}
