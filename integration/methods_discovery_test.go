package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A loginService publishes metadata and a key set, or whatever its functions do instead.
type loginService struct {
	base string
	sets atomic.Int64 // how often the key set was fetched

	mu       sync.Mutex
	metadata string
	serve    map[string]http.HandlerFunc // by path, in place of what it does otherwise
}

func newLoginService(t testing.TB, keys ...jwk) *loginService {
	t.Helper()
	s := &loginService{serve: make(map[string]http.HandlerFunc)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		metadata, serve := s.metadata, s.serve[r.URL.Path]
		s.mu.Unlock()
		switch {
		case serve != nil:
			serve(w, r)
		case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
			fmt.Fprint(w, metadata)
		default:
			s.sets.Add(1)
			fmt.Fprint(w, mustJSON(map[string]any{"keys": keys}))
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.base = server.URL
	s.says(s.base, s.base+"/keys")
	return s
}

func (s *loginService) says(issuer, uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata = mustJSON(map[string]any{"issuer": issuer, "jwks_uri": uri, "id_token_signing_alg_values_supported": []string{"none", "HS256"}})
}

func (s *loginService) answers(path string, f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve[path] = f
}

func discovering(name, issuer string) string {
	return "messenger " + name + " {\n identity_key identity\n jwks {\n  discovery " + issuer + "\n  timeout 300ms\n }\n}\n"
}

func issuedBy(issuer string) claims {
	c := valid("mark")
	if issuer != "" {
		c["iss"] = issuer
	}
	return c
}

// Metadata decide which keys are trusted. Those of another issuer, or which lead elsewhere, bring none, and what was there before stays.
func TestHostileMetadataAddNoKeys(t *testing.T) {
	if !alone(t) {
		return
	}
	s, evil := newLoginService(t, publicJWK(rsaKey(0), "a")), newLoginService(t, publicJWK(rsaKey(1), "evil"))
	const metadata = "/.well-known/openid-configuration"
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	text := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	says := func(issuer, uri string) http.HandlerFunc {
		return text(mustJSON(map[string]any{"issuer": issuer, "jwks_uri": uri}))
	}
	hostile := map[string]func(issuer string) http.HandlerFunc{
		"another": func(string) http.HandlerFunc { return says(evil.base, evil.base+"/keys") },
		"slash":   func(issuer string) http.HandlerFunc { return says(issuer+"/", evil.base+"/keys") },
		"two": func(issuer string) http.HandlerFunc {
			return text(`{"issuer":"` + evil.base + `","issuer":"` + issuer + `","jwks_uri":"` + evil.base + `/keys"}`)
		},
		"plain":    func(issuer string) http.HandlerFunc { return says(issuer, "http://keys.example.com/") },
		"file":     func(issuer string) http.HandlerFunc { return says(issuer, "file:///etc/passwd") },
		"itself":   func(issuer string) http.HandlerFunc { return says(issuer, issuer+metadata) },
		"redirect": func(string) http.HandlerFunc { return redirect(evil.base + metadata) },
		"away":     func(issuer string) http.HandlerFunc { return says(issuer, issuer+"/away") },
		"set": func(string) http.HandlerFunc {
			return text(mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(1), "evil")}}))
		},
		"page":    func(string) http.HandlerFunc { return text("<!DOCTYPE html>") },
		"endless": func(string) http.HandlerFunc { return endless },
		"hanging": func(string) http.HandlerFunc { return hang },
		"bomb":    func(string) http.HandlerFunc { return gzipBomb },
		"missing": func(string) http.HandlerFunc { return http.NotFound },
		"list":    func(string) http.HandlerFunc { return text("[]") },
		"no-uri":  func(issuer string) http.HandlerFunc { return says(issuer, "") },
	}
	var options strings.Builder
	for name, answer := range hostile {
		issuer := s.base + "/" + name
		s.answers("/"+name+metadata, answer(issuer))
		s.answers("/"+name+"/away", redirect(evil.base+"/keys"))
		options.WriteString(discovering(name, issuer))
	}
	g := start(t, nil, options.String()+discovering("support", s.base), clusterSite)
	o := g.operator()
	genuine := signWithKID(rsaKey(0), "a", issuedBy(s.base))
	eventually(t, "the keys are found", func() bool { return g.verdict("/", genuine) == "200" })
	for name := range hostile {
		for _, kid := range []string{"", "evil"} {
			g.expect("503 keys_unavailable", "/m/"+name+"/x", signWithKID(rsaKey(1), kid, issuedBy(s.base+"/"+name)))
		}
		eventually(t, name+": operators are told", func() bool { return o.keys(name).LastError != "" })
	}
	if n := evil.sets.Load(); n != 0 {
		t.Errorf("the other key set was fetched %d times", n)
	}

	// What was found stays, and moves only when the issuer's own metadata say so.
	s.answers(metadata, says(evil.base, evil.base+"/keys"))
	if status := g.refresh("support"); status != http.StatusBadGateway {
		t.Errorf("metadata of another issuer: refreshing was answered with %d", status)
	}
	g.expect("200", "/", genuine)
	s.answers(metadata, nil)
	s.answers("/moved", text(mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(2), "b")}})))
	s.says(s.base, s.base+"/moved")
	if status := g.refresh("support"); status != http.StatusOK {
		t.Errorf("after a move: refreshing was answered with %d", status)
	}
	g.expect("200", "/", signWithKID(rsaKey(2), "b", issuedBy(s.base)))
	// The set is fetched once more for a key that it does not have. Until then the gateway cannot decide.
	eventually(t, "the key of before is unknown", func() bool { return g.verdict("/", genuine) == "401 key_unknown" })
}

// Keys that were found at an issuer verify its tokens, and no others that it signs with them, such as those of another tenant.
func TestDiscoveredKeysAreBoundToTheirIssuer(t *testing.T) {
	s := newLoginService(t, publicJWK(rsaKey(0), "a"))
	s.says(s.base+"/tenant/", s.base+"/keys")
	options := "messenger {\n jwks_internal_hosts 127.0.0.1\n}\n" + discovering("support", s.base+"/tenant/")
	g := start(t, newUpstream(t), options, clusterSite)
	o := g.operator()
	sign := func(issuer string) string { return signWithKID(rsaKey(0), "a", issuedBy(issuer)) }
	eventually(t, "the keys are found", func() bool { return g.verdict("/", sign(s.base+"/tenant/")) == "200" })
	stored := map[string]any{"identity_key": "identity", "jwks": map[string]any{"discovery": s.base + "/tenant/"}}
	o.put("acme", stored)
	for _, path := range []string{"/", "/m/acme/x"} {
		eventually(t, "the keys are found", func() bool { return g.verdict(path, sign(s.base+"/tenant/")) == "200" })
		for _, other := range []string{"", s.base, s.base + "/tenant", s.base + "/other/", strings.ToUpper(s.base) + "/tenant/"} {
			g.expect("401 issuer_not_allowed", path, sign(other))
		}
	}
	// What a site owner names, and what the metadata then name, is at hosts that the operator has listed, or public.
	listed := newLoginService(t, publicJWK(rsaKey(0), "a"))
	g.load(strings.Replace(options, "127.0.0.1", strings.TrimPrefix(listed.base, "http://"), 1), clusterSite)
	o.refused(400, "PUT", "messengers/other", stored)
	inside := newKeyServer(t, publicJWK(rsaKey(0), "a")) // on another port, which is not listed
	listed.says(listed.base, inside.url)
	o.put("other", map[string]any{"identity_key": "identity", "jwks": map[string]any{"discovery": listed.base}})
	if status := g.refresh("other"); status != http.StatusBadGateway {
		t.Errorf("a key set inside: refreshing was answered with %d", status)
	}
	if said := o.keys("other").LastError; strings.Contains(said, inside.url) || strings.Contains(said, "127.0.0.1") {
		t.Errorf("a site owner is told %q", said)
	}
	g.expect("503 keys_unavailable", "/m/other/x", sign(listed.base))
	if n := inside.fetches.Load(); n != 0 {
		t.Errorf("the key set inside was fetched %d times", n)
	}
}

// A nested identity is read at its place and nowhere else, whatever a token has there.
func TestIdentityPathReadsOneMember(t *testing.T) {
	up := newUpstream(t)
	secret := newSecret()
	file := write(t, "secret", []byte(secret))
	g := start(t, up, "messenger user {\n identity_path /user/id\n shared_token {file."+file+"}\n}\nmessenger odd {\n identity_path /a~1b/~0/1\n shared_token {file."+file+"}\n}",
		"handle /odd/* {\n messenger_auth odd\n reverse_proxy UPSTREAM\n}\nhandle {\n messenger_auth user {\n  claim_header path /user/roles/0 X-Role\n }\n reverse_proxy UPSTREAM\n}")
	const header = `{"alg":"HS256","typ":"JWT"}`
	for payload, want := range map[string]string{
		`{"user":{"id":"mark","roles":["admin"]}}`:                              "mark, role admin",
		`{"id":"eve","user":{"name":{"id":"eve"},"id":"mark"},"user/id":"eve"}`: "mark",
		`{"user":{"id":9007199254740993}}`:                                      "9007199254740993",
		`{"user":{"\u0069d":"mark"}}`:                                           "mark",
		`{"user":{"id":"mark","roles":{"0":"admin"}}}`:                          "mark, role admin",
		`{"user":{"id":"mark","roles":[]}}`:                                     "mark",
		`{"user/id":"eve","id":"eve"}`:                                          "identity_missing",
		`{"user":"mark"}`:                                                       "identity_missing",
		`{"user":null}`:                                                         "identity_missing",
		`{"user":["mark"]}`:                                                     "identity_missing",
		`{"user":[{"id":"eve"}]}`:                                               "identity_missing",
		`{"user":{"ID":"eve"},"User":{"id":"eve"}}`:                             "identity_missing",
		`{"user":{}}`:                                                           "identity_missing",
		`{"user":{"id":null}}`:                                                  "identity_invalid",
		`{"user":{"id":""}}`:                                                    "identity_invalid",
		`{"user":{"id":{"id":"eve"}}}`:                                          "identity_invalid",
		`{"user":{"id":["eve"]}}`:                                               "identity_invalid",
		`{"user":{"id":true}}`:                                                  "identity_invalid",
		`{"user":{"id":1e3}}`:                                                   "identity_invalid",
		`{"user":{"id":" mark"}}`:                                               "identity_invalid",
		`{"user":{"id":"mark"},"user":{"id":"eve"}}`:                            "token_malformed",
		`{"user":{"id":"mark","id":"eve"}}`:                                     "token_malformed",
		`{"user":{"id":"mark","\u0069d":"eve"}}`:                                "token_malformed",
		`{"user":{"id":"\ud800"}}`:                                              "token_malformed",
		`{"user":{"id":"mark"`:                                                  "token_malformed",
		`{"user":{"id":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`: "token_malformed",
	} {
		a := g.get("/", bearer(forge(secret, header, payload)))
		var got string
		if a.status == http.StatusOK {
			r := up.one(t)
			if got = r.header.Get("X-Contact-Identity"); r.header.Get("X-Role") != "" {
				got += ", role " + r.header.Get("X-Role")
			}
		} else {
			got = a.code(t)
			up.none(t)
		}
		if got != want {
			t.Errorf("%.60s: got %s, want %s", payload, got, want)
		}
	}
	for payload, want := range map[string]int{
		`{"a/b":{"~":["eve","mark"]}}`:       200,
		`{"a/b":{"~":{"1":"mark"}}}`:         200,
		`{"a/b":{"~":["eve"]}}`:              401,
		`{"a":{"b":{"~":["eve","mark"]}}}`:   401,
		`{"a~1b":{"~0":["eve","mark"]}}`:     401,
		`{"a/b":{"~":{"01":"eve","-":"a"}}}`: 401,
	} {
		if a := g.get("/odd/", bearer(forge(secret, header, payload))); a.status != want {
			t.Errorf("%s: got %d, want %d", payload, a.status, want)
		} else if want == 200 && up.one(t).header.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%s: another identity", payload)
		}
	}
}
