package registry

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

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
