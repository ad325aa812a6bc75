package integration

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// A keyServer publishes a JWK Set, or whatever its answer function does instead.
type keyServer struct {
	url     string
	fetches atomic.Int64
	mu      sync.Mutex
	answer  http.HandlerFunc
}

func newKeyServer(t testing.TB, keys ...jwk) *keyServer {
	t.Helper()
	k := &keyServer{}
	k.publish(keys...)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.fetches.Add(1)
		k.mu.Lock()
		answer := k.answer
		k.mu.Unlock()
		answer(w, r)
	}))
	k.url = server.URL + "/jwks.json"
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return k
}

// behave makes the server answer with f from now on.
func (k *keyServer) behave(f http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = f
}

// publish makes the server answer with these keys from now on.
func (k *keyServer) publish(keys ...jwk) {
	body, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	k.behave(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
}

type jwk = map[string]any

// publicJWK returns the JWK of key's public half.
func publicJWK(key *rsa.PrivateKey, kid string) jwk {
	return jwk{"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes())}
}

func jwksMessenger(url string) string {
	return "messenger support {\n identity_key identity\n audience chat\n jwks " + url + "\n}"
}

func forChat(identity any) claims {
	c := valid(identity)
	c["aud"] = "chat"
	return c
}

const supportSite = "messenger_auth support\nreverse_proxy UPSTREAM"

// The usual life of a key set: a key signs, a new one replaces it, the old one stops.
func TestTokenOfAPublishedKeyIsAccepted(t *testing.T) {
	up, keys := newUpstream(t), newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g := start(t, up, jwksMessenger(keys.url), supportSite)
	if a := g.get("/", bearer(signWithKID(rsaKey(0), "a", forChat("mark")))); a.status != 200 {
		t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	if got := up.one(t).header.Get("X-Contact-Identity"); got != "mark" {
		t.Errorf("identity: got %q", got)
	}
	// A key that was published a moment ago is found by the first token that names it.
	keys.publish(publicJWK(rsaKey(1), "b"))
	if a := g.get("/", bearer(signWithKID(rsaKey(1), "b", forChat("mark")))); a.status != 200 {
		t.Errorf("new key: got %d %s, want 200", a.status, a.body)
	}
	if a := g.get("/", bearer(signWithKID(rsaKey(0), "a", forChat("mark")))); a.status != 401 || a.code(t) != "key_unknown" {
		t.Errorf("withdrawn key: got %d %s, want 401", a.status, a.body)
	}
}
