package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// jwksKeys is what the admin API tells of the keys of a messenger.
type jwksKeys struct {
	Usable    bool
	Keys      []struct{ KID string }
	LastError string `json:"last_error"`
}

func (o *operator) keys(name string) (k jwksKeys) {
	o.t.Helper()
	decode(o.t, o.want(200, "GET", "messengers/"+name+"/keys", nil).body, &k)
	return k
}

func storedJWKS(url string) map[string]any {
	return map[string]any{"identity_key": "identity", "audience": []string{"chat"}, "jwks": map[string]any{"url": url}}
}

// Site owners type the URLs of stored messengers. They must not explore the network in which the gateway stands: what is
// not on port 443 of a public address is refused, or fails with a reason that says no more.
func TestStoredKeySetURLCannotReachTheInternalNetwork(t *testing.T) {
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g, o := startLive(t, newUpstream(t))
	for _, url := range []string{
		keys.url, strings.Replace(keys.url, "127.0.0.1", "localhost", 1), "http://localhost/jwks", "https://127.0.0.1:8443/", "https://www.example.com:22/", "http://www.example.com/",
		"https://{env.HOME}/", "https://www.example.com/{file./etc/hostname}", "file:///etc/passwd", "https://user:pw@www.example.com/",
	} {
		o.refused(400, "PUT", "messengers/inside", storedJWKS(url))
	}
	o.refused(404, "GET", "messengers/inside", nil)
	for _, host := range []string{"localhost", "127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1", "[::ffff:127.0.0.1]"} {
		o.put("inside", storedJWKS("https://"+host+"/jwks.json"))
		a := o.want(502, "POST", "messengers/inside/refresh", map[string]any{})
		if !strings.Contains(a.body, "has an address that is not public") || strings.Contains(a.body, "refused") || strings.Contains(a.body, "127.0.0.1") {
			t.Errorf("%s: the answer is %s", host, a.body)
		}
		if k := o.keys("inside"); k.Usable || k.LastError != "the key server has an address that is not public, or a port other than 443" {
			t.Errorf("%s: %+v", host, k)
		}
		g.expect("503 keys_unavailable", "/m/inside/x", signWithKID(rsaKey(0), "a", forChat("mark")))
	}
	if n := keys.fetches.Load(); n != 0 {
		t.Errorf("the key server was asked %d times", n)
	}
}

// The operator lists the hosts inside that may be asked, with or without the port.
func TestInternalHostsCanBeAllowedForStoredKeySets(t *testing.T) {
	for _, port := range []bool{false, true} {
		t.Run(fmt.Sprintf("with the port: %t", port), func(t *testing.T) {
			keys, other := newKeyServer(t, publicJWK(rsaKey(0), "a")), newKeyServer(t, publicJWK(rsaKey(1), "b"))
			host := "127.0.0.1"
			if port {
				host = strings.TrimSuffix(strings.TrimPrefix(keys.url, "http://"), "/jwks.json")
			}
			g := start(t, newUpstream(t), strings.Replace(liveOptions, "messenger {", "messenger {\n jwks_internal_hosts "+host, 1), liveSite)
			o := g.operator()
			o.put("acme", storedJWKS(keys.url))
			g.expect("200", "/m/acme/x", signWithKID(rsaKey(0), "a", forChat("mark")))
			if k := o.keys("acme"); !k.Usable || len(k.Keys) != 1 || k.Keys[0].KID != "a" {
				t.Errorf("got %+v", k)
			}
			if a := o.do("PUT", "messengers/other", storedJWKS(other.url)); port && a.status != 400 || !port && a.status != 201 {
				t.Errorf("another port of that host: got %d", a.status)
			}
			// What is listed does not lead on to what is not.
			keys.behave(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.url, http.StatusFound) })
			if a := o.want(502, "POST", "messengers/acme/refresh", map[string]any{}); !strings.Contains(a.body, "redirects to another host") {
				t.Errorf("the answer is %s", a.body)
			}
			g.expect("200", "/m/acme/x", signWithKID(rsaKey(0), "a", forChat("mark")))
		})
	}
}

// keptCopy waits for the copy of a key set in an unsealed store, and returns its file.
func keptCopy(t *testing.T, folder string) string {
	t.Helper()
	var found []string
	eventually(t, "the key set is kept", func() bool {
		found, _ = filepath.Glob(filepath.Join(folder, "messenger/_sets", strings.Repeat("?", 32), "copy")) // no file that is being written
		return len(found) == 1
	})
	return found[0]
}

// A gateway starts while the key server is away. It serves with the set that the last one kept, if that was fetched from
// this very URL, and not too long ago.
func TestStoredKeySetIsUsedWithoutTheKeyServer(t *testing.T) {
	if !alone(t) {
		return
	}
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	token := signWithKID(rsaKey(0), "a", forChat("mark"))
	folder := t.TempDir()
	options := "storage file_system " + folder + "\n" + jwksMessenger(keys.url)
	const site = "messenger_auth support\nrespond ok"
	g := start(t, nil, options, site)
	g.expect("200", "/", token)
	file := keptCopy(t, folder)
	restart := func() {
		t.Helper()
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		g = start(t, nil, options, site)
	}
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	restart()
	g.expect("200", "/", token)
	g.expect("503 keys_unavailable", "/", signWithKID(rsaKey(1), "b", forChat("mark"))) // there may be newer keys

	genuine, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(kept map[string]any){
		"older than stale_if_error": func(kept map[string]any) { kept["fetched"] = time.Now().Add(-25 * time.Hour).UTC() },
		"of another URL":            func(kept map[string]any) { kept["url"] = "https://www.example.com/jwks.json" },
		"from the future":           func(kept map[string]any) { kept["fetched"] = time.Now().Add(time.Hour).UTC() },
		"without a set":             func(kept map[string]any) { delete(kept, "set") },
		"with an empty set":         func(kept map[string]any) { kept["set"] = map[string]any{"keys": []any{}} },
		"with a member more":        func(kept map[string]any) { kept["trusted"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			var kept map[string]any
			if err := json.Unmarshal(genuine, &kept); err != nil {
				t.Fatal(err)
			}
			change(kept)
			if err := os.WriteFile(file, []byte(mustJSON(kept)), 0o600); err != nil {
				t.Fatal(err)
			}
			restart()
			g.expect("503 keys_unavailable", "/", token)
		})
	}
	if err := os.WriteFile(file, genuine, 0o600); err != nil {
		t.Fatal(err)
	}
	restart()
	g.expect("200", "/", token)

	// A key was stolen. What is not trusted any more is not the first thing that the next start takes.
	if a := g.operator().do("POST", "messengers/support/refresh", map[string]any{"distrust": true}); a.status != 502 {
		t.Errorf("distrusting with the key server away: got %d %s", a.status, a.body)
	}
	g.expect("503 keys_unavailable", "/", token)
	restart()
	g.expect("503 keys_unavailable", "/", token)
	keys.publish(publicJWK(rsaKey(1), "b"))
	patiently(t, "the new set is fetched", func() bool { return g.verdict("/", signWithKID(rsaKey(1), "b", forChat("mark"))) == "200" })
	g.expect("401 key_unknown", "/", token)
}

// The copy belongs to a URL. It is gone with the messenger that named it, and is never taken for another.
func TestStoredKeySetIsRemovedWithItsMessenger(t *testing.T) {
	keys, other := newKeyServer(t, publicJWK(rsaKey(0), "a")), newKeyServer(t)
	other.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	folder := t.TempDir()
	options := strings.NewReplacer("DIR/store", folder, "messenger {", "messenger {\n jwks_internal_hosts 127.0.0.1").Replace(liveOptions)
	g := start(t, newUpstream(t), options, liveSite)
	o := g.operator()
	token := signWithKID(rsaKey(0), "a", forChat("mark"))
	o.put("acme", storedJWKS(keys.url))
	g.expect("200", "/m/acme/x", token)
	file := keptCopy(t, folder)
	o.put("acme", storedJWKS(other.url))
	g.expect("503 keys_unavailable", "/m/acme/x", token)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the copy of the former URL is there: %v", err)
	}
	o.put("acme", storedJWKS(keys.url))
	g.expect("200", "/m/acme/x", token)
	keptCopy(t, folder)
	o.want(200, "DELETE", "messengers/acme", nil)
	if left := slices.Collect(maps.Keys(files(t, folder))); slices.ContainsFunc(left, func(key string) bool {
		return strings.HasPrefix(key, "messenger/_sets/") && strings.HasSuffix(key, "/copy")
	}) {
		t.Errorf("of a deleted messenger is left: %v", left)
	}
}
