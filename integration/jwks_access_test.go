package integration

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A privateCA is an authority that no system knows.
type privateCA struct {
	der, pem []byte
	key      *rsa.PrivateKey
}

func newPrivateCA(t testing.TB, key *rsa.PrivateKey) *privateCA {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: fmt.Sprint("authority ", time.Now().UnixNano())},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &privateCA{der, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key}
}

// certificate returns one for 127.0.0.1.
func (ca *privateCA) certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	parent, err := x509.ParseCertificate(ca.der)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &rsaKey(2).PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: rsaKey(2)}
}

// A guardedServer is a key server that answers those who show what it wants.
type guardedServer struct {
	*keyServer
	mu      sync.Mutex
	wants   http.Header
	refused int
	seen    []http.Header
	cert    *tls.Certificate
}

// newGuardedServer makes one, with TLS if there is a certificate.
func newGuardedServer(t testing.TB, cert *tls.Certificate, keys ...jwk) *guardedServer {
	t.Helper()
	k := &guardedServer{keyServer: &keyServer{}, cert: cert}
	k.publish(keys...)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.fetches.Add(1)
		k.mu.Lock()
		k.seen = append(k.seen, r.Header.Clone())
		denied := slices.ContainsFunc(slices.Collect(keysOf(k.wants)), func(name string) bool { return r.Header.Get(name) != k.wants.Get(name) })
		if denied {
			k.refused++
		}
		k.mu.Unlock()
		if denied {
			http.Error(w, "no: "+r.Header.Get("X-Api-Key"), http.StatusUnauthorized)
			return
		}
		k.keyServer.mu.Lock()
		answer := k.answer
		k.keyServer.mu.Unlock()
		answer(w, r)
	}))
	server.Config.ErrorLog = nil
	if cert != nil {
		server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			return &tls.Config{Certificates: []tls.Certificate{*k.cert}}, nil
		}}
		server.StartTLS()
	} else {
		server.Start()
	}
	k.url = server.URL + "/jwks.json"
	t.Cleanup(server.Close)
	return k
}

func keysOf(h http.Header) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range h {
			if !yield(name) {
				return
			}
		}
	}
}

func (k *guardedServer) want(lines ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wants = http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		k.wants.Set(name, value)
	}
}

// sent reports whether any request had the header.
func (k *guardedServer) sent(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.seen, func(h http.Header) bool { return h.Get(name) != "" })
}

// keySetMessengers are messengers whose keys are at url, by name with the lines of the block.
func keySetMessengers(url string, blocks map[string]string) (text string) {
	for name, block := range blocks {
		text += "messenger " + name + " {\n identity_key identity\n audience chat " + name + "\n jwks " + url + " {\n" + block + "\n }\n}\n"
	}
	return text
}

// The certificate of a key server inside a company is from the company's own authority. Only the one that is named may vouch for it:
// neither another private one, nor all those of the system.
func TestKeyServerOfAPrivateAuthority(t *testing.T) {
	ca, other := newPrivateCA(t, rsaKey(0)), newPrivateCA(t, rsaKey(1))
	keys := newGuardedServer(t, ca.certificate(t), publicJWK(rsaKey(0), "a"))
	file := write(t, "ca.pem", ca.pem)
	t.Setenv("CHAT_CA", string(ca.pem))
	t.Setenv("CHAT_CA_FILE", file)
	works := map[string]string{
		"file": "ca " + file, "bundle": "ca " + write(t, "bundle.pem", append(slices.Clone(other.pem), ca.pem...)), "der": "ca " + write(t, "ca.der", ca.der),
		"placeholder": "ca {file." + file + "}", "variable": "ca {env.CHAT_CA}", "named": "ca {env.CHAT_CA_FILE}", "inline": "ca `" + string(ca.pem) + "`",
	}
	fails := map[string]string{"none": "", "other": "ca " + write(t, "other.pem", other.pem)}
	blocks := map[string]string{}
	for name, block := range works {
		blocks[name] = block
	}
	for name, block := range fails {
		blocks[name] = block
	}
	up := newUpstream(t)
	g := start(t, up, keySetMessengers(keys.url, blocks), "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	token := signWithKID(rsaKey(0), "a", forChat("mark"))
	for name := range works {
		if g.expect("200", "/"+name+"/", token); t.Failed() {
			t.Fatalf("%+v", g.operator().keys(name))
		}
	}
	for name := range fails {
		g.expect("503 keys_unavailable", "/"+name+"/", token)
		if told := g.operator().keys(name); told.Usable || !strings.Contains(told.LastError, "authority that the gateway does not know") || !strings.Contains(told.LastError, "{ ca <file> }") {
			t.Errorf("%s: %+v", name, told)
		}
	}

	// The authority is replaced while the gateway runs, first at the server, and then in the file.
	keys.mu.Lock()
	keys.cert = other.certificate(t)
	keys.mu.Unlock()
	if status := g.refresh("file"); status != 502 {
		t.Errorf("a certificate of another authority: refresh answers %d", status)
	}
	if err := os.WriteFile(file, other.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if status := g.refresh("file"); status != 200 {
		t.Errorf("with the new authority in the file: refresh answers %d", status)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if status := g.refresh("file"); status != 502 || !strings.Contains(g.operator().keys("file").LastError, file) {
		t.Errorf("without the file: refresh answers %d, %+v", status, g.operator().keys("file"))
	}
	g.expect("200", "/file/", token) // with the keys of before
}

// A key server wants to see a key. It is sent to this server alone, and is in nothing that anyone can see: the log and the answers of
// the admin API are searched for it when all tests have ended.
func TestKeyServerThatNeedsAHeader(t *testing.T) {
	secret, token := newSecret(), newSecret()
	t.Setenv("CHAT_API_KEY", secret)
	file := write(t, "token", []byte(token+"\n"))
	keys := newGuardedServer(t, nil, publicJWK(rsaKey(0), "a"))
	keys.want("X-Api-Key: "+secret, "Authorization: Bearer "+token, "User-Agent: chat/1")
	g := start(t, newUpstream(t), keySetMessengers(keys.url, map[string]string{
		"right": "header X-Api-Key {env.CHAT_API_KEY}\nheader authorization \"Bearer {file." + file + "}\"\nheader User-Agent chat/1", "without": "",
	}), "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	contact := signWithKID(rsaKey(0), "a", forChat("mark"))
	g.expect("200", "/right/", contact)
	g.expect("503 keys_unavailable", "/without/", contact)
	if told := g.operator().keys("without"); !strings.Contains(told.LastError, "401") {
		t.Errorf("without the header: %+v", told)
	}

	// Kubernetes replaces the token in the file every hour.
	next := newSecret()
	keys.want("X-Api-Key: "+secret, "Authorization: Bearer "+next)
	if status := g.refresh("right"); status != 502 {
		t.Errorf("with the old token: refresh answers %d", status)
	}
	for text, status := range map[string]int{next: 200, next + "\r\nX-Injected: 1": 502, "": 502} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := g.refresh("right"); got != status {
			t.Errorf("a file of %d bytes: refresh answers %d, want %d", len(text), got, status)
		}
	}
	if keys.sent("X-Injected") {
		t.Error("a line break in the file adds a header")
	}
	if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}

	// The server, or whoever has taken it over, sends the gateway to another host.
	other := newGuardedServer(t, nil, publicJWK(rsaKey(1), "b"))
	keys.behave(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.url+"?"+r.Header.Get("X-Api-Key"), http.StatusFound)
	})
	if status := g.refresh("right"); status != 502 || other.fetches.Load() != 0 {
		t.Errorf("a redirect to another host: refresh answers %d, and it was asked %d times", status, other.fetches.Load())
	}
	for _, path := range []string{"right", "without"} {
		_, shown := g.admin("GET", "messengers/"+path, "")
		if path == "right" && !strings.Contains(shown, `"{env.CHAT_API_KEY}"`) {
			t.Errorf("the placeholder is not shown: %s", shown)
		}
	}
	resp, err := g.adminClient().Get("http://caddy/config/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if dump := string(body); strings.Contains(dump, secret) || strings.Contains(dump, next) || !strings.Contains(dump, "{env.CHAT_API_KEY}") {
		t.Error("the configuration has a secret, or not the placeholder")
	}
}

// Two messengers ask one server with keys of their own, and get key sets of their own. When the server is away at the next start, each
// gets what it was shown itself.
func TestCopiesOfKeySetsAreNotSharedBetweenAccesses(t *testing.T) {
	if !alone(t) {
		return
	}
	t.Setenv("CHAT_ONE", newSecret())
	t.Setenv("CHAT_TWO", newSecret())
	keys := newGuardedServer(t, nil)
	sets := map[string]string{os.Getenv("CHAT_ONE"): mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(0), "a")}}), os.Getenv("CHAT_TWO"): mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(1), "b")}})}
	keys.behave(func(w http.ResponseWriter, r *http.Request) {
		set, known := sets[r.Header.Get("X-Tenant")]
		if !known {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = w.Write([]byte(set))
	})
	folder := t.TempDir()
	options := "storage file_system " + folder + "\n" + keySetMessengers(keys.url, map[string]string{"one": "header X-Tenant {env.CHAT_ONE}", "two": "header X-Tenant {env.CHAT_TWO}", "none": ""})
	const site = "messenger_auth {path.0}\nrespond ok"
	g := start(t, nil, options, site)
	one, two := signWithKID(rsaKey(0), "a", forChat("mark")), signWithKID(rsaKey(1), "b", forChat("mark"))
	check := func() {
		t.Helper()
		g.expect("200", "/one/", one)
		g.expect("200", "/two/", two)
		for path, token := range map[string]string{"/one/": two, "/two/": one} {
			if got := g.verdict(path, token); got == "200" {
				t.Errorf("%s accepts a token of the other key set", path)
			}
		}
		g.expect("503 keys_unavailable", "/none/", one)
	}
	check()
	patiently(t, "both sets are stored", func() bool {
		found, _ := filepath.Glob(filepath.Join(folder, "messenger/_sets", strings.Repeat("?", 32), "copy-"+strings.Repeat("?", 32)))
		return len(found) == 2
	})
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	g.load(options, site)
	check()
}

// An issuer's metadata are behind a key, and name a key set that is elsewhere.
func TestHeadersDoNotFollowMetadataToAnotherHost(t *testing.T) {
	secret := newSecret()
	t.Setenv("CHAT_API_KEY", secret)
	for name, same := range map[string]bool{"another host": false, "the same host": true} {
		t.Run(name, func(t *testing.T) {
			issuer, other := newGuardedServer(t, nil, publicJWK(rsaKey(0), "a")), newGuardedServer(t, nil, publicJWK(rsaKey(0), "a"))
			issuer.want("X-Api-Key: " + secret)
			base := strings.TrimSuffix(issuer.url, "/jwks.json")
			target := map[bool]*guardedServer{true: issuer, false: other}[same]
			set := target.answer
			issuer.behave(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/.well-known/") {
					_, _ = w.Write([]byte(mustJSON(map[string]any{"issuer": base, "jwks_uri": target.url})))
					return
				}
				set(w, r)
			})
			g := start(t, newUpstream(t), "messenger support {\n identity_key identity\n audience chat\n jwks {\n discovery "+base+"\n header X-Api-Key {env.CHAT_API_KEY}\n }\n}", supportSite)
			c := forChat("mark")
			c["iss"] = base
			g.expect("200", "/", signWithKID(rsaKey(0), "a", c))
			if other.sent("X-Api-Key") {
				t.Error("the header goes to the host that the metadata name")
			}
		})
	}
}
