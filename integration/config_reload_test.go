package integration

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// resources are what a process runs out of.
type resources struct{ goroutines, descriptors int }

func countResources(t *testing.T) resources {
	t.Helper()
	plainClient.CloseIdleConnections()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return resources{runtime.NumGoroutine(), len(entries)}
}

// Gateways are reloaded from scripts, some every minute, and run for years: what one reload leaves behind ends the
// process some night. The watcher of key files, the engine of a key set, and all else end with their configuration. The
// same configuration without our modules is the measure for what Caddy itself leaves.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	server := newKeyServer(t, publicJWK(rsaKey(0), "k1"))
	secret := newSecret()
	messengers := "messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n" +
		"messenger sales {\n identity_key identity\n public_key {file." + write(t, "key.pem", publicPEM(rsaKey(0))) + "}\n}\n" +
		"messenger billing {\n identity_key identity\n jwks " + server.url + "\n}\nmessenger {\n poll_interval 5ms\n}\n"
	site := "messenger_auth {path.0} {\n token_from header Authorization Bearer\n token_from websocket_protocol jwt\n}\n"
	proxy := "reverse_proxy UPSTREAM {\n transport http {\n keepalive off\n }\n}\nheader X-Load %d\nhandle_errors {\n respond sorry\n}\n"

	bad := strings.Replace(messengers, "messenger sales", "messenger unused", 1)
	without := growth(t, up, "", proxy, func(g *gateway) {
		for _, path := range []string{"/support/", "/sales/", "/billing/"} {
			g.get(path)
		}
	})
	with := growth(t, up, messengers, site+proxy, func(g *gateway) {
		for path, token := range map[string]string{"/support/": sign(secret, valid("mark")), "/sales/": sign(rsaKey(0), valid("mark")), "/billing/": signWithKID(rsaKey(0), "k1", valid("mark"))} {
			eventually(t, path+" is served", func() bool { return g.get(path, bearer(token)).status == 200 })
		}
		// A configuration that fails half way gives back what it took, and the one that runs goes on.
		for range 5 {
			if err := caddy.Load(g.conf(g.caddyfile(bad, "handle /nothing {\n messenger_auth support\n}\nmessenger_auth nobody\n")), false); err == nil {
				t.Fatal("a directive for nobody loads")
			}
		}
	})
	t.Logf("with our modules %+v, without %+v", with, without)
	// A leak of one in a reload would be a hundred; a few more or less are the runtime's own.
	if with.goroutines > max(without.goroutines, 0)+10 {
		t.Errorf("100 reloads added %d goroutines, and %d without our modules", with.goroutines, without.goroutines)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	}
	if with.descriptors > max(without.descriptors, 0)+10 {
		t.Errorf("100 reloads added %d descriptors, and %d without our modules", with.descriptors, without.descriptors)
	}
}

// settledResources waits until what earlier tests have left has ended: it must not end while we count.
func settledResources(t *testing.T) resources {
	t.Helper()
	least, since := countResources(t), time.Now()
	for start := time.Now(); time.Since(since) < 300*time.Millisecond && time.Since(start) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		if now := countResources(t); now.goroutines < least.goroutines || now.descriptors < least.descriptors {
			least, since = now, time.Now()
		}
	}
	return least
}

// growth returns what 100 reloads of a configuration add. use makes requests between some of them.
func growth(t *testing.T, up *upstream, messengers, site string, use func(*gateway)) resources {
	t.Helper()
	g := newGateway(t, up, "http://")
	config := func(n int) []byte {
		return g.conf(g.caddyfile(messengers, strings.Replace(site, "%d", fmt.Sprint(n), 1)))
	}
	load := func(n int) {
		t.Helper()
		if err := caddy.Load(config(n), false); err != nil {
			t.Fatal(err)
		}
	}
	g.replace(config(0))
	for n := range 10 {
		load(n)
	}
	g.replace(config(10))
	use(g)
	before := settledResources(t)
	for n := range 100 {
		if n%25 != 24 {
			load(n)
			continue
		}
		g.replace(config(n))
		use(g)
	}
	// What ends in the background gets the time for it.
	var after resources
	for range 100 {
		after = countResources(t)
		if after.goroutines <= before.goroutines+5 && after.descriptors <= before.descriptors+5 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return resources{after.goroutines - before.goroutines, after.descriptors - before.descriptors}
}
