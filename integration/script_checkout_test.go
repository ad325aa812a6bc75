package integration

import (
	"bytes"
	"context"
	"errors"
	"net"
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

// A checkout is a copy of what xcaddy.sh needs, with a go command and an xcaddy that build nothing: the binary is there.
type checkout struct {
	t   *testing.T
	dir string // what was checked out
	bin string // stubs of programs, first in PATH
	env []string
}

// stubGo answers what the script asks the go command. STUB_GO is its version, STUB_ERROR what is wrong with the module.
const stubGo = `#!/bin/sh
case "$*" in
version) echo "go version ${STUB_GO-go1.26.0} linux/amd64" ;;
"env GOOS") echo linux ;;
"env GOCACHE") echo "${GOCACHE:-$HOME/.cache/go-build}" ;;
*"list -m -f"*) echo v2.11.9 ;;
*"list -m") [ -z "$STUB_ERROR" ] || { echo "$STUB_ERROR" >&2; exit 1; }; echo example.com/module ;;
*"tool "*" -n xcaddy") echo "$(dirname "$0")/xcaddy" ;;
*) echo "go $*: nobody expected this" >&2; exit 1 ;;
esac
`

const stubXcaddy = `#!/bin/sh
while [ "$1" != --output ]; do shift; done
cp "$STUB_BINARY" "$2.new" && mv "$2.new" "$2"
`

func newCheckout(t *testing.T) *checkout {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("not run: the script needs bash")
	}
	requireOwnProgram(t)
	c := &checkout{t: t, dir: filepath.Join(t.TempDir(), "checkout"), bin: t.TempDir()}
	for _, name := range []string{"xcaddy.sh", "Caddyfile.example", "go.mod"} {
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		c.write(filepath.Join(c.dir, name), text)
	}
	c.write(filepath.Join(c.bin, "go"), []byte(stubGo))
	c.write(filepath.Join(c.bin, "xcaddy"), []byte(stubXcaddy))
	c.env = []string{"PATH=" + c.bin + ":" + os.Getenv("PATH"), "HOME=" + c.folder(), "TMPDIR=" + c.folder(), "DEMO_PORT=" + freePort(t), "DEMO_BACKEND_PORT=" + freePort(t), "DEMO_PANEL_PORT=" + freePort(t)}
	return c
}

func (c *checkout) write(path string, text []byte) {
	c.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o755)); err != nil {
		c.t.Fatal(err)
	}
}

// folder makes a folder to which every user may write.
func (c *checkout) folder() string {
	c.t.Helper()
	dir := c.t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

func freePort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// command returns the script with its arguments. Later settings of env win.
func (c *checkout) command(ctx context.Context, args []string, env ...string) (cmd *exec.Cmd, out, complaints *bytes.Buffer) {
	cmd = exec.CommandContext(ctx, filepath.Join(c.dir, "xcaddy.sh"), args...)
	cmd.Dir, cmd.Env = "/", append(slices.Clone(c.env), env...)
	out, complaints = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, complaints
	cmd.WaitDelay = 10 * time.Second
	return cmd, out, complaints
}

// refused wants the script to end at once, with one line that says every word of want.
func (c *checkout) refused(as *syscall.Credential, args, env []string, want ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, out, complaints := c.command(ctx, args, env...)
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
		c.t.Errorf("got %v, want the status 1", err)
	}
	text := complaints.String()
	if !strings.HasPrefix(text, "xcaddy.sh: ") || strings.Count(text, "\n") != 1 || out.Len() > 0 {
		c.t.Errorf("it did not say one line:\n%s%s", out, text)
	}
	for _, word := range want {
		if !strings.Contains(text, word) {
			c.t.Errorf("%q does not say %q", text, word)
		}
	}
}

// What keeps the script from working was found late, with pages of other programs' output, or never.
func TestScriptReportsMissingToolsInOneLine(t *testing.T) {
	if !alone(t) {
		return
	}
	c := newCheckout(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	full := t.TempDir()
	c.write(filepath.Join(full, "df"), []byte("#!/bin/sh\necho Filesystem\necho x 100 99 1 99% /\n"))
	for _, test := range []struct {
		name, args string
		env        []string
		want       []string
	}{
		{"Go 1.19", "build", []string{"STUB_GO=go1.19.8"}, []string{"Go 1.26", "1.19.8", "https://go.dev/doc/install"}},
		{"Go 1.19, for the demo", "run", []string{"STUB_GO=go1.19.8"}, []string{"Go 1.26", "1.19.8"}},
		{"Go 1.19, for the benchmark", "bench", []string{"STUB_GO=go1.19.8"}, []string{"Go 1.26", "1.19.8"}},
		{"Go 1.20", "build", []string{"STUB_GO=go1.20"}, []string{"Go 1.26", "1.20"}},
		{"a Go that must not fetch another", "build", []string{"STUB_GO=go1.24.1", "STUB_ERROR=go: go.mod requires go >= 1.26.0 (running go 1.24.1; GOTOOLCHAIN=local)"}, []string{"GOTOOLCHAIN=auto", "1.24.1"}},
		{"a Go that cannot fetch another", "build", []string{"STUB_GO=go1.24.1", "STUB_ERROR=a\nb\ngo: download go1.26.0 for linux/amd64: toolchain not available"}, []string{"toolchain not available", "install"}},
		{"another fault of the module", "build", []string{"STUB_ERROR=go: a\ngo: parsing go.mod: broken"}, []string{"parsing go.mod: broken"}},
		{"no home", "build", []string{"HOME=/dev/null/nowhere"}, []string{"/dev/null/nowhere", "HOME", "GOCACHE"}},
		{"no home at all", "build", []string{"GOCACHE=off"}, []string{"HOME", "GOCACHE"}},
		{"no folder for temporary files", "build", []string{"TMPDIR=" + full + "/no"}, []string{full + "/no", "TMPDIR"}},
		{"a full disk", "build", []string{"PATH=" + full + ":" + c.bin + ":" + os.Getenv("PATH")}, []string{"0 MiB", "GOCACHE"}},
		{"OUTPUT is a folder", "build", []string{"OUTPUT=" + full}, []string{"OUTPUT", full}},
		{"OUTPUT is nowhere", "build", []string{"OUTPUT=" + full + "/no/caddy"}, []string{"OUTPUT", full + "/no"}},
		{"OUTPUT is nowhere, for the demo", "run", []string{"OUTPUT=" + full + "/no/caddy"}, []string{"OUTPUT", full + "/no"}},
		{"a port in use", "run", []string{"DEMO_PORT=" + port}, []string{port, "in use", "DEMO_PORT"}},
		{"the backend's port in use", "run", []string{"DEMO_BACKEND_PORT=" + port}, []string{port, "in use", "DEMO_BACKEND_PORT"}},
		{"the panel's port in use", "run", []string{"DEMO_PANEL_PORT=" + port}, []string{port, "in use", "DEMO_PANEL_PORT"}},
		{"the panel on the port of the site", "run", []string{"DEMO_PORT=34567", "DEMO_PANEL_PORT=34567"}, []string{"34567", "three ports"}},
		{"the panel's port is none", "run", []string{"DEMO_PANEL_PORT=0"}, []string{`"0"`, "DEMO_PANEL_PORT"}},
		{"a port that is none", "run", []string{"DEMO_PORT=80a"}, []string{"80a", "DEMO_PORT"}},
		{"a port that is too high", "run", []string{"DEMO_BACKEND_PORT=70000"}, []string{"70000", "DEMO_BACKEND_PORT"}},
		{"one port for both", "run", []string{"DEMO_PORT=34567", "DEMO_BACKEND_PORT=34567"}, []string{"34567"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := *c
			c.t = t
			c.refused(nil, []string{test.args}, test.env, test.want...)
		})
	}
	if _, err := os.Stat(filepath.Join(c.dir, "caddy")); err == nil {
		t.Error("something was built")
	}
}

// Debian's Go cannot read a go.mod of today, and says so in its own words, at the end.
func TestScriptOnDebiansGo(t *testing.T) {
	const debians = "/usr/lib/go-1.19/bin"
	if _, err := os.Stat(debians + "/go"); err != nil {
		lacks(t, "go-1.19", err)
	}
	c := newCheckout(t)
	for _, command := range []string{"build", "run", "bench"} {
		c.refused(nil, []string{command}, []string{"PATH=" + debians + ":/usr/bin:/bin"}, "Go 1.26", debians, "1.19", "https://go.dev/doc/install")
	}
}

// Without any Go. PATH has everything else.
func TestScriptWithoutGo(t *testing.T) {
	c := newCheckout(t)
	tools := t.TempDir()
	for _, name := range []string{"bash", "env", "sed", "awk", "dirname", "id", "df", "cat"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(tools, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.refused(nil, []string{"run"}, []string{"PATH=" + tools}, "go is not in PATH", "https://go.dev/doc/install")
}

// The checkout belongs to root, and another user may only read it.
func TestScriptWithAReadOnlyCheckout(t *testing.T) {
	if os.Geteuid() != 0 {
		lacks(t, "root", errors.New("only root can become another user"))
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	c := newCheckout(t)
	readable(t, c.dir, c.bin)
	own := c.folder()
	for _, test := range []struct {
		name, args string
		env        []string
		want       []string
	}{
		{"build", "build", nil, []string{"cannot write", filepath.Join(c.dir, "caddy"), "OUTPUT"}},
		{"run", "run", nil, []string{"cannot write", filepath.Join(c.dir, "demo"), "checkout of your own"}},
		{"run with a binary elsewhere", "run", []string{"OUTPUT=" + own + "/caddy"}, []string{filepath.Join(c.dir, "demo"), "checkout of your own"}},
		{"build without a home", "build", []string{"HOME=/nonexistent", "OUTPUT=" + own + "/caddy"}, []string{"/nonexistent", "HOME"}},
		{"build without TMPDIR", "build", []string{"TMPDIR=/nonexistent", "OUTPUT=" + own + "/caddy"}, []string{"/nonexistent", "TMPDIR"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := *c
			c.t = t
			c.refused(nobody, []string{test.args}, test.env, test.want...)
		})
	}

	t.Run("the demo of another user", func(t *testing.T) {
		c := newCheckout(t)
		readable(t, c.dir, c.bin)
		if err := errors.Join(os.Chmod(c.dir, 0o777), os.MkdirAll(filepath.Join(c.dir, "demo"), 0o700)); err != nil {
			t.Fatal(err)
		}
		c.refused(nobody, []string{"run"}, nil, filepath.Join(c.dir, "demo"), "checkout of your own")
	})
	t.Run("a port of root", func(t *testing.T) {
		text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		if lowest, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && lowest <= 80 {
			t.Skip("not run: everybody may listen on port 80 here")
		}
		c := newCheckout(t)
		readable(t, c.dir, c.bin)
		if err := os.Chmod(c.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		c.refused(nobody, []string{"run"}, []string{"DEMO_PORT=80"}, "port 80", "DEMO_PORT")
	})
	t.Run("a binary elsewhere is built", func(t *testing.T) {
		c := *c
		c.t = t
		cmd, out, complaints := c.command(t.Context(), []string{"build"}, "OUTPUT="+own+"/caddy", "STUB_BINARY=/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
		if err := cmd.Run(); err != nil {
			t.Errorf("%v\n%s%s", err, out, complaints)
		}
	})
}

// readable lets other users read folders that the test made, and reach them.
func readable(t *testing.T, folders ...string) {
	t.Helper()
	for _, dir := range folders {
		for ; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}
