// Command bench measures what authentication costs: it runs Caddy as a plain proxy, Caddy with the bare cryptography, and
// the gateway, in turn on the same cores, and compares the CPU time that each spends on a request. The first two are a program
// without the gateway, plain, and the third is caddy; both are expected beside this one. ./xcaddy.sh bench builds and runs all.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// sizes are how much is measured.
type sizes struct {
	rounds  int
	seconds float64 // of one measurement
	tokens  int     // that are used once
}

func sizesFromEnv() (s sizes, err error) {
	s = sizes{rounds: 5, seconds: 5, tokens: 100_000}
	for name, set := range map[string]func(text string) error{
		"BENCH_ROUNDS":  func(text string) (err error) { s.rounds, err = strconv.Atoi(text); return err },
		"BENCH_SECONDS": func(text string) (err error) { s.seconds, err = strconv.ParseFloat(text, 64); return err },
		"BENCH_TOKENS":  func(text string) (err error) { s.tokens, err = strconv.Atoi(text); return err },
	} {
		if text := os.Getenv(name); text != "" {
			if err := set(text); err != nil {
				return s, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if s.rounds < 1 || s.seconds <= 0 || s.tokens < 1 {
		return s, fmt.Errorf("BENCH_ROUNDS, BENCH_SECONDS and BENCH_TOKENS must be above 0")
	}
	return s, nil
}

// A scenario is one kind of load. A variant is compared with the first one whose tokens have the same algorithm.
type scenario struct {
	name        string
	variants    []variant
	tokens      func(variant) []string
	once        bool // every token is sent once; otherwise they are sent in turn for some seconds
	status      int  // of every answer
	connections int
}

// A variant is one configuration of Caddy.
type variant struct {
	name string
	kind string // plain, bare, static, gateway, or unused: the gateway without any directive of its own
	alg  string // of the tokens
}

// program is the Caddy that a variant runs.
func (v variant) program() string {
	if v.kind == "gateway" || v.kind == "unused" {
		return "caddy"
	}
	return "plain"
}

func scenarios(s sizes, k *keys) []scenario {
	plain, plainHS256 := variant{"plain Caddy, RS256 tokens", "plain", "RS256"}, variant{"plain Caddy, HS256 tokens", "plain", "HS256"}
	rs256, hs256 := variant{"gateway, RS256", "gateway", "RS256"}, variant{"gateway, HS256", "gateway", "HS256"}
	bareRS256, bareHS256 := variant{"bare verification, RS256", "bare", "RS256"}, variant{"bare verification, HS256", "bare", "HS256"}
	static := variant{"static 401", "static", "HS256"}
	unused := variant{"gateway that is not used, RS256 tokens", "unused", "RS256"}
	worst := variant{"gateway, the worst tokens", "gateway", "RS256"}
	good := func(n int) func(variant) []string {
		return func(v variant) []string { return k.good(v.alg, n) }
	}
	forged := func(v variant) []string { return k.forged(v.alg) }
	const usual = 32
	list := []scenario{
		{"one hot token", []variant{plain, unused, rs256, plainHS256, hs256}, good(1), false, 200, usual},
		{fmt.Sprintf("%d tokens in turn", min(10_000, s.tokens)), []variant{plain, rs256, plainHS256, hs256}, good(min(10_000, s.tokens)), false, 200, usual},
		{fmt.Sprintf("%d RS256 tokens used once", s.tokens), []variant{bareRS256, rs256}, good(s.tokens), true, 200, usual},
		{fmt.Sprintf("%d HS256 tokens used once", s.tokens), []variant{bareHS256, hs256}, good(s.tokens), true, 200, usual},
		{"forged RS256 tokens", []variant{bareRS256, rs256}, forged, false, 401, usual},
		{"forged HS256 tokens", []variant{static, hs256}, forged, false, 401, usual},
		{"tokens that take long to refuse", []variant{rs256, worst}, func(v variant) []string {
			if v == worst {
				return worstTokens()
			}
			return forged(v)
		}, false, 401, usual},
		{"1000 connections, a token each", []variant{plain, rs256}, good(min(1000, s.tokens)), false, 200, 1000},
	}
	for _, alg := range []string{"PS256", "ES256", "EdDSA"} {
		bare, gateway := variant{"bare verification, " + alg, "bare", alg}, variant{"gateway, " + alg, "gateway", alg}
		list = append(list,
			scenario{fmt.Sprintf("%d %s tokens used once", s.tokens, alg), []variant{bare, gateway}, good(s.tokens), true, 200, usual},
			scenario{"forged " + alg + " tokens", []variant{bare, gateway}, forged, false, 401, usual})
	}
	return list
}

// A result is one measurement.
type result struct {
	cpu      float64 // microseconds of the server for each request
	rate     float64 // requests per second
	p50, p99 time.Duration
	memory   float64 // MiB that the server holds at the end
}

func bench() error {
	s, err := sizesFromEnv()
	if err != nil {
		return err
	}
	k, err := newKeys()
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d cores, %s, %d rounds of %g s; %s\n\n", processor(), cores(), runtime.Version(), s.rounds, s.seconds, pinning())
	fmt.Println("| load | server | CPU per request | ratio | requests/s | p50 | p99 | memory |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	only := os.Getenv("BENCH_ONLY")
	for _, sc := range scenarios(s, k) {
		if !strings.Contains(sc.name, only) {
			continue
		}
		results := make([][]result, len(sc.variants))
		for round := range s.rounds {
			list, err := measure(s, k, sc, round)
			if err != nil {
				return fmt.Errorf("%s: %w", sc.name, err)
			}
			for i, r := range list {
				results[i] = append(results[i], r)
			}
		}
		for i, v := range sc.variants {
			base := slices.IndexFunc(sc.variants, func(other variant) bool { return other.alg == v.alg })
			fmt.Println(row(sc.name, v.name, results[i], results[base]))
		}
	}
	return nil
}

// row describes the results of a variant. The ratio is that of the CPU time to the base's in the same round.
func row(load, server string, results, base []result) string {
	column := func(of func(result) float64) []float64 {
		var list []float64
		for _, r := range results {
			list = append(list, of(r))
		}
		return list
	}
	ratios := make([]float64, len(results))
	for i := range results {
		ratios[i] = results[i].cpu / base[i].cpu
	}
	milliseconds := func(d func(result) time.Duration) float64 {
		return median(column(func(r result) float64 { return float64(d(r)) / 1e6 }))
	}
	return fmt.Sprintf("| %s | %s | %s µs | %s | %.0f | %.2f ms | %.2f ms | %.0f MiB |", load, server,
		spread(column(func(r result) float64 { return r.cpu }), 1), spread(ratios, 2),
		median(column(func(r result) float64 { return r.rate })),
		milliseconds(func(r result) time.Duration { return r.p50 }), milliseconds(func(r result) time.Duration { return r.p99 }),
		median(column(func(r result) float64 { return r.memory })))
}

// spread writes the median with the smallest and largest value.
func spread(values []float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, median(values), digits, slices.Min(values), digits, slices.Max(values))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
