// Package metrics has the counters of the gateway that belong to the process, and the meters by which site owners find out
// what the mode "required" would do.
//
// It does not know messengers or requests; the callers give it names, codes and times. Metrics whose values are computed for a
// scrape are in package messenger.
//
// Begin reading with [Collectors], where a metric is added, and [Meter]; readiness.go makes the report of a meter.
package metrics

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/buildinfo"
)

// Collectors are the collectors of the process. Caddy makes a new registry with every configuration; these are registered
// with each of them, so that a reload does not reset counters.
//
// Labels come from the configuration and from closed lists, never from a request. docs/monitoring.md has a table of all of them,
// and a test compares the two.
type Collectors struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	Fetches  *prometheus.CounterVec
	Ended    *prometheus.CounterVec
	Errors   prometheus.Counter
	Writes   prometheus.Histogram
	dropped  *prometheus.CounterVec
	drops    atomic.Uint64
}

const (
	Namespace = "caddy"
	Subsystem = "messenger_auth"

	// hitSampling is how many cache hits there are for each one that is timed. Reading the clock costs a tenth of a hit.
	hitSampling = 16
)

var Process = &Collectors{
	requests: newCounterVec("requests_total",
		"Requests that messenger_auth decided on; the code is \"verified\" or an error code.", "messenger", "method", "mode", "code"),
	seconds: prometheus.NewHistogramVec(histogramOpts("verification_seconds",
		"How long it took to decide on a token, by what the cache said: hit (of these one in 16 is timed), miss, or off.",
		1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 0.1, 1, 5), []string{"method", "cache"}),
	Fetches: newCounterVec("jwks_fetches_total", "Fetches of key sets, by their outcome.", "messenger", "outcome"),
	Ended: newCounterVec("connections_ended_total",
		"Guarded connections that ended; the reason is \"closed\" if the client or the backend ended it.", "messenger", "reason"),
	Errors: prometheus.NewCounter(prometheus.CounterOpts(metricOpts("store_errors_total", "Reads of the store that failed."))),
	Writes: prometheus.NewHistogram(histogramOpts("store_write_seconds", "How long the storage took for one write of facts, failed ones included.",
		0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)),
	dropped: newCounterVec("claims_dropped_total", "Claims that claim_header and contact_claims skipped, because they were too large or had characters that a header cannot carry.", "claim"),
}

func metricOpts(name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: Namespace, Subsystem: Subsystem, Name: name, Help: help}
}

func histogramOpts(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: Namespace, Subsystem: Subsystem, Name: name, Help: help, Buckets: buckets}
}

func newCounterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts(metricOpts(name, help)), labels)
}

// newBuildInfo is a gauge of 1 whose labels are the versions from which the program was built. It is made for each configuration,
// because a program that does not use the module should not pay for it.
func newBuildInfo() prometheus.Collector {
	info := buildinfo.Read()
	opts := prometheus.GaugeOpts(metricOpts("build_info", "The versions of which the program was built; always 1."))
	opts.ConstLabels = prometheus.Labels{"version": info.Version, "commit": info.Commit, "go": info.Go, "caddy": info.Caddy, "jwx": info.JWX}
	return prometheus.NewGaugeFunc(opts, func() float64 { return 1 })
}

// Register registers the collectors of the process, and further ones, with the registry of a configuration.
func Register(promRegistry *prometheus.Registry, further ...prometheus.Collector) error {
	m := Process
	for _, collector := range append(further, newBuildInfo(), m.requests, m.seconds, m.Fetches, m.Ended, m.Errors, m.Writes, m.dropped) {
		if err := promRegistry.Register(collector); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return err
		}
	}
	return nil
}

// A RequestCounter counts the requests of one messenger. Finding a counter by its labels takes longer than counting, so it
// caches the counters that it has used: usually one, and rarely more than a few.
type RequestCounter struct {
	found atomic.Pointer[[]decisionCounter] // never changed, only replaced
}

// A decisionCounter counts one decision: the labels that differ between the requests of one messenger.
type decisionCounter struct {
	mode, code string
	prometheus.Counter
}

// Count counts a decision about a messenger, whose requests r counts. Without one the messenger is unknown: its name came from
// the client and is not a label.
func (c *Collectors) Count(r *RequestCounter, label, method, mode, code string) {
	if r == nil {
		c.requests.WithLabelValues("", "", mode, code).Inc()
		return
	}
	found := r.found.Load()
	if found != nil {
		for i := range *found {
			if known := &(*found)[i]; known.mode == mode && known.code == code {
				known.Inc()
				return
			}
		}
	}
	counter := c.requests.WithLabelValues(label, method, mode, code)
	counter.Inc()
	var next []decisionCounter
	if found != nil {
		next = slices.Clone(*found)
	}
	next = append(next, decisionCounter{mode, code, counter})
	r.found.CompareAndSwap(found, &next) // if that fails, a later request adds it
}

// Timings has the histograms of the verification times of one method, by the result of the cache.
type Timings [authn.CacheOutcomes]prometheus.Observer

func (c *Collectors) Timings(method string) (t Timings) {
	for outcome := authn.CacheOff; outcome < authn.CacheOutcomes; outcome++ {
		t[outcome] = c.seconds.WithLabelValues(method, outcome.String())
	}
	return t
}

// Observe records a verification that began at that time. It samples cache hits.
func (t *Timings) Observe(outcome authn.CacheOutcome, started time.Time) {
	if outcome == authn.CacheHit && rand.Uint32()%hitSampling != 0 {
		return
	}
	t[outcome].Observe(time.Since(started).Seconds())
}

// ClaimDropped counts a claim that was skipped, and logs the first, second, fourth, eighth … of them, because every request of
// one contact may have it.
func (c *Collectors) ClaimDropped(logger *zap.Logger, claim string) {
	c.dropped.WithLabelValues(claim).Inc()
	if n := c.drops.Add(1); bits.OnesCount64(n) == 1 {
		logger.Warn("a claim was skipped: it is too large for a header, or has characters that identity_encoding raw cannot send",
			zap.String("claim", claim), zap.Uint64("times", n))
	}
}
