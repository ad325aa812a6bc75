package registry

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// Count counts a request that was decided at that second, in the metrics and in the meter. verdict is authn.Verified or a code.
// m is nil if the messenger is unknown: its name came from the client, and is not a label.
func (m *Messenger) Count(mode config.Mode, verdict string, second int64) {
	if m == nil {
		metrics.Process.Count(nil, "", "", string(mode), verdict)
		return
	}
	metrics.Process.Count(&m.counter, m.Label(), m.Method(), string(mode), verdict)
	m.Meter.Record(verdict, second)
}

// CountEnd counts a guarded connection that ended for that reason.
func (m *Messenger) CountEnd(reason string) {
	metrics.Process.Ended.WithLabelValues(m.Label(), reason).Inc()
}

// Label returns the label of the messenger in metrics.
func (m *Messenger) Label() string { return m.meterKey().Label() }

// meterKey is how m is counted.
func (m *Messenger) meterKey() metrics.MeterKey {
	return metrics.MeterKey{Name: m.Name, Stored: m.Stored}
}

// acquireMeter sets the meter of m, which messengers of one name share. The messenger releases it in cleanup.
func (m *Messenger) acquireMeter() {
	value, _, _ := metrics.Meters.LoadOrNew(m.meterKey(), func() (caddy.Destructor, error) { // the function returns no error
		return metrics.NewMeter(), nil
	})
	m.Meter = value.(*metrics.Meter)
}

// Readiness returns what this node has counted of the requests for m.
func (m *Messenger) Readiness() *metrics.Readiness {
	now := time.Now()
	return &metrics.Readiness{Messenger: m.Name, Mode: string(m.Mode.Or(config.ModeRequired)), Since: m.Meter.Since.UTC().Truncate(time.Second), Windows: m.Meter.Windows(now)}
}
