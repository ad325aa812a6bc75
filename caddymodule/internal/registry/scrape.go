package registry

import (
	"iter"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// Active returns the messengers that requests can reach on this node without reading the storage: the configured ones, and
// the stored ones in memory whose names are not configured.
func (reg *Registry) Active() iter.Seq[*Messenger] {
	return func(yield func(*Messenger) bool) {
		for _, m := range reg.Messengers {
			if !yield(m) {
				return
			}
		}
		for _, m := range reg.Store.messengers() {
			if reg.Messengers[m.Name] == nil && !yield(m) {
				return
			}
		}
	}
}

// Label returns the label of the messenger of that name in metrics.
func (reg *Registry) Label(name string) string {
	if reg.Messengers[name] == nil {
		return SourceStored
	}
	return name
}

// fetchUsers has the messengers that use one key set, so that its fetches are counted for each of them.
type fetchUsers struct {
	mu    sync.Mutex
	names map[metrics.MeterKey]int // how often each is in use: twice for a moment during a reload
}

func (u *fetchUsers) add(m *Messenger, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := metrics.MeterKey{Name: m.Name, Stored: m.Stored}
	if u.names[key] += n; u.names[key] <= 0 {
		delete(u.names, key)
	}
}

// count counts a fetch for each messenger that uses the key set, and returns their names.
func (u *fetchUsers) count(report authn.FetchReport) (names []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	labels := make(map[string]bool)
	for key := range u.names {
		names = append(names, key.Name)
		label := key.Name
		if key.Stored {
			label = SourceStored
		}
		labels[label] = true
	}
	for label := range labels {
		metrics.Process.Fetches.WithLabelValues(label, report.Outcome()).Inc()
	}
	return names
}
