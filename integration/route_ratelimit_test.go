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

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// buildWithRateLimit builds a gateway that includes caddy-ratelimit, in a module of its own, so that builds of the plugin do not
// inherit its requirements.
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
		t.Skipf("not run: caddy-ratelimit cannot be downloaded here: %v\n%s", err, out)
	}
	if out, err := run("build", "-o", "caddy", "."); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return filepath.Join(dir, "caddy")
}

// caddy-ratelimit runs before messenger_auth unless it is told otherwise, when no contact is verified yet: all contacts share one
// allowance. In the order of the documented recipe each contact has its own.
func TestRateLimitCountsContacts(t *testing.T) {
	recipe := recipeBlock(t, "Rate limits for contacts", "text")
	if got := string(caddyfile.Format([]byte(recipe))); got != recipe {
		t.Errorf("not formatted; caddy fmt writes\n%s", got)
	}
	binary := buildWithRateLimit(t)
	key := write(t, "support.pem", publicPEM(rsaKey(0)))
	const order = "\torder rate_limit after messenger_auth\n"
	for name, want := range map[string][]int{"without": {200, 200, 429}, "with": {200, 200, 200}} {
		addr := freeAddr(t)
		text := strings.NewReplacer("/etc/caddy/support.pem", key, "chat.example.com", "http://"+addr, "reverse_proxy chat-backend:9000", "respond ok",
			"events 60", "events 2", "window 1m", "window 10m").Replace(recipe)
		if name == "without" {
			text = strings.Replace(text, order, "", 1)
		}
		config := write(t, "Caddyfile", []byte(strings.Replace(text, "{\n", "{\n\tadmin off\n\tauto_https off\n", 1)))
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
				r.Header.Set("Authorization", "Bearer "+sign(rsaKey(0), valid(identity)))
			}
			resp, err := plainClient.Do(r)
			if err != nil {
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		if name == "without" {
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
				t.Errorf("%s the order, the first request of %s: got %d, want %d", name, identity, got, want[i])
			}
		}
		if name == "with" {
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
