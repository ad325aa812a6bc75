package metrics

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Readiness is the report of a meter.
type Readiness struct {
	Messenger string            `json:"messenger"`
	Mode      string            `json:"mode"`
	Since     time.Time         `json:"since"` // nothing before that was counted
	Windows   []readinessWindow `json:"windows"`
}

// A readinessWindow has the requests of one window. Valid, None and Invalid add up to Requests.
type readinessWindow struct {
	Window   string            `json:"window"`
	Requests uint64            `json:"requests"`
	Valid    uint64            `json:"valid"`           // had a valid token
	None     uint64            `json:"none"`            // had no token
	Invalid  uint64            `json:"invalid"`         // were refused, or would be, for another reason
	Codes    map[string]uint64 `json:"codes,omitempty"` // of None and Invalid
	Pass     *float64          `json:"pass"`            // the share that passes under "required"; null without requests
}

// Windows returns the counts of the last hour and the last day.
func (m *Meter) Windows(now time.Time) []readinessWindow {
	var windows []readinessWindow
	for _, w := range []MeterWindow{LastHour, LastDay} {
		r := readinessWindow{Window: w.Name, Codes: make(map[string]uint64)}
		for index, code := range Codes {
			n := m.Count(index, w, now.Unix())
			r.Requests += n
			switch {
			case n == 0:
				continue
			case index == 0:
				r.Valid = n
				continue
			case code == string(authn.TokenMissing):
				r.None = n
			default:
				r.Invalid += n
			}
			r.Codes[code] = n
		}
		if r.Requests > 0 {
			pass := float64(r.Valid) / float64(r.Requests)
			r.Pass = &pass
		}
		windows = append(windows, r)
	}
	return windows
}

// Summary describes w in one line.
func (w readinessWindow) Summary() string {
	if w.Requests == 0 {
		return "no requests"
	}
	return fmt.Sprintf("%d requests, of which %s would pass under required", w.Requests, w.Share())
}

// Share returns the share that passes, in words. It is rounded down, because a site owner may conclude from 100 % that no
// contact would be locked out.
func (w readinessWindow) Share() string {
	if w.Requests == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f %%", float64(w.Valid*10_000/w.Requests)/100)
}

// LastWindow is the longest window.
func (r *Readiness) LastWindow() readinessWindow { return r.Windows[len(r.Windows)-1] }

// CodesByCount returns the codes of w, the most frequent first.
func (w readinessWindow) CodesByCount() []string {
	return slices.SortedFunc(maps.Keys(w.Codes), func(x, y string) int {
		return cmp.Or(cmp.Compare(w.Codes[y], w.Codes[x]), strings.Compare(x, y))
	})
}
