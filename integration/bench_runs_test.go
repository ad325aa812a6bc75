package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// What ./xcaddy.sh bench measures is not judged here, only that every server does what it is measured for.
func TestBenchmarkRuns(t *testing.T) {
	if !alone(t) {
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("the benchmark reads CPU times from /proc, which only Linux has")
	}
	requireOwnProgram(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	// go run links only what has changed: it keeps the program in the build cache, from which cp takes it.
	dir := t.TempDir()
	for _, program := range []string{"./testdata/bench", "./testdata/bench/plain"} {
		if output, err := exec.CommandContext(ctx, "go", "run", "-exec", "cp -t "+dir, program).CombinedOutput(); err != nil {
			t.Fatalf("building: %v\n%s", err, output)
		}
	}
	if err := os.Symlink(caddyBinary(t), filepath.Join(dir, "caddy")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "bench")
	loads := map[string][]string{
		"one hot token":                {"plain Caddy, RS256 tokens", "gateway that is not used, RS256 tokens", "gateway, RS256", "plain Caddy, HS256 tokens", "gateway, HS256"},
		"20 ES256 tokens used once":    {"bare verification, ES256", "gateway, ES256"},
		"forged HS256 tokens":          {"static 401", "gateway, HS256"},
		"tokens that take long":        {"gateway, RS256", "gateway, the worst tokens"},
		"no load that there is, first": nil,
	}
	if soaking() {
		for _, alg := range []string{"RS256", "HS256", "PS256", "EdDSA"} {
			loads["20 "+alg+" tokens used once"] = []string{"bare verification, " + alg, "gateway, " + alg}
		}
	}
	for load, servers := range loads {
		bench := exec.CommandContext(ctx, program)
		bench.Env = append(os.Environ(), "BENCH_ROUNDS=1", "BENCH_SECONDS=0.1", "BENCH_TOKENS=20", "BENCH_ONLY="+load)
		var stderr strings.Builder
		bench.Stderr = &stderr
		output, err := bench.Output()
		if err != nil {
			t.Errorf("%s: %v\n%s", load, err, stderr.String())
			continue
		}
		var rows []string
		for line := range strings.SplitSeq(string(output), "\n") {
			if strings.Contains(line, " µs | ") {
				rows = append(rows, line)
			}
		}
		if len(rows) != len(servers) {
			t.Errorf("%s: got the rows %q, want one for each of %q", load, rows, servers)
			continue
		}
		for i, row := range rows {
			if !strings.HasPrefix(row, "| "+load) || !strings.Contains(row, " | "+servers[i]+" | ") {
				t.Errorf("%s: got %q, want a row for %s", load, row, servers[i])
			}
		}
	}
}
