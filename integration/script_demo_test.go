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
	"syscall"
	"testing"
	"time"
)

// A second demo from the same checkout removed the admin socket of the first, which could not be administered any more.
func TestSecondDemoLeavesTheFirstAlone(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("not run: a socket with a long name is reached over /proc")
	}
	binary := newShell(t).binary
	c := newCheckout(t)
	c.env = append(c.env, "STUB_BINARY="+binary)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	others := []string{"DEMO_PORT=" + freePort(t), "DEMO_BACKEND_PORT=" + freePort(t)}

	first := c.demo(ctx)
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
