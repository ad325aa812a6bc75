package integration

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// costlyKey returns the public key of a site owner who wants every verification to be expensive. No token is signed with it.
func costlyKey(bits, exponent int) *rsa.PublicKey {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
	if err != nil {
		panic(err)
	}
	return &rsa.PublicKey{N: n.SetBit(n.SetBit(n, bits-1, 1), 0, 1), E: exponent}
}

func pemOf(key *rsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// entries are n texts of this length that differ.
func entries(n, length int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%0*d", length, i)
	}
	return list
}

// Anybody can send a JOSE header, and it is read before any signature is checked. One of thousands of small objects, with
// names that are escaped, cost more than ten usual forged tokens. It has a bound of its own.
func TestHeaderOfATokenIsBounded(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		header := func(length int) string { // of which the encoded form has this length
			plain := `{"alg":"ALG","x":""}`
			return strings.Replace(plain, `""`, `"`+strings.Repeat("x", length/4*3-len(plain)+len("ALG")-len("HS256"))+`"`, 1)
		}
		s.passes(t, "mark", s.genuine(header(4096), payload("mark")))
		s.refuses(t, "4100 characters", s.genuine(header(4100), payload("mark")), "token_too_large")
		s.refuses(t, "6000 characters", s.genuine(header(6000), payload("mark")), "token_too_large")
		s.refuses(t, "many small objects", s.genuine(`{"alg":"ALG","x":[`+strings.Repeat(`{"\u0061":0},`, 350)+`{}]}`, payload("mark")), "token_too_large")
		s.passes(t, "mark", s.genuine(`{"alg":"ALG","x":[`+strings.Repeat(`{"\u0061":0},`, 200)+`{}]}`, payload("mark")))
		s.refuses(t, "many small objects and a duplicate", s.genuine(`{"alg":"ALG","x":[`+strings.Repeat(`{"\u0061":0},`, 200)+`{"a":0,"\u0061":0}]}`, payload("mark")), "token_malformed")
	})
}

// The owner of a stored messenger does not pay for the gateway. Settings that make verification expensive for all are refused when
// they are stored, by the API, the command and the panel. The error names the option and the fix.
func TestStoredMessengersMayNotMakeTokensExpensive(t *testing.T) {
	g := startPanel(t, nil, "")
	o, u := g.operator(), g.panelOperator()
	key := func(bits, exponent int) map[string]any {
		return map[string]any{"identity_key": "identity", "public_key": []map[string]string{{"key": pemOf(costlyKey(bits, exponent))}}}
	}
	with := func(option string, value any) map[string]any {
		return map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, option: value}
	}
	origins := func(n, length int) (list []string) {
		for _, entry := range entries(n, length-len("https://")) {
			list = append(list, "https://"+entry)
		}
		return list
	}
	for _, tt := range []struct {
		name     string
		settings map[string]any
		says     []string // nothing: it is stored
	}{
		{"a usual key", key(2048, 65537), nil},
		{"the longest key", key(4096, 65537), nil},
		{"a small exponent", key(2048, 3), nil},
		{"a key that is too long", key(4097, 65537), []string{"public_key", "4097 bits", "2048 to 4096"}},
		{"the longest key of the configuration", key(8192, 65537), []string{"public_key", "8192 bits"}},
		{"a large exponent", key(2048, 65539), []string{"public_key", "65539", "65537"}},
		{"the largest exponent", key(4096, 1<<31-1), []string{"public_key", "2147483647"}},
		{"as many issuers as there may be", with("issuer", entries(32, 255)), nil},
		{"an issuer too many", with("issuer", entries(33, 8)), []string{"issuer", "33 entries", "32"}},
		{"a long issuer", with("issuer", entries(1, 256)), []string{"issuer", "256 bytes", "255"}},
		{"as many audiences as there may be", with("audience", entries(32, 255)), nil},
		{"an audience too many", with("audience", entries(33, 8)), []string{"audience", "33 entries"}},
		{"a long audience", with("audience", entries(2, 256)), []string{"audience", "256 bytes"}},
		{"as many claims as there may be", with("require_claims", entries(32, 255)), nil},
		{"thousands of claims", with("require_claims", entries(7000, 4)), []string{"require_claims", "7000 entries"}},
		{"a long claim", with("require_claims", entries(1, 256)), []string{"require_claims", "256 bytes"}},
		{"as many origins as there may be", with("allowed_origin", origins(32, 255)), nil},
		{"an origin too many", with("allowed_origin", origins(33, 40)), []string{"allowed_origin", "33 entries"}},
		{"a long origin", with("allowed_origin", origins(1, 256)), []string{"allowed_origin", "256 bytes"}},
		{"a long identity key", with("identity_key", strings.Repeat("x", 256)), []string{"identity_key", "256 bytes"}},
		{"a long URL", map[string]any{"identity_key": "identity", "jwks": map[string]string{"url": "https://www.example.com/" + strings.Repeat("x", 2048)}}, []string{"jwks", "2048"}},
	} {
		if tt.says == nil {
			o.put("acme", tt.settings)
			continue
		}
		said := o.refused(400, "PUT", "messengers/acme", tt.settings, "If-Match: *")
		for _, want := range append(tt.says, "stored messenger") {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q does not say %q", tt.name, said, want)
			}
		}
	}
	u.post("?page=new", fields("name", "n", "method", "public_key", "key", pemOf(costlyKey(8192, 65537)))).says(t, 422, "Public key is an RSA key of 8192 bits")
	u.post("?page=new", fields("name", "n", "audience", strings.Join(entries(33, 8), "\n"))).says(t, 422, "Audience has 33 entries; a stored messenger takes at most 32")
	// The operator, who pays, may.
	g.load("messenger support {\n identity_key identity\n public_key {file."+write(t, "key.pem", []byte(pemOf(costlyKey(8192, 1<<31-1))))+"}\n audience "+strings.Join(entries(40, 300), " ")+"\n}", "respond ok")
}

// What was stored before there were these bounds goes on serving: a site is not locked out. Its owner is told, and the next
// save has to keep them.
func TestExistingMessengerBeyondTheBoundsIsServed(t *testing.T) {
	up := newUpstream(t)
	g := start(t, up, "messenger {\n}", "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	settings := map[string]any{"identity_key": "identity", "audience": []string{"chat"}, "public_key": []map[string]string{{"key": string(publicPEM(rsaKey(0)))}}}
	g.operator().put("acme", settings)
	file, record := factFile(t, filepath.Join(filepath.Dir(g.log), "storage"), "acme", `"public_key":[`)
	costly := strings.Replace(record, `"public_key":[`, `"public_key":[{"key":`+mustJSON(pemOf(costlyKey(8192, 1<<31-1)))+`},`, 1)
	costly = strings.Replace(costly, `"audience":[`, `"audience":[`+strings.Trim(mustJSON(entries(7000, 5)), "[]")+`,`, 1)
	if costly == record {
		t.Fatalf("the settings have another form: %s", record)
	}
	if err := os.WriteFile(file, []byte(costly), 0o600); err != nil {
		t.Fatal(err)
	}
	g.load("storage file_system DIR/./storage\n"+"messenger {\n}", "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	if a := g.get("/acme/", bearer(sign(rsaKey(0), with(valid("mark"), claims{"aud": "chat"})))); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	var shown described
	decode(t, g.operator().want(200, "GET", "messengers/acme", nil).body, &shown)
	if warned := strings.Join(shown.Warnings, "\n"); !strings.Contains(warned, "audience has 7001 entries") {
		t.Errorf("no warning: %q", warned)
	}
	g.waitForLog("audience has 7001 entries")
	if said := g.operator().refused(400, "PUT", "messengers/acme", shown.Settings, "If-Match: *"); !strings.Contains(said, "audience has 7001 entries") {
		t.Errorf("saving it again: %s", said)
	}
}

// The same for a key set that a site owner publishes: a key that costs too much is left out, and the status says why.
func TestExpensiveKeysOfStoredMessengersAreSkipped(t *testing.T) {
	up := newUpstream(t)
	of := func(key *rsa.PublicKey, kid string) jwk { return publicJWK(&rsa.PrivateKey{PublicKey: *key}, kid) }
	keys := newKeyServer(t, publicJWK(rsaKey(0), "usual"), of(costlyKey(8192, 65537), "long"), of(costlyKey(2048, 1<<31-1), "exponent"), of(costlyKey(4096, 65537), "longest"))
	g := start(t, up, "messenger {\n jwks_internal_hosts 127.0.0.1\n}\nmessenger own {\n identity_key identity\n jwks "+keys.url+"\n}", "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	g.operator().put("acme", map[string]any{"identity_key": "identity", "jwks": map[string]string{"url": keys.url}})
	if a := g.get("/acme/", bearer(signWithKID(rsaKey(0), "usual", valid("mark")))); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	for kid, code := range map[string]string{"long": "key_unknown", "exponent": "key_unknown", "longest": "signature_invalid"} {
		if a := g.get("/acme/", bearer(signWithKID(rsaKey(0), kid, valid("mark")))); a.code(t) != code {
			t.Errorf("%s: got %s, want %s", kid, a.code(t), code)
		}
	}
	stored, configured := g.operator().want(200, "GET", "messengers/acme/keys", nil).body, g.operator().want(200, "GET", "messengers/own/keys", nil).body
	for _, want := range []string{"8192 bits; a stored messenger takes 2048 to 4096", "exponent 2147483647; a stored messenger takes at most 65537"} {
		if !strings.Contains(stored, want) {
			t.Errorf("the status does not say %q: %s", want, stored)
		}
		if strings.Contains(configured, want) {
			t.Errorf("the operator's own messenger: %s", configured)
		}
	}
}
