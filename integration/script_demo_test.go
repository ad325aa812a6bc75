package integration

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A second demo from the same checkout removed the admin socket of the first, which could not be administered any more.
func TestSecondDemoDoesNotAffectTheFirst(t *testing.T) {
	if !alone(t) {
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("not run: a socket with a long name is reached over /proc")
	}
	binary := caddyBinary(t)
	c := newCheckout(t)
	c.env = append(c.env, "STUB_BINARY="+binary)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	others := []string{"DEMO_PORT=" + freePort(t), "DEMO_BACKEND_PORT=" + freePort(t), "DEMO_PANEL_PORT=" + freePort(t)}

	first := c.demo(ctx)
	c.fitsTheTerminal()
	c.keepsItsPassword()
	password := c.read("panel.password")
	for range 2 {
		c.refused(nil, []string{"run"}, others, "already runs", "another checkout")
		c.administered()
	}
	c.refused(nil, []string{"run"}, nil, "already runs") // and not that its own port is in use
	c.administered()
	// Nor is the binary replaced under the first demo's feet in a way that it notices.
	if cmd, out, complaints := c.command(ctx, []string{"build"}); cmd.Run() != nil {
		t.Errorf("building while the demo runs: %s%s", out, complaints)
	}
	c.administered()
	c.end(first, syscall.SIGKILL)

	// What a demo left that was killed hinders nobody.
	second := c.demo(ctx, others...)
	if c.read("panel.password") != password {
		t.Error("the second demo has another password than the first")
	}
	c.end(second, syscall.SIGINT)

	// Caddyfile.example may be served without the script.
	byHand := exec.CommandContext(ctx, filepath.Join(c.dir, "caddy"), "run", "--config", "Caddyfile.example", "--adapter", "caddyfile")
	byHand.Dir, byHand.Env = c.dir, append(slices.Clone(c.env), "XDG_DATA_HOME="+c.dir+"/demo", "XDG_CONFIG_HOME="+c.dir+"/demo")
	if err := byHand.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the demo answers", c.answers)
	c.refused(nil, []string{"run"}, others, "already runs")
	c.administered()
	c.end(byHand, syscall.SIGINT)
}

// demo runs the demo and waits until it prints its requests.
func (c *checkout) demo(ctx context.Context, env ...string) *exec.Cmd {
	c.t.Helper()
	cmd, _, _ := c.command(ctx, []string{"run"}, env...)
	out, err := os.Create(filepath.Join(c.t.TempDir(), "out"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cmd.Process.Kill() })
	within(c.t, 2*time.Minute, "the demo prints its requests", func() bool {
		text, _ := os.ReadFile(out.Name())
		return bytes.Contains(text, []byte("These tokens are valid"))
	})
	c.administered()
	return cmd
}

func (c *checkout) read(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "demo", name))
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// fitsTheTerminal checks what the demo prints: it wrapped, and scrolled out of the window, with tokens of several lines.
func (c *checkout) fitsTheTerminal() {
	c.t.Helper()
	list := strings.ReplaceAll(c.read("requests.txt"), c.dir, "/srv/caddy-messenger-auth")
	if n := strings.Count(list, "\n") + 1; n > 23 {
		c.t.Errorf("the list has %d lines, which a terminal with 24 does not show below an empty one:\n%s", n, list)
	}
	for line := range strings.Lines(list) {
		if line = strings.TrimSuffix(line, "\n"); len(line) > 80 {
			c.t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	for _, word := range []string{"http://localhost:", "user: operator   password: " + c.read("panel.password"), "-H @demo/support.header ", "./caddy messenger sign "} {
		if !strings.Contains(list, word) {
			c.t.Errorf("the list does not say %q:\n%s", word, list)
		}
	}
}

// keepsItsPassword checks that the password and the tokens are for their owner alone, and that the panel takes this password.
func (c *checkout) keepsItsPassword() {
	c.t.Helper()
	for _, name := range []string{"panel.password", "panel.hash", "support.header", "forged.header", "requests.txt", "sales.token", "support.key.pem"} {
		if info, err := os.Stat(filepath.Join(c.dir, "demo", name)); err != nil || info.Mode().Perm() != 0o600 {
			c.t.Errorf("%s: %v %v", name, info, err)
		}
	}
	password := c.read("panel.password")
	if len(password) != 16 {
		c.t.Errorf("the password has %d characters", len(password))
	}
	for given, want := range map[string]int{password: http.StatusOK, "": http.StatusUnauthorized, password + "x": http.StatusUnauthorized} {
		r, err := http.NewRequest(http.MethodGet, strings.Fields(c.panelLine())[0], nil)
		if err != nil {
			c.t.Fatal(err)
		}
		r.SetBasicAuth("operator", given)
		resp, err := plainClient.Do(r)
		if err != nil {
			c.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			c.t.Errorf("the panel with a password of %d characters: got %d, want %d", len(given), resp.StatusCode, want)
		}
	}
}

// panelLine is the line with the address of the panel.
func (c *checkout) panelLine() string {
	c.t.Helper()
	for line := range strings.Lines(c.read("requests.txt")) {
		if strings.Contains(line, "user: operator") {
			return line
		}
	}
	c.t.Fatal("the list has no panel")
	return ""
}

func (c *checkout) answers() bool {
	// The socket's whole path may be too long for its name.
	dir, err := os.Open(c.dir)
	if err != nil {
		return false
	}
	defer dir.Close()
	resp, err := socketClient("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/demo/admin.sock").Get("http://localhost/config/")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (c *checkout) administered() {
	c.t.Helper()
	if !c.answers() {
		c.t.Error("the admin socket of the demo does not answer")
	}
}

func (c *checkout) end(cmd *exec.Cmd, signal os.Signal) {
	c.t.Helper()
	_ = cmd.Process.Signal(signal)
	_ = cmd.Wait()
	if c.answers() {
		c.t.Error("the demo still runs")
	}
}
