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
func TestModuleStartCostIsBounded(t *testing.T) {
	const maxBytes, maxAllocations = 64 << 10, 600 // idle, Caddy itself has 3.5 MB in 21,000 objects
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The runtime counts for a package whatever is allocated meanwhile, now and then by a goroutine of its own: the least of
	// several starts is what the package costs.
	costs := make(map[string]startCost)
	for range 5 {
		for name, cost := range startCosts(t, program) {
			if least, known := costs[name]; !known || cost.bytes < least.bytes {
				costs[name] = cost
			}
		}
	}
	bytes, allocations := 0, 0
	for name, cost := range costs {
		t.Logf("%s: %d bytes, %d allocations", name, cost.bytes, cost.allocations)
		bytes, allocations = bytes+cost.bytes, allocations+cost.allocations
	}
	if len(costs) < 5 || bytes > maxBytes || allocations > maxAllocations {
		t.Errorf("%d packages of ours allocate %d bytes in %d allocations, want at most %d in %d", len(costs), bytes, allocations, maxBytes, maxAllocations)
	}
}

type startCost struct{ bytes, allocations int }

// startCosts starts the program once, and returns what each of our packages has allocated.
func startCosts(t *testing.T, program string) map[string]startCost {
	start := exec.Command(program, "-test.run=^$")
	start.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := start.CombinedOutput()
	if err != nil {
		t.Fatalf("starting: %v", err)
	}
	costs := make(map[string]startCost)
	for line := range strings.Lines(string(out)) {
		// init <package> @23 ms, 0.029 ms clock, 16608 bytes, 118 allocs
		words := strings.Fields(line)
		if len(words) != 11 || words[0] != "init" || !strings.HasPrefix(words[1], "github.com/messengerauth/") {
			continue
		}
		bytes, errBytes := strconv.Atoi(words[7])
		allocations, errCount := strconv.Atoi(words[9])
		if errBytes != nil || errCount != nil {
			t.Fatalf("cannot read %q", line)
		}
		costs[words[1]] = startCost{bytes, allocations}
	}
	return costs
}
