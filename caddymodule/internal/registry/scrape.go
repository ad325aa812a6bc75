package registry

import (
	"iter"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// Active are the messengers that requests can meet on this node without the storage: the configured ones, and the stored
// ones that are held and not hidden by a configured one.
func (a *Registry) Active() iter.Seq[*Messenger] {
	return func(yield func(*Messenger) bool) {
		for _, m := range a.Messengers {
			if !yield(m) {
				return
			}
		}
		for _, m := range a.Store.messengers() {
			if a.Messengers[m.Name] == nil && !yield(m) {
				return
			}
		}
	}
}

// Label is what metrics call the messenger of that name.
func (a *Registry) Label(name string) string {
	if a.Messengers[name] == nil {
		return SourceStored
	}
	return name
}

// fetchUsers are the labels of the messengers that use one key set, so that its fetches are counted for each of them.
type fetchUsers struct {
	mu    sync.Mutex
	names map[metrics.MeterKey]int // a reload has a messenger twice for a moment
}

func (u *fetchUsers) add(m *Messenger, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := metrics.MeterKey{Name: m.Name, Stored: m.Stored}
	if u.names[key] += n; u.names[key] <= 0 {
		delete(u.names, key)
	}
}

// count counts a fetch, and returns the names of the messengers that it concerns.
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
