package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// What ./xcaddy.sh bench measures is not judged here, only that every server does what it is measured for.
func TestBenchmarkRuns(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the benchmark reads CPU times from /proc, which only Linux has")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	// Go keeps what it has built to run in its cache, so that it is linked again only after a change.
	name, err := exec.CommandContext(ctx, "go", "run", "-exec", "echo", "./testdata/bench").Output()
	if err != nil {
		exit := new(exec.ExitError)
		_ = errors.As(err, &exit)
		t.Fatalf("building: %v\n%s", err, exit.Stderr)
	}
	program := strings.TrimSpace(string(name))
	for load, servers := range map[string][]string{
		"one hot token":                {"plain Caddy, RS256 tokens", "gateway, RS256", "plain Caddy, HS256 tokens", "gateway, HS256"},
		"20 RS256 tokens used once":    {"bare verification, RS256", "gateway, RS256"},
		"forged HS256 tokens":          {"static 401", "gateway, HS256"},
		"20 HS256 tokens used once":    {"bare verification, HS256", "gateway, HS256"},
		"no load that there is, first": nil,
	} {
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
			if !strings.HasPrefix(row, "| "+load+" | "+servers[i]+" | ") {
				t.Errorf("%s: got %q, want a row for %s", load, row, servers[i])
			}
		}
	}
}
