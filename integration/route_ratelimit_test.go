package integration

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildWithRateLimit builds a gateway that has caddy-ratelimit in it, in a module of its own, so that builds of the plugin do not inherit its
// requirements.
func buildWithRateLimit(t *testing.T) string {
	t.Helper()
	if !soaking() {
		t.Skip("not run: MESSENGER_SOAK=1 is not set, and the build of a gateway with caddy-ratelimit takes a minute")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.sum": string(sums),
		"go.mod": "module gateway\n\ngo 1.26\n\nrequire (\n\tgithub.com/messengerauth/caddy-messenger-auth v0.0.0\n\tgithub.com/mholt/caddy-ratelimit v0.1.0\n)\n\nreplace github.com/messengerauth/caddy-messenger-auth => " + root + "\n",
		"main.go": "package main\n\nimport (\n\tcaddycmd \"github.com/caddyserver/caddy/v2/cmd\"\n\n\t_ \"github.com/caddyserver/caddy/v2/modules/standard\"\n" +
			"\t_ \"github.com/messengerauth/caddy-messenger-auth\"\n\t_ \"github.com/mholt/caddy-ratelimit\"\n)\n\nfunc main() { caddycmd.Main() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		return cmd.CombinedOutput()
	}
	if out, err := run("mod", "download", "github.com/mholt/caddy-ratelimit"); err != nil {
		t.Skipf("not run: caddy-ratelimit cannot be had here: %v\n%s", err, out)
	}
	if out, err := run("build", "-o", "caddy", "."); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return filepath.Join(dir, "caddy")
}

// caddy-ratelimit runs before messenger_auth unless it is told otherwise, when no contact is verified yet: all contacts share one
// allowance. In the documented order each contact has its own.
func TestRateLimitCountsContacts(t *testing.T) {
	binary := buildWithRateLimit(t)
	secret := newSecret()
	file := write(t, "secret", []byte(secret))
	for order, want := range map[string][]int{
		"":                                      {200, 200, 429},
		"order rate_limit after messenger_auth": {200, 200, 200},
	} {
		addr := freeAddr(t)
		config := write(t, "Caddyfile", []byte(`{
	admin off
	auto_https off
	`+order+`
	messenger support {
		identity_key identity
		shared_token {file.`+file+`} raw
	}
}
http://`+addr+` {
	rate_limit {
		zone contacts {
			key {http.messenger_auth.messenger}/{http.messenger_auth.identity}
			events 2
			window 10m
		}
	}
	messenger_auth support
	respond ok
}
`))
		cmd := exec.Command(binary, "run", "--adapter", "caddyfile", "--config", config)
		dir := t.TempDir()
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
		defer stop()
		get := func(identity string) int {
			r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if identity != "" {
				r.Header.Set("Authorization", "Bearer "+sign(secret, good(identity)))
			}
			resp, err := plainClient.Do(r)
			if err != nil {
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		if order == "" {
			// Any request would use up the shared allowance: the listener alone shows that the gateway runs.
			eventually(t, "the gateway listens", func() bool {
				conn, err := net.Dial("tcp", addr)
				if err == nil {
					conn.Close()
				}
				return err == nil
			})
		} else {
			eventually(t, "the gateway answers", func() bool { return get("") == http.StatusUnauthorized })
		}
		for i, identity := range []string{"mark", "eve", "zoe"} {
			if got := get(identity); got != want[i] {
				t.Errorf("order %q, the first request of %s: got %d, want %d", order, identity, got, want[i])
			}
		}
		if order != "" {
			if second, third := get("mark"), get("mark"); second != 200 || third != 429 {
				t.Errorf("two more requests of mark: got %d and %d, want 200 and 429", second, third)
			}
		}
		stop()
		if strings.Contains(log.String(), "panic") {
			t.Errorf("the gateway panicked:\n%s", log.String())
		}
	}
}
