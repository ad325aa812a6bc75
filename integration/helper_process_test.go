package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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

// soaking reports whether the heavy tests run in full, with MESSENGER_SOAK=1.
func soaking() bool { return os.Getenv("MESSENGER_SOAK") == "1" }

// soak scales the size of a heavy test: a tenth, or all of it with MESSENGER_SOAK=1.
func soak(n int) int {
	if soaking() {
		return n
	}
	return n / 10
}
