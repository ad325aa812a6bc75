//go:build !race

package caddymodule_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// What a program pays that has the module in it, whether its configuration uses it or not: what our packages allocate when it
// starts stays in memory, and every garbage collection looks at it. Tables, templates and expressions of any size are therefore
// made when they are used first (sync.OnceValue).
func TestStartingAProgramWithTheModuleIsCheap(t *testing.T) {
	const maxBytes, maxAllocations = 64 << 10, 600 // idle, Caddy itself has 3.5 MB in 21,000 objects
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := exec.Command(program, "-test.run=^$")
	start.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := start.CombinedOutput()
	if err != nil {
		t.Fatalf("starting: %v", err)
	}
	packages, bytes, allocations := 0, 0, 0
	for line := range strings.Lines(string(out)) {
		// init <package> @23 ms, 0.029 ms clock, 16608 bytes, 118 allocs
		words := strings.Fields(line)
		if len(words) != 11 || words[0] != "init" || !strings.HasPrefix(words[1], "github.com/messengerauth/") {
			continue
		}
		b, errBytes := strconv.Atoi(words[7])
		n, errCount := strconv.Atoi(words[9])
		if errBytes != nil || errCount != nil {
			t.Fatalf("cannot read %q", line)
		}
		packages, bytes, allocations = packages+1, bytes+b, allocations+n
		t.Logf("%s: %d bytes, %d allocations", words[1], b, n)
	}
	if packages < 5 || bytes > maxBytes || allocations > maxAllocations {
		t.Errorf("%d packages of ours allocate %d bytes in %d allocations, want at most %d in %d", packages, bytes, allocations, maxBytes, maxAllocations)
	}
}
