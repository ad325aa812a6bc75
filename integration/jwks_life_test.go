package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A scanner floods the gateway with tokens of made-up kids while the key server hangs. That is one fetch and a bounded
// number of requests that wait; a contact whose kid is known notices nothing.
func TestFloodOfUnknownKIDs(t *testing.T) {
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g := start(t, nil, "messenger support {\n identity_key identity\n audience chat\n jwks "+keys.url+" {\n timeout 30s\n }\n}", "messenger_auth support\nrespond ok")
	g.waitForLog(`"keys changed"`) // a token before that causes a fetch itself, and no other one for a while
	valid := bearer(signWithKID(rsaKey(0), "a", forChat("mark")))
	if a := g.get("/", valid); a.status != 200 {
		t.Fatalf("before: got %d %s", a.status, a.body)
	}
	release := make(chan struct{})
	set := readAll(t, keys.url)
	keys.behave(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(set))
	})
	before := keys.fetches.Load()

	var refused, undecided, other atomic.Int64
	var flood sync.WaitGroup
	for i := range 1000 {
		flood.Go(func() {
			header := fmt.Sprintf(`{"alg":"RS256","kid":"random %d"}`, i)
			switch g.status(bearer(b64(header) + "." + b64(`{"identity":"eve","aud":"chat"}`) + "." + b64("no signature"))) {
			case 401:
				refused.Add(1)
			case 503:
				undecided.Add(1)
			default:
				other.Add(1)
			}
		})
	}
	within(t, time.Minute, "all are answered but those that may wait", func() bool { return refused.Load()+undecided.Load()+other.Load() >= 1000-256 })
	if a := g.get("/", valid); a.status != 200 {
		t.Errorf("a known kid meanwhile: got %d %s", a.status, a.body)
	}
	close(release)
	flood.Wait()
	if n := keys.fetches.Load() - before; n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	// Without a bound all would have waited until their time was up, and none been refused.
	if other.Load() != 0 || refused.Load() == 0 || refused.Load() > 256 || refused.Load()+undecided.Load() != 1000 {
		t.Errorf("%d waited and were refused, %d could not be decided, %d got something else", refused.Load(), undecided.Load(), other.Load())
	}
	t.Logf("%d waited and were refused, %d were turned away at once", refused.Load(), undecided.Load())
}

// The key server comes up after the gateway, which has started without it and said so.
func TestGatewayStartsBeforeItsKeyServer(t *testing.T) {
	if !alone(t) {
		return
	}
	addr := freeAddr(t)
	g := start(t, newUpstream(t), jwksMessenger("http://"+addr+"/jwks.json"), supportSite)
	token := bearer(signWithKID(rsaKey(0), "a", forChat("mark")))
	g.waitForLog("key set not fetched; no token can be verified until it is")
	if a := g.get("/", token); a.status != 503 || a.code(t) != "keys_unavailable" {
		t.Fatalf("without the key server: got %d %s", a.status, a.body)
	}
	status, body := g.admin("GET", "messengers/support/keys", "")
	if status != 200 || !strings.Contains(body, `"usable":false`) || !strings.Contains(body, "the key server cannot be reached") {
		t.Errorf("keys: %d %s", status, body)
	}
	if e := g.explain("support", strings.TrimPrefix(token, "Authorization: Bearer ")); e.Code != "keys_unavailable" || len(e.Findings) == 0 || !strings.Contains(e.Findings[0].Cause, "cannot be reached") {
		t.Errorf("explain: %+v", e)
	}

	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("the port was taken by someone else meanwhile: %v", err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(0), "a")}})))
	}))
	_ = server.Listener.Close()
	server.Listener = ln
	server.Start()
	t.Cleanup(server.Close)
	// Two attempts have failed: the next one follows within ten seconds, or ten seconds after the last token's.
	within(t, time.Minute, "the keys are picked up", func() bool { time.Sleep(50 * time.Millisecond); return g.get("/", token).status == 200 })
	g.waitForLog(`"msg":"key set fetched"`)
}

// Key servers publish all kinds of entries. Good ones beside them keep working, and "keys" says of the others why they
// are left out.
func TestKeysCommandListsSkippedEntries(t *testing.T) {
	with := func(n int, kid string, change jwk) jwk {
		k := publicJWK(rsaKey(n), kid)
		for name, value := range change {
			k[name] = value
		}
		return k
	}
	type entry struct {
		jwk    any
		reason string // "" for one that is used
	}
	entries := []entry{
		{publicJWK(rsaKey(0), "good"), ""},
		{with(1, "encrypts", jwk{"use": "enc"}), "use other than sig"},
		{with(1, "512", jwk{"alg": "RS512"}), "only RS256 is accepted"},
		{with(1, "wraps", jwk{"key_ops": []string{"wrapKey"}}), "key_ops without verify"},
		{with(1, "private", jwk{"d": "AQAB"}), "private key"},
		{jwk{"kty": "oct", "kid": "secret", "k": b64("a symmetric key of some length")}, "symmetric key"},
		{jwk{"kty": "EC", "kid": "curve", "crv": "P-256", "x": "AA", "y": "AA"}, "elliptic curve"},
		// 2^64 + 65537: a parser that reads an int takes it for 65537.
		{with(1, "cut", jwk{"e": base64.RawURLEncoding.EncodeToString([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})}), "exponent of more than 32 bits"},
		{with(1, "even", jwk{"e": base64.RawURLEncoding.EncodeToString([]byte{4})}), "exponent"},
		{with(1, "short", jwk{"n": base64.RawURLEncoding.EncodeToString(append(rsaKey(1).N.Bytes()[:127], 1))}), "1024 bits"},
		{publicJWK(rsaKey(1), "twice"), "has the kid of another key of the set"},
		{publicJWK(rsaKey(2), "twice"), "has the kid of another key of the set"},
		{"no key at all", "not a JSON object"},
		{nil, "not a JSON object"},
		{with(2, "also good", jwk{"x5c": []string{"MII"}, "key_ops": []string{"verify"}}), ""},
		{publicJWK(rsaKey(0), "good"), ""}, // the same again
	}
	var list []any
	for _, e := range entries {
		list = append(list, e.jwk)
	}
	keys := newKeyServer(t)
	keys.behave(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(mustJSON(map[string]any{"keys": list})))
	})
	g := start(t, nil, jwksMessenger(keys.url), "messenger_auth support\nrespond ok")

	for _, tt := range []struct {
		key    int
		kid    string
		status int
	}{{0, "good", 200}, {2, "also good", 200}, {1, "encrypts", 401}, {1, "512", 401}, {1, "wraps", 401}, {1, "private", 401}, {1, "cut", 401}, {1, "twice", 401}, {2, "twice", 401}} {
		if a := g.get("/", bearer(signWithKID(rsaKey(tt.key), tt.kid, forChat("mark")))); a.status != tt.status {
			t.Errorf("a token of the key %q: got %d %s, want %d", tt.kid, a.status, a.body, tt.status)
		}
	}
	_, body := g.admin("GET", "messengers/support/keys", "")
	var told describedSet
	if err := json.Unmarshal([]byte(body), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.Keys) != 2 || told.Keys[0].KeyID != "good" || told.Keys[1].KeyID != "also good" || told.Keys[0].SHA256 == told.Keys[1].SHA256 || len(told.Keys[0].SHA256) != 64 {
		t.Errorf("active: %+v", told.Keys)
	}
	if told.Sources[0] != keys.url || told.Fetched.IsZero() || !told.Fresh.After(told.Fetched) || !told.Next.After(told.Fetched) || !told.Next.Before(told.Fresh.Add(time.Second)) {
		t.Errorf("times: %+v", told)
	}
	left := make(map[int]string)
	for _, o := range told.Omitted {
		left[o.Index] = o.Reason
	}
	for i, e := range entries {
		if (e.reason == "") != (left[i] == "") || !strings.Contains(left[i], e.reason) {
			t.Errorf("entry %d: left out because it %q, want %q", i, left[i], e.reason)
		}
	}
	g.waitForLog("an entry of the key set is not used: it has the kid of another key of the set")
	if strings.Contains(g.logs()+body, b64("a symmetric key of some length")[:20]) {
		t.Error("a symmetric key was repeated")
	}
}

// A describedSet is what "keys --json" says of a key set.
type describedSet struct {
	Sources []string
	Usable  bool
	Keys    []struct {
		KeyID  string `json:"kid"`
		SHA256 string
	}
	Fetched   time.Time
	Fresh     time.Time `json:"fresh_until"`
	Next      time.Time `json:"next_attempt"`
	LastError string    `json:"last_error"`
	Omitted   []struct {
		Index  int
		Reason string
	}
}

// An operator ends a key at once: with refresh if the key server answers, and with --distrust if it does not.
func TestRefreshAndDistrustCommands(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g := start(t, nil, jwksMessenger(keys.url), "messenger_auth support\nrespond ok")
	a, b := bearer(signWithKID(rsaKey(0), "a", forChat("mark"))), bearer(signWithKID(rsaKey(1), "b", forChat("mark")))
	want := func(when, token, outcome string) {
		t.Helper()
		got := g.get("/", token)
		text := got.body
		if got.status >= 400 {
			text = got.code(t)
		}
		if text != outcome {
			t.Errorf("%s: got %d %s, want %s", when, got.status, text, outcome)
		}
	}
	refresh := func(more ...string) ran {
		return s.messenger("", append([]string{"refresh", "support", "--address", "unix/" + g.sock}, more...)...)
	}
	want("at first", a, "ok")

	keys.publish(publicJWK(rsaKey(1), "b"), jwk{"kty": "EC", "kid": "curve"}, jwk{})
	want("withdrawn, within the lifetime of the set", a, "ok")
	if r := refresh(); r.status != 0 || !strings.Contains(r.out, `kid "b"`) || strings.Contains(r.out, `kid "a"`) || !strings.Contains(r.out, "from "+keys.url) ||
		!strings.Contains(r.out, "fetched") || !strings.Contains(r.out, "next attempt") ||
		!strings.Contains(r.out, `entry 1, kid "curve": it is an elliptic curve key`) || !strings.Contains(r.out, "entry 2: it has no kty") {
		t.Errorf("refresh: status %d\n%s%s", r.status, r.out, r.err)
	}
	want("withdrawn, after refresh", a, "key_unknown")
	want("the key that replaced it", b, "ok")

	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	if r := refresh(); r.status != 1 || !strings.Contains(r.err, "a status other than 200: 500; the keys that were fetched before stay active") {
		t.Errorf("refresh while the server fails: status %d\n%s", r.status, r.err)
	}
	want("after a refresh that failed", b, "ok")
	if r := s.messenger("", "keys", "--address", "unix/"+g.sock); r.status != 0 || !strings.Contains(r.out, "last error") || !strings.Contains(r.out, "a status other than 200: 500") {
		t.Errorf("keys while the server fails: status %d\n%s", r.status, r.out)
	}
	if r := refresh("--distrust", "--json"); r.status != 1 || !strings.Contains(r.err, "the messenger has no keys now and answers keys_unavailable") {
		t.Errorf("distrust while the server fails: status %d\n%s", r.status, r.err)
	}
	want("after a distrust that could fetch nothing", b, "keys_unavailable")

	keys.publish(publicJWK(rsaKey(0), "a"))
	r := refresh("--distrust", "--json")
	var told describedSet
	if err := json.Unmarshal([]byte(r.out), &told); err != nil || r.status != 0 || !told.Usable || len(told.Keys) != 1 || told.Keys[0].KeyID != "a" || told.LastError != "" {
		t.Errorf("distrust: status %d, %v\n%s%s", r.status, err, r.out, r.err)
	}
	want("after the server is back", a, "ok")
}
