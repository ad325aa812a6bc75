package registry

import (
	"iter"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
)

// StoreStats is what this node knows about its store.
type StoreStats struct {
	Written, Failed, Unknown int64 // writes; of unknown ones the storage has confirmed nothing
	Waiting                  int64 // writes of contacts that wait
	Facts                    int   // in memory
	Lost                     int   // messengers and key sets of which the storage has lost facts that this node knows
	Ahead                    int   // messengers with a fact whose time is more than an hour ahead
	Behind                   time.Duration
	Current                  time.Time // when this node last knew everything that it has in memory to be up to date; zero if never
}

// StoreStats returns what this node knows about its store.
func (reg *Registry) StoreStats() StoreStats {
	s := reg.Store
	stats := StoreStats{
		Written: s.writer.Stats.Written.Load(), Failed: s.writer.Stats.Failed.Load(), Unknown: s.writer.Stats.Unknown.Load(),
		Waiting: s.writer.Waiting(), Behind: s.follower.Behind(), Current: s.status.Load().Current,
	}
	stats.Lost, stats.Ahead = s.lost()
	for _, name := range s.names() {
		for _, j := range s.held(name) {
			stats.Facts += j.Count()
		}
	}
	return stats
}

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
