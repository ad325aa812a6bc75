package caddymodule

import (
	"errors"
	"maps"
	"math/bits"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// metrics are the collectors of the process. Caddy makes a new registry with every configuration; these are registered
// with each of them, so that a reload sets no counter back.
type metrics struct {
	requests *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	failing  prometheus.Gauge
	drops    atomic.Uint64
}

var processMetrics = &metrics{
	requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy",
		Subsystem: "messenger_auth",
		Name:      "requests_total",
		Help:      "Requests that messenger_auth decided on, by messenger, mode, and verdict (\"verified\" or an error code).",
	}, []string{"messenger", "mode", "verdict"}),
	dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy",
		Subsystem: "messenger_auth",
		Name:      "claims_dropped_total",
		Help:      "Claims that were too large, or not fit, for the header that claim_header names.",
	}, []string{"claim"}),
	failing: prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "caddy",
		Subsystem: "messenger_auth",
		Name:      "store_failing",
		Help:      "1 while the storage, or what changed in it, cannot be read; what was read before stays in force.",
	}),
}

func registerMetrics(registry *prometheus.Registry) (*metrics, error) {
	for _, collector := range []prometheus.Collector{processMetrics.requests, processMetrics.dropped, processMetrics.failing} {
		if err := registry.Register(collector); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return nil, err
		}
	}
	return processMetrics, nil
}

// A decision is what a request is counted by, beside its messenger.
type decision struct {
	mode    Mode
	verdict string
}

// A messengerCounter counts the requests of one messenger. Finding a counter by its labels takes longer than counting, so
// those that were found are kept.
type messengerCounter struct {
	found atomic.Pointer[map[decision]prometheus.Counter] // never changed, only replaced
}

func (c *messengerCounter) count(requests *prometheus.CounterVec, name string, d decision) {
	found := c.found.Load()
	if found != nil {
		if counter := (*found)[d]; counter != nil {
			counter.Inc()
			return
		}
	}
	counter := requests.WithLabelValues(name, string(d.mode), d.verdict)
	counter.Inc()
	next := map[decision]prometheus.Counter{d: counter}
	if found != nil {
		maps.Copy(next, *found)
	}
	c.found.CompareAndSwap(found, &next) // or the next request keeps it
}

// request counts a decision. m is nil if the messenger is unknown: its name came from the client and is no label.
func (s *metrics) request(m *Messenger, mode Mode, verdict string) {
	if m == nil {
		s.requests.WithLabelValues("", string(mode), verdict).Inc()
		return
	}
	m.counter.count(s.requests, m.label(), decision{mode, verdict})
}

// claimDropped counts a claim that gave no header, and logs the first, second, fourth, eighth … of them: every request
// of one contact may have it.
func (s *metrics) claimDropped(logger *zap.Logger, claim string) {
	s.dropped.WithLabelValues(claim).Inc()
	if n := s.drops.Add(1); bits.OnesCount64(n) == 1 {
		logger.Warn("a claim gave no header: it is too large, or not fit for one with identity_encoding raw",
			zap.String("claim", claim), zap.Uint64("times", n))
	}
}
