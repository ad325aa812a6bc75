package integration

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// A siege is a gateway of one method, with what an attacker knows: a valid token of their own.
type siege struct {
	method
	alg   string // that of the method
	other string // that of the other method
	valid string
	up    *upstream
	g     *gateway
}

// besiege runs attack against a gateway of each method. The valid token passes, so that an attack that is refused is
// refused for what it changes.
func besiege(t *testing.T, attack func(t *testing.T, s *siege)) {
	for _, m := range methods(t) {
		t.Run(m.name, func(t *testing.T) {
			s := &siege{method: m, alg: "HS256", other: "RS256", up: newUpstream(t)}
			if m.name == "public_key" {
				s.alg, s.other = "RS256", "HS256"
			}
			s.g = start(t, s.up, m.messengers, "messenger_auth support {\n token_from query token\n token_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM")
			s.valid = sign(m.key, valid("mark"))
			s.passes(t, "mark", s.valid)
			attack(t, s)
		})
	}
}

// refuses sends token in the query, where any byte can stand, and in the header if it can stand there as well.
func (s *siege) refuses(t *testing.T, name, token, code string) {
	t.Helper()
	search.secret(token)
	t.Run(name, func(t *testing.T) {
		t.Helper()
		answers := []answer{s.g.get("/?token=" + url.QueryEscape(token))}
		if !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) && token != "" {
			answers = append(answers, s.g.get("/", bearer(token)))
		}
		for _, a := range answers {
			if a.status != 401 || a.code(t) != code {
				t.Errorf("got %d %s, want 401 %s", a.status, a.body, code)
			}
		}
		s.up.none(t)
	})
}

// passes checks that token is taken, and that the identity arrives in the form that want has.
func (s *siege) passes(t *testing.T, want, token string) {
	t.Helper()
	a := s.g.get("/", bearer(token))
	if a.status != 200 {
		t.Errorf("%s: got %d %s, want 200", want, a.status, a.body)
		return
	}
	if got := s.up.one(t).header.Get("X-Contact-Identity"); got != want {
		t.Errorf("the identity arrives as %q, want %q", got, want)
	}
}

// genuine signs any header and payload with the messenger's own key, as only a careless site, or an attacker who can
// make it sign things, does. ALG in the header is the method's algorithm.
func (s *siege) genuine(header, payload string) string { return s.signedBy(s.key, header, payload) }

func (s *siege) signedBy(key any, header, payload string) string {
	header = strings.ReplaceAll(header, "ALG", s.alg)
	if secret, ok := key.(string); ok {
		return forge(secret, header, payload)
	}
	text := b64(header) + "." + b64(payload)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, digest[:])
	if err != nil {
		panic(err)
	}
	text += "." + base64.RawURLEncoding.EncodeToString(signature)
	search.secret(text)
	return text
}

// stranger is a key of the same kind that the messenger does not have.
func (s *siege) stranger() any {
	if s.name == "public_key" {
		return rsaKey(1)
	}
	return newSecret()
}

const plainHeader = `{"alg":"ALG","typ":"JWT"}`

// payload returns valid claims as text.
func payload(identity any) string {
	text, err := json.Marshal(valid(identity))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Everyone knows the public key. A gateway that lets the token choose the algorithm takes that key, in one form or another, for the
// secret of an HMAC, and an attacker can sign (McLean 2015; CVE-2015-9235, CVE-2016-10555; RFC 8725 section
// 2.1).
func TestPublicKeyIsNotASecret(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		if s.name != "public_key" {
			return
		}
		public := &s.key.(*rsa.PrivateKey).PublicKey
		text := string(publicPEM(s.key.(*rsa.PrivateKey)))
		block, _ := pem.Decode([]byte(text))
		for name, secret := range map[string]string{
			"the PEM text":                        text,
			"the PEM text without its line break": strings.TrimSpace(text),
			"the PEM text with CRLF":              strings.ReplaceAll(text, "\n", "\r\n"),
			"the DER of PKIX":                     string(block.Bytes),
			"the DER of PKCS#1":                   string(x509.MarshalPKCS1PublicKey(public)),
			"the modulus":                         string(public.N.Bytes()),
			"the modulus in base64url":            base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			"nothing":                             "",
		} {
			s.refuses(t, "HS256 with "+name, forge(secret, `{"alg":"HS256"}`, payload("eve")), "algorithm_not_allowed")
			s.refuses(t, "an HMAC called RS256 with "+name, forge(secret, `{"alg":"RS256"}`, payload("eve")), "signature_invalid")
		}
	})
}

// "none" asks for no signature at all, and filters for that very word have been passed by others like it (CVE-2020-28042,
// CVE-2022-23540; RFC 8725 section 2.1). A genuine signature does not help: the header says that it is not one.
func TestUnsignedTokens(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		_, signature, _ := strings.Cut(strings.TrimPrefix(s.valid, strings.SplitN(s.valid, ".", 2)[0]+"."), ".")
		for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
			header := fmt.Sprintf(`{"alg":%q}`, none)
			unsigned := b64(header) + "." + b64(payload("eve"))
			s.refuses(t, none+" without a signature", unsigned+".", "token_malformed")
			s.refuses(t, none+" without a third segment", unsigned, "token_malformed")
			s.refuses(t, none+" with a signature from elsewhere", unsigned+"."+signature, "algorithm_not_allowed")
			s.refuses(t, none+" with a genuine signature", s.genuine(header, payload("mark")), "algorithm_not_allowed")
		}
	})
}

// One key, several algorithms: a site that signs other things with it, or a weaker sibling (HS256 cut out of HS512,
// PS256 for RS256), must not help (RFC 8725 sections 3.1 and 3.2). Values of alg that are only nearly right must not
// either: some library reads them as the right one.
func TestOtherAlgorithmsWithTheRightKey(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		others := []jwt.SigningMethod{jwt.SigningMethodRS384, jwt.SigningMethodRS512, jwt.SigningMethodPS256, jwt.SigningMethodPS512}
		key := s.key
		if secret, ok := key.(string); ok {
			others, key = []jwt.SigningMethod{jwt.SigningMethodHS384, jwt.SigningMethodHS512}, []byte(secret)
		}
		for _, other := range others {
			text, err := jwt.NewWithClaims(other, valid("mark")).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			s.refuses(t, "signed with "+other.Alg(), text, "algorithm_not_allowed")
		}
		lower := strings.ToLower(s.alg)
		for _, alg := range []string{
			``, `,"alg":null`, `,"alg":["ALG"]`, `,"alg":{"ALG":1}`, `,"alg":256`, `,"alg":true`, `,"alg":""`, `,"alg":" ALG"`, `,"alg":"ALG "`,
			`,"alg":"` + lower + `"`, `,"alg":"ALG\u0000"`, `,"Alg":"ALG"`, `,"ALG":"ALG"`, `,"alg":"` + s.other + `"`, `,"alg":"ES256"`, `,"alg":"EdDSA"`,
		} {
			s.refuses(t, "a genuine signature under "+strings.ReplaceAll(alg, `"`, "'"), s.genuine(`{"typ":"JWT"`+alg+`}`, payload("mark")), "algorithm_not_allowed")
		}
	})
}

// A verifier that does arithmetic on a signature before it looks at it can be given one for which the sum works out for
// any text, such as zero ("psychic signatures", CVE-2022-21449), or one that is cut or lengthened.
func TestDegenerateSignatures(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		last := strings.LastIndexByte(s.valid, '.')
		signature, err := base64.RawURLEncoding.DecodeString(s.valid[last+1:])
		if err != nil {
			t.Fatal(err)
		}
		size := len(signature)
		for name, bytes := range map[string][]byte{
			"one byte":           {0},
			"zero":               make([]byte, size),
			"one":                append(make([]byte, size-1), 1),
			"all ones":           []byte(strings.Repeat("\xff", size)),
			"without its end":    signature[:size-1],
			"half":               signature[:size/2],
			"with a zero behind": append(signature[:size:size], 0),
			"with a zero before": append([]byte{0}, signature...),
			"twice":              append(signature[:size:size], signature...),
		} {
			s.refuses(t, name, s.valid[:last+1]+base64.RawURLEncoding.EncodeToString(bytes), "signature_invalid")
		}
	})
}

// A header can carry a key, or say where one lies: jwk (CVE-2018-0114), jku, x5u and x5c.
// Who believes it takes any key for the messenger's, and fetches any address that a stranger names (RFC 8725 section
// 3.10).
func TestKeysInTokenHeadersAreNotUsed(t *testing.T) {
	var fetches atomic.Int64
	key := publicJWK(rsaKey(1), "evil")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{key}})
	}))
	defer server.Close()
	embedded, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey(1).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	besiege(t, func(t *testing.T, s *siege) {
		for _, member := range []string{
			`"jwk":` + string(embedded),
			`"jwk":{"kty":"oct","k":"` + b64(strings.Repeat("k", 32)) + `"}`,
			`"jku":"` + server.URL + `/keys"`,
			`"jku":"` + server.URL + `/keys","kid":"evil"`,
			`"x5u":"` + server.URL + `/certificate"`,
			`"x5c":["` + base64.StdEncoding.EncodeToString(der) + `"]`,
			`"x5t":"AAAA","x5t#S256":"AAAA"`,
			`"iss":"https://evil.example.com"`,
		} {
			header := `{"alg":"ALG",` + member + `}`
			s.refuses(t, "a stranger's "+member[1:4], s.signedBy(s.stranger(), header, payload("eve")), "signature_invalid")
			s.passes(t, "mark", s.genuine(header, payload("mark"))) // and they do no harm either
		}
	})
	if n := fetches.Load(); n != 0 {
		t.Errorf("%d requests were made to the address in a token", n)
	}
}

// kid is text of the attacker's choice. Where it becomes a file name, "/dev/null" is a key that every attacker knows; where it
// becomes SQL, the attacker's own query gives the key (RFC 8725 section 3.10). Here it is only ever compared.
func TestKidIsOnlyCompared(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		for _, kid := range []string{
			`../../../../../../dev/null`, `/dev/null`, `file:///dev/null`, `/proc/sys/kernel/randomize_va_space`, `key.pem`, `{file./etc/hostname}`, `{env.PATH}`,
			`' UNION SELECT 'AAAA`, `1; DROP TABLE keys`, `| id`, `$(id)`, `http://127.0.0.1:1/key`, `support\u0000.pem`, `\u0000`, ``, `*`, strings.Repeat("k", 2900),
		} {
			header := `{"alg":"` + s.alg + `","kid":"` + kid + `"}`
			name := kid[:min(len(kid), 24)]
			s.refuses(t, "a stranger's "+name, s.signedBy(s.stranger(), header, payload("eve")), "signature_invalid")
			s.refuses(t, "the empty key, "+name, forge("", header, payload("eve")), "signature_invalid")
			s.refuses(t, "HS256 with the empty key, "+name, forge("", `{"alg":"HS256","kid":"`+kid+`"}`, payload("eve")),
				map[string]string{"HS256": "signature_invalid", "RS256": "algorithm_not_allowed"}[s.alg])
		}
		for _, kid := range []string{`null`, `1`, `true`, `["a"]`, `{"a":1}`, `{"$ne":""}`} {
			s.refuses(t, "kid "+kid, s.genuine(`{"alg":"ALG","kid":`+kid+`}`, payload("mark")), "token_malformed")
		}
	})
}
