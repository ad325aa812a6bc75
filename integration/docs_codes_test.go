package integration

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A refusal is a request that the gateway must refuse, and how.
type refusal struct {
	name    string
	code    string
	status  int
	request string // the first line and headers beside Host, with \r\n behind each
	only    string // the method that can refuse so; "" is every one
}

// errorOf is what RFC 6750 section 3.1 calls a refusal with this status; the standard has no word for the others.
var errorOf = map[int]string{http.StatusUnauthorized: "invalid_token", http.StatusBadRequest: "invalid_request"}

// codesElsewhere are the documented codes that no plain request can produce, and the tests that produce them.
var codesElsewhere = map[string]func(*testing.T){
	"token_revoked":     TestRevokedTokensAreRefusedUntilTheRevocationIsUndone,
	"store_unavailable": TestUnpersistedLogoutIsReported,
	"ticket_invalid":    TestTickets, "ticket_expired": TestTickets, "ticket_used": TestTickets, "ticket_request_invalid": TestTickets,
	"too_many_connections": TestContactLimitOfConnections,
	"too_many_requests":    TestContactLimitOfRequests,
	"too_many_failures":    TestFailLimitGoesByTheAddressThatTrustedProxiesName,
}

// with returns c with some members set; nil removes one.
func with(c claims, change claims) claims {
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// strictClaims are claims that the messenger "strict" accepts.
func strictClaims(change claims) claims {
	return with(with(valid("mark"), claims{"iss": "https://login.example.com/", "aud": "chat", "tenant": 7}), change)
}

// refusals are requests for every code. The messenger "support" has a key with the kid "k1" where its method knows kids.
func refusals(m method, addr string) []refusal {
	get := func(path, token string) string { return "GET " + path + " HTTP/1.1\r\n" + bearer(token) + "\r\n" }
	support := func(c claims) string { return get("/support/", sign(m.key, c)) }
	strict := func(change claims) string { return get("/strict/", sign(m.key, strictClaims(change))) }
	stranger, foreign := any(newSecret()), "RS256"
	if m.name == "public_key" {
		stranger, foreign = rsaKey(1), "HS256"
	}
	token := sign(m.key, valid("mark"))
	_, unsigned, _ := strings.Cut(token, ".")
	now := time.Now().Unix()
	return []refusal{
		{"no token", "token_missing", 401, "GET /support/ HTTP/1.1\r\n", ""},
		{"another scheme", "token_missing", 401, "GET /support/ HTTP/1.1\r\nAuthorization: Basic bWFyazptYXJr\r\n", ""},
		{"no token, with a body", "token_missing", 401, "POST /support/ HTTP/1.1\r\nContent-Length: 0\r\n", ""},
		{"two Authorization headers", "token_ambiguous", 400, get("/support/", token) + bearer(token) + "\r\n", ""},
		{"another token in the cookie", "token_ambiguous", 400, get("/support/", token) + "Cookie: chat=" + sign(m.key, valid("eve")) + "\r\n", ""},
		{"no JWT", "token_malformed", 401, get("/support/", "letmein"), ""},
		{"an opaque token of the right shape", "token_malformed", 401, get("/support/", "a.b.c"), ""},
		{"more than 8 KiB", "token_too_large", 401, get("/support/", token+strings.Repeat("A", 8<<10)), ""},
		{"the algorithm of another method", "algorithm_not_allowed", 401, get("/support/", b64(`{"alg":"`+foreign+`"}`)+"."+unsigned), ""},
		{"no algorithm", "algorithm_not_allowed", 401, get("/support/", b64(`{"typ":"JWT"}`)+"."+unsigned), ""},
		{"the kid of no key", "key_unknown", 401, get("/support/", signWithKID(m.key, "k2", valid("mark"))), "public_key"},
		{"the key of a stranger", "signature_invalid", 401, get("/support/", sign(stranger, valid("mark"))), ""},
		{"exp in the past", "token_expired", 401, support(with(valid("mark"), claims{"exp": now - 3600})), ""},
		{"nbf in the future", "token_not_yet_valid", 401, support(with(valid("mark"), claims{"nbf": now + 3600})), ""},
		{"iat in the future", "token_not_yet_valid", 401, support(with(valid("mark"), claims{"iat": now + 3600, "exp": now + 7200})), ""},
		{"a long life", "token_lifetime_too_long", 401, strict(claims{"exp": now + 10*3600}), ""},
		{"no required claim", "claim_missing", 401, strict(claims{"tenant": nil}), ""},
		{"no exp, with max_lifetime", "claim_missing", 401, strict(claims{"exp": nil}), ""},
		{"no iat, with max_lifetime", "claim_missing", 401, strict(claims{"iat": nil}), ""},
		{"a jti that is neither a string nor an integer", "claim_invalid", 401, support(with(valid("mark"), claims{"jti": true})), ""},
		{"a header of more than 4 KiB", "token_too_large", 401, get("/support/", b64(`{"alg":"`+foreign+`","x":"`+strings.Repeat("x", 3100)+`"}`)+"."+unsigned), ""},
		{"exp as text", "claim_invalid", 401, support(with(valid("mark"), claims{"exp": "tomorrow"})), ""},
		{"another issuer", "issuer_not_allowed", 401, strict(claims{"iss": "https://login.example.com"}), ""},
		{"no issuer", "issuer_not_allowed", 401, strict(claims{"iss": nil}), ""},
		{"another audience", "audience_not_allowed", 401, strict(claims{"aud": []string{"shop"}}), ""},
		{"no audience", "audience_not_allowed", 401, strict(claims{"aud": nil}), ""},
		{"no identity", "identity_missing", 401, support(with(valid("mark"), claims{"identity": nil})), ""},
		{"an empty identity", "identity_invalid", 401, support(valid("")), ""},
		{"a fraction for an identity", "identity_invalid", 401, support(valid(1.5)), ""},
		{"a cookie from a foreign page", "origin_not_allowed", 403, "POST /strict/ HTTP/1.1\r\nContent-Length: 0\r\nOrigin: https://evil.example.com\r\nCookie: chat=" + sign(m.key, strictClaims(nil)) + "\r\n", ""},
		{"a CONNECT", "protocol_not_allowed", 400, "CONNECT " + addr + " HTTP/1.1\r\n" + bearer(token) + "\r\n", ""},
		{"a messenger that nobody configured", "messenger_unknown", 404, get("/nobody/", token), ""},
		{"a key server that does not answer", "keys_unavailable", 503, get("/keyless/", signWithKID(rsaKey(0), "k1", valid("mark"))), ""},
	}
}

// Every code comes out of a running gateway: with its status, a challenge as RFC 6750 section 3 wants it, nothing that a
// cache may keep, and without a request to the upstream.
func TestEveryDocumentedCode(t *testing.T) {
	produced := make(map[string]bool)
	for _, m := range methods(t) {
		key := regexp.MustCompile(`(?:public_key|shared_token) \S+`).FindString(m.messengers)
		named := key
		if m.name == "public_key" {
			named += " kid k1"
		}
		up := newUpstream(t)
		g := start(t, up, `
			messenger support {
				identity_key identity
				`+named+`
			}
			messenger strict {
				identity_key identity
				`+key+`
				issuer https://login.example.com/ https://login.example.org
				audience chat support
				require_claims tenant
				max_lifetime 2h
				allowed_origin https://www.example.com
			}
			messenger keyless {
				identity_key identity
				jwks http://`+freeAddr(t)+`/jwks.json
			}
		`, "messenger_auth {path.0} {\n token_from header Authorization Bearer\n token_from cookie chat\n}\nreverse_proxy UPSTREAM")
		for path, c := range map[string]claims{"/support/": valid("mark"), "/strict/": strictClaims(nil)} {
			if a := g.get(path, bearer(sign(m.key, c))); a.status != 200 {
				t.Errorf("%s, a valid token for %s: got %d %s", m.name, path, a.status, a.body)
			}
			if got := up.one(t).header.Get("X-Contact-Messenger"); "/"+got+"/" != path {
				t.Errorf("%s: the messenger of %s is %q", m.name, path, got)
			}
		}
		for _, test := range refusals(m, g.addr) {
			if test.only != "" && test.only != m.name {
				continue
			}
			produced[test.code] = true
			t.Run(m.name+", "+test.code+": "+test.name, func(t *testing.T) {
				first, rest, _ := strings.Cut(test.request, "\r\n")
				a := g.raw(first + "\r\nHost: " + g.addr + "\r\nConnection: close\r\n" + rest + "\r\n")
				checkRefusal(t, a, test)
				up.none(t)
			})
		}
	}
	checkCoverage(t, produced)
}

func checkRefusal(t *testing.T, a answer, test refusal) {
	t.Helper()
	if a.status != test.status || a.code(t) != test.code {
		t.Fatalf("got %d %s, want %d %s", a.status, a.body, test.status, test.code)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Type": "application/problem+json"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := a.header.Get("Retry-After"); (got != "") != (test.status == 503) {
		t.Errorf("Retry-After: got %q", got)
	}
	challenge := a.header.Values("Www-Authenticate")
	word := errorOf[test.status]
	switch {
	case word == "" || test.code == "protocol_not_allowed": // refused before anyone asks for credentials
		if len(challenge) != 0 {
			t.Errorf("WWW-Authenticate: got %q, want none", challenge)
		}
		return
	case len(challenge) != 1:
		t.Fatalf("WWW-Authenticate: got %q, want one", challenge)
	}
	parts := regexp.MustCompile(`^Bearer realm="(support|strict)"(?:, error="(\w+)", error_description="([^"\\]+)")?$`).FindStringSubmatch(challenge[0])
	if parts == nil {
		t.Fatalf("WWW-Authenticate: %s", challenge[0])
	}
	// Section 3.1: a request without any credentials is told no error code.
	if test.code == "token_missing" {
		word = ""
	}
	if parts[2] != word {
		t.Errorf("WWW-Authenticate: %s, want the error %q", challenge[0], word)
	}
}

// checkCoverage compares what was produced with the documented codes.
func checkCoverage(t *testing.T, produced map[string]bool) {
	t.Helper()
	var documented []string
	for _, found := range regexp.MustCompile(`<a id="(\w+)"></a>`).FindAllStringSubmatch(docsPage(t, "errors"), -1) {
		documented = append(documented, found[1])
	}
	for _, code := range documented {
		if !produced[code] && codesElsewhere[code] == nil {
			t.Errorf("the page of errors has %s, and no test produces it; add a request to refusals, or its test to codesElsewhere", code)
		}
	}
	for code := range produced {
		if !slices.Contains(documented, code) {
			t.Errorf("the page of errors does not have %s", code)
		}
	}
}
