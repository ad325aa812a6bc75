package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// caddyBinary returns the name of the gateway's program for nodes: see testdata/gateway. With the race detector it has that too.
func caddyBinary(t testing.TB) string {
	t.Helper()
	if !raced {
		return commandBinary(t)
	}
	return built(t, buildRaced)
}

// commandBinary returns the name of the gateway's program for commands, which starts in half the time without the race detector.
func commandBinary(t testing.TB) string {
	t.Helper()
	return built(t, buildPlain)
}

// ownProgram is the word for the gateway's program in toolsVariable. Tests of commands, of nodes that share a storage, of processes that die
// and of scripts need it.
const ownProgram = "gateway"

// requireOwnProgram skips the test unless tests of the gateway's program are asked for.
func requireOwnProgram(t testing.TB) {
	t.Helper()
	if err := usable(ownProgram, "go"); err != nil {
		lacks(t, ownProgram, err)
	}
}

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	requireOwnProgram(t)
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

var (
	buildPlain = sync.OnceValues(func() (string, error) { return buildGateway("gateway") })
	buildRaced = sync.OnceValues(func() (string, error) { return buildGateway("raced", "-race") })
)

// buildGateway builds the gateway's program in a folder that all processes of tests share, or waits for the process that does.
func buildGateway(folder string, flags ...string) (string, error) {
	dir := filepath.Join(sharedDir, folder)
	binary := filepath.Join(dir, "caddy")
	if err := os.Mkdir(dir, 0o700); err != nil {
		for deadline := time.Now().Add(5 * time.Minute); errors.Is(err, fs.ErrExist); time.Sleep(20 * time.Millisecond) {
			if _, err := os.Stat(binary); err == nil {
				return binary, nil
			}
			if time.Now().After(deadline) {
				return "", errors.New("another process of the tests has not built the gateway's program")
			}
		}
		return "", err
	}
	// go run links only what has changed: it keeps the program in the build cache, from which cp takes it.
	args := append(append([]string{"run", "-exec", "cp -t " + dir}, flags...), "./testdata/gateway")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gateway's program: %w\n%s", err, out)
	}
	return binary, os.Rename(filepath.Join(dir, "gateway"), binary)
}

// hasNoFault fails the test if a process wrote what the tests' own process fails for: a data race, which the race detector tells there
// and nowhere else, or a panic.
func hasNoFault(t testing.TB, written []byte) {
	t.Helper()
	if at := findFault(written); at >= 0 {
		t.Errorf("the gateway wrote:\n%s", written[at:min(len(written), at+8<<10)])
	}
}

var (
	// servingPanics are what Go's HTTP servers and that for HTTP/3 write about a panic of a handler.
	servingPanics = regexp.MustCompile(`http[23]?: panic serving`)

	// wantedPanic is a panic that a test wants: its text begins with test_panic.
	wantedPanic = regexp.MustCompile(`^(http2?: panic serving \S*: |http3: panic serving"?,? ?"?arg"?[=:]"?)test_panic: `)
)

// findFault returns where a report of the race detector, of Go's runtime or of an HTTP server is, or -1. Each panic of a handler is
// looked at: one that a test wants hides no other.
func findFault(written []byte) int {
	for _, report := range []string{"WARNING: DATA RACE\n", "panic: ", "fatal error: "} {
		if bytes.HasPrefix(written, []byte(report)) {
			return 0
		}
		if at := bytes.Index(written, []byte("\n"+report)); at >= 0 {
			return at + 1
		}
	}
	for _, found := range servingPanics.FindAllIndex(written, -1) {
		if !wantedPanic.Match(written[found[0]:]) {
			return found[0]
		}
	}
	return -1
}

// soaking reports whether the heavy tests run in full, with MESSENGER_SOAK=1.
func soaking() bool { return os.Getenv("MESSENGER_SOAK") == "1" }

// soak scales the size of a heavy test: a tenth, with the race detector a fortieth, or all of it with MESSENGER_SOAK=1.
func soak(n int) int {
	switch {
	case soaking():
		return n
	case raced:
		return n / 40
	}
	return n / 10
}

// sampled reports whether the case number i runs of those that differ in the configuration, or in what is sent, and in nothing that runs
// beside something else. With the race detector that is every fourth, or all of them with MESSENGER_SOAK=1.
func sampled(i int) bool { return !raced || soaking() || i%4 == 0 }
