package registry

import (
	"iter"

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
		return metrics.StoredLabel
	}
	return name
}
