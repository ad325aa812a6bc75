package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/pberkel/caddy-storage-redis" // a storage that nodes share
)

// asCaddy makes this process the gateway's command if it was started by the name that caddyBinary gives it. The tests
// have Caddy and the module in them, so that no second program needs to be built.
func asCaddy() {
	if filepath.Base(os.Args[0]) == "caddy" {
		if file := os.Getenv(clockVariable); file != "" {
			useClock(file)
		}
		caddycmd.Main()
		os.Exit(0)
	}
}

// caddyBinary returns the name of the caddy command with the module, for processes of their own.
func caddyBinary(t testing.TB) string {
	t.Helper()
	binary, err := linkCaddy()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

var linkCaddy = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(sockDir, "caddy")
	return binary, os.Symlink(self, binary)
})

// commandBinary returns the name of a program that starts quickly, for commands: see testdata/gateway. All processes of tests share it.
func commandBinary(t testing.TB) string {
	t.Helper()
	binary, err := linkCommands()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

var linkCommands = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(sharedDir, "commands")
	binary := filepath.Join(dir, "caddy")
	if err := os.Mkdir(dir, 0o700); err != nil {
		for deadline := time.Now().Add(5 * time.Minute); errors.Is(err, fs.ErrExist); time.Sleep(20 * time.Millisecond) { // another process links it
			if _, err := os.Stat(binary); err == nil {
				return binary, nil
			}
			if time.Now().After(deadline) {
				return "", errors.New("another process of the tests has not linked the program for commands")
			}
		}
		return "", err
	}
	// go run links only what has changed: it keeps the program in the build cache, from which cp takes it.
	if out, err := exec.Command("go", "run", "-exec", "cp -t "+dir, "./testdata/gateway").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program for commands: %w\n%s", err, out)
	}
	return binary, os.Rename(filepath.Join(dir, "gateway"), binary)
})

// aloneVariable names the test that a process was started for.
const aloneVariable = "MESSENGER_TEST_ALONE"

// atOnce is how many tests run in processes of their own at once. They wait more than they compute.
const atOnce = 8

// places are taken by tests that run in processes of their own.
var places = make(chan bool, atOnce)

// alone runs the calling test again in a process of its own: a process has one running configuration of Caddy, so that tests with
// a gateway in the same process must wait for each other. The new process runs from now on, or as soon as there is a place, beside
// all other tests; the calling one waits for it when those without a process of their own are done. alone reports true in the new
// process; a test begins with "if !alone(t) { return }". It is for tests that wait, or start programs.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) == t.Name() {
		return true
	}
	report := runAgain(t, places, aloneVariable+"="+t.Name())
	t.Parallel()
	report(t)
	return false
}

// soaking reports whether the heavy tests run in full, with MESSENGER_SOAK=1.
func soaking() bool { return os.Getenv("MESSENGER_SOAK") == "1" }

// soak scales the size of a heavy test: a tenth, or all of it with MESSENGER_SOAK=1.
func soak(n int) int {
	if soaking() {
		return n
	}
	return n / 10
}

// runAgain starts the calling test in another process, which takes one of the places, if they are not nil. What it returns waits
// for the end, and reports it.
func runAgain(t *testing.T, places chan bool, environment ...string) func(t *testing.T) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	environment = append(os.Environ(), environment...)
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		if places != nil {
			places <- true
			defer func() { <-places }()
		}
		limit := 5 * time.Minute
		if soaking() {
			limit = 2 * time.Hour
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+name+"$", "-test.v", "-test.timeout", limit.String())
		cmd.Env = environment
		out, err := cmd.CombinedOutput()
		done <- result{out, err}
	}()
	wait := sync.OnceValue(func() result { return <-done })
	t.Cleanup(func() { wait() })
	return func(t *testing.T) {
		t.Helper()
		got := wait()
		var exit *exec.ExitError
		switch {
		case got.err != nil && !errors.As(got.err, &exit):
			t.Fatal(got.err)
		case got.err != nil || !strings.Contains(string(got.out), "\n--- "):
			t.Errorf("in a process of its own: %v\n%s", got.err, got.out)
		case strings.Contains(string(got.out), "\n--- SKIP: "+name):
			t.Skipf("in a process of its own:\n%s", got.out)
		}
	}
}
