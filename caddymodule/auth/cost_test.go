package auth

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/assertion"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// benchIssuer returns an issuer whose keys are in a folder of the benchmark.
func benchIssuer(b *testing.B, names []string) *assertion.Issuer {
	b.Helper()
	seal, err := vault.NewSealer([][]byte{make([]byte, vault.SealKeySize)})
	if err != nil {
		b.Fatal(err)
	}
	v := vault.New(seal, func() {})
	v.Use(&certmagic.FileStorage{Path: b.TempDir()})
	w := vault.NewWriter(v)
	w.Wrote = func(vault.Key, []json.RawMessage) int { return 0 }
	b.Cleanup(w.Stop)
	keys := assertion.NewKeys(v, w, time.Now)
	if err := keys.Refresh(b.Context(), assertion.EdDSA); err != nil {
		b.Fatal(err)
	}
	return assertion.NewIssuer(keys, assertion.EdDSA, "https://chat.example.com", []string{"chat-backend"}, defaultAssertionLifetime, names)
}

// BenchmarkMore measures what a feature adds to a request with a token in the cache, and what it adds where it is configured and
// the request does not use it. Requests with and without it alternate in short rounds, so that what else runs on the machine
// concerns both. The tenth part that was disturbed least is compared: the result is the difference, as ns-more/op, and the ratio.
func BenchmarkMore(b *testing.B) {
	const round = 100
	tokens := make([]string, 10_000)
	for i := range tokens {
		tokens[i] = signBench(benchSecret, fmt.Sprint("contact-", i), i)
	}
	limited := &ContactLimit{Connections: 5, Requests: 1_000_000, Window: caddy.Duration(time.Second)}
	for _, test := range []struct {
		name, messenger string
		contacts        int
		change          func(b *testing.B, h *Handler)
	}{
		{"nothing", "", 1, func(*testing.B, *Handler) {}},
		{"contact_limit", "", 1, func(_ *testing.B, h *Handler) { h.ContactLimit = limited }},
		{"contact_limit of 10000 contacts", "", 10_000, func(_ *testing.B, h *Handler) { h.ContactLimit = limited }},
		{"contact_claims that the token does not have", `"contact_claims": ["nickname"],`, 1, func(*testing.B, *Handler) {}},
		{"contact_claims", `"contact_claims": ["name", "email"],`, 1, func(*testing.B, *Handler) {}},
		{"assertion", "", 1, func(b *testing.B, h *Handler) { h.issuer = benchIssuer(b, nil) }},
		{"assertion of 10000 contacts", "", 10_000, func(b *testing.B, h *Handler) { h.issuer = benchIssuer(b, nil) }},
		{"cors", "", 1, func(_ *testing.B, h *Handler) { h.CORS = new(CORS); h.CORS.prepare(h.sources) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			without, with := benchHandler(b, "", ""), benchHandler(b, "", test.messenger)
			test.change(b, with)
			send := benchSender(b, 1, tokens[:test.contacts]...)
			measure := func(h *Handler) time.Duration {
				began := time.Now()
				for range round {
					send(h.ServeHTTP)
				}
				return time.Since(began) / round
			}
			for range 2 * test.contacts / round {
				_, _ = measure(without), measure(with)
			}
			var plain, more []time.Duration
			for b.Loop() {
				plain, more = append(plain, measure(without)), append(more, measure(with))
			}
			slices.Sort(plain)
			slices.Sort(more)
			before, after := plain[len(plain)/10], more[len(more)/10]
			b.ReportMetric(float64(after-before), "ns-more/op")
			b.ReportMetric(float64(after)/float64(before), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
