package messenger

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/succession"
)

// A scrape collects the metrics that are read when Prometheus asks: caches, keys, the store, open connections, meters. It
// covers the messengers of the running configuration, and the stored ones in memory, which share one label.
type scrape struct {
	mu           sync.Mutex
	hits, misses uint64 // as last reported: a stale entry counts as a hit for a moment, and then as a miss, so that hits may seem to decrease
}

// processScrape belongs to the process, like metrics.Process.
var processScrape = new(scrape)

var descs []*prometheus.Desc // all of those below

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(prometheus.BuildFQName(metrics.Namespace, metrics.Subsystem, name), help, labels, nil)
	descs = append(descs, d)
	return d
}

var (
	cacheEntries   = desc("cache_entries", "Verified tokens in the cache.")
	cacheHits      = desc("cache_hits_total", "Tokens that were in the cache and still valid.")
	cacheMisses    = desc("cache_misses_total", "Tokens that were not in the cache, or no longer valid.")
	cacheEvictions = desc("cache_evictions_total", "Tokens that were removed from the cache to make room.")
	jwksAge        = desc("jwks_age_seconds", "Time since the key set was last fetched or confirmed.", "messenger")
	jwksKeys       = desc("jwks_keys", "Keys of the key set that can be used now.", "messenger")
	jwksStale      = desc("jwks_stale", "1 if the key set is used beyond its lifetime, because it cannot be fetched; for stored messengers, their number.", "messenger")
	storeAge       = desc("store_age_seconds", "Time since changes were last read from the store.")
	storeFailing   = desc("store_failing", "1 while the storage, or what changed in it, cannot be read; what was read before stays active.")
	storeLag       = desc("store_lag_seconds", "Time since everything that this node has in memory was known to be up to date.")
	storeWrites    = desc("store_writes_total", "Writes of facts, by their outcome; after an unknown one the same facts are written again.", "outcome")
	storeWaiting   = desc("store_waiting", "Logouts that wait to be written.")
	storeFacts     = desc("store_facts", "Facts of the store in memory.")
	storeLost      = desc("store_lost_messengers", "Messengers and key sets of which the storage has lost facts that this node knows.")
	storeAhead     = desc("store_clock_ahead_messengers", "Messengers with a fact whose time is more than an hour ahead of this node's clock.")
	connections    = desc("connections", "Guarded connections that are open.", "messenger")
	tokenEnd       = desc("shared_token_end_seconds", "Time until the last of the generated shared tokens expires; +Inf if it does not expire.", "messenger")
	tokenInUseEnd  = desc("shared_token_in_use_end_seconds", "Time until the shared token in use expires, if a newer one was not used yet; otherwise +Inf.", "messenger")
	readiness      = desc("readiness_requests", "Requests of the last 1h or 24h by their code; \"verified\" would pass under required.", "messenger", "window", "code")
)

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	s.collectCache(ch)
	active, err := ActiveApp()
	if err != nil {
		return
	}
	app := active.Registry()
	open := make(map[string]float64)
	for name := range app.Messengers {
		open[name] = 0
	}
	for name, n := range registry.Connections.Open() {
		open[app.Label(name)] += float64(n)
	}
	gauges(ch, connections, open)

	now := time.Now()
	status, failing := app.Status(), 0.0
	if status.Err != nil {
		failing = 1
	}
	ch <- prometheus.MustNewConstMetric(storeFailing, prometheus.GaugeValue, failing)
	if !status.Polled.IsZero() {
		ch <- prometheus.MustNewConstMetric(storeAge, prometheus.GaugeValue, now.Sub(status.Polled).Seconds())
	}
	collectStore(ch, app.StoreStats(), now)
	collectKeys(ch, app, now)
	collectMeters(ch, app, now)
}

// collectStore reports on the store.
func collectStore(ch chan<- prometheus.Metric, stats registry.StoreStats, now time.Time) {
	gauge := func(desc *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	if !stats.Current.IsZero() {
		gauge(storeLag, now.Sub(stats.Current).Seconds())
	}
	for outcome, n := range map[string]int64{"written": stats.Written, "failed": stats.Failed, "unknown": stats.Unknown} {
		ch <- prometheus.MustNewConstMetric(storeWrites, prometheus.CounterValue, float64(n), outcome)
	}
	gauge(storeWaiting, float64(stats.Waiting))
	gauge(storeFacts, float64(stats.Facts))
	gauge(storeLost, float64(stats.Lost))
	gauge(storeAhead, float64(stats.Ahead))
}

func (s *scrape) collectCache(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	stats := registry.VerifiedTokens.Stats()
	s.hits, s.misses = max(s.hits, stats.Hits), max(s.misses, stats.Misses)
	hits, misses := s.hits, s.misses
	s.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(cacheEntries, prometheus.GaugeValue, float64(stats.Entries))
	ch <- prometheus.MustNewConstMetric(cacheHits, prometheus.CounterValue, float64(hits))
	ch <- prometheus.MustNewConstMetric(cacheMisses, prometheus.CounterValue, float64(misses))
	ch <- prometheus.MustNewConstMetric(cacheEvictions, prometheus.CounterValue, float64(stats.Evictions))
}

// collectKeys reports on keys that change without a reload. For messengers that share a label it reports the worst value.
func collectKeys(ch chan<- prometheus.Metric, app *registry.Registry, now time.Time) {
	age, keys, stale, end, inUse := make(map[string]float64), make(map[string]float64), make(map[string]float64), make(map[string]float64), make(map[string]float64)
	for m := range app.Active() {
		label := m.Label()
		summary := m.Verifier.Load().Summary()
		switch {
		case m.KeySet != nil:
			status := m.KeySet.Status()
			if _, another := keys[label]; !another || float64(summary.Keys) < keys[label] {
				keys[label] = float64(summary.Keys)
			}
			stale[label] += 0
			if status.Fetched.IsZero() {
				continue
			}
			age[label] = max(age[label], now.Sub(status.Fetched).Seconds())
			if !now.Before(status.FreshUntil) {
				stale[label]++
			}
		case m.IsGenerated() && summary.Keys > 0:
			earliest(end, label, summary.Until, now)
			var until time.Time
			if w := succession.Of(app.Store.RingOf(m)); w != nil && w.Next != nil && !w.Used {
				until = *w.Token.End
			}
			earliest(inUse, label, until, now)
		}
	}
	gauges(ch, jwksAge, age)
	gauges(ch, jwksKeys, keys)
	gauges(ch, jwksStale, stale)
	gauges(ch, tokenEnd, end)
	gauges(ch, tokenInUseEnd, inUse)
}

// earliest records in ends how many seconds are left, or +Inf if until is zero. It keeps the smallest value of the messengers that
// share a label.
func earliest(ends map[string]float64, label string, until, now time.Time) {
	seconds := math.Inf(1)
	if !until.IsZero() {
		seconds = max(until.Sub(now).Seconds(), 0)
	}
	if earlier, another := ends[label]; !another || seconds < earlier {
		ends[label] = seconds
	}
}

func collectMeters(ch chan<- prometheus.Metric, app *registry.Registry, now time.Time) {
	type labels struct {
		messenger string
		window    metrics.MeterWindow
		code      int // an index in metrics.Codes
	}
	sums := make(map[labels]uint64)
	for m := range app.Active() {
		for code := range metrics.Codes {
			if m.Meter.Counts[code].Load() == nil {
				continue
			}
			for _, w := range []metrics.MeterWindow{metrics.LastHour, metrics.LastDay} {
				sums[labels{m.Label(), w, code}] += m.Meter.Count(code, w, now.Unix())
			}
		}
	}
	for l, n := range sums {
		ch <- prometheus.MustNewConstMetric(readiness, prometheus.GaugeValue, float64(n), l.messenger, l.window.Name, metrics.Codes[l.code])
	}
}

func gauges(ch chan<- prometheus.Metric, desc *prometheus.Desc, values map[string]float64) {
	for label, value := range values {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, label)
	}
}
