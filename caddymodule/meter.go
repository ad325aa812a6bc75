package caddymodule

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// The meter tells a site owner what "required" would do, before it is switched on: of the requests of the last hour and of
// the last day, how many carried a good token, none, or a bad one. It counts in every mode but "off", so that the figures
// before and after the switch can be compared.

// A meterWindow is a span of time over which a meter can tell. It moves on by one slot at a time, so that it ends now and
// reaches back over its length less a part of one slot.
type meterWindow struct {
	name  string
	slot  int64 // seconds
	slots int64
}

var (
	lastHour = meterWindow{"1h", 60, minuteSlots}
	lastDay  = meterWindow{"24h", 15 * 60, quarterSlots}
)

const (
	minuteSlots  = 60
	quarterSlots = 96
)

// meteredCodes are what a meter counts by: good tokens, and every reason to refuse, which has its place here.
var meteredCodes = func() []string {
	codes := []string{codeVerified}
	for _, code := range authn.Codes() {
		codes = append(codes, string(code))
	}
	return codes
}()

// A meter counts the requests of one messenger. It takes no lock, and 200 bytes, and 1.25 KiB more for every code that
// was met. It outlives configurations and changes of the messenger.
type meter struct {
	since  time.Time
	counts []atomic.Pointer[meterCounts] // by place; nil before the first
}

// meterCounts are the requests with one code.
type meterCounts struct {
	minutes  [minuteSlots]slotCount
	quarters [quarterSlots]slotCount
}

// A slotCount counts what falls into one slot of time. The upper half is the slot's number, so that a slot that is used
// again after one round begins anew in the same step; the lower half is the count, which no gateway fills in a quarter of
// an hour.
type slotCount struct{ atomic.Uint64 }

func (s *slotCount) add(slot int64) {
	epoch := uint64(uint32(slot))
	for {
		v := s.Load()
		if v>>32 == epoch {
			s.Add(1)
			return
		}
		if s.CompareAndSwap(v, epoch<<32|1) {
			return
		}
	}
}

// meters holds the meters of the messengers that there are.
var meters = caddy.NewUsagePool()

// A meterKey is the place of a meter in the pool. What a configured messenger met is not told of a stored one that later
// has its name.
type meterKey struct {
	name   string
	stored bool
}

// Destruct implements caddy.Destructor.
func (*meter) Destruct() error { return nil }

// takeMeter gives m its meter. The messenger gives it back once.
func (m *messenger) takeMeter() {
	value, _, _ := meters.LoadOrNew(meterKey{m.name, m.stored}, func() (caddy.Destructor, error) { // the function returns no error
		return newMeter(), nil
	})
	m.meter = value.(*meter)
}

func newMeter() *meter {
	return &meter{since: time.Now(), counts: make([]atomic.Pointer[meterCounts], len(meteredCodes))}
}

// note counts a request at that second. place is that of its code in meteredCodes.
func (m *meter) note(place int, second int64) {
	counts := m.counts[place].Load()
	if counts == nil {
		m.counts[place].CompareAndSwap(nil, new(meterCounts))
		counts = m.counts[place].Load()
	}
	minute, quarter := second/lastHour.slot, second/lastDay.slot
	counts.minutes[minute%minuteSlots].add(minute)
	counts.quarters[quarter%quarterSlots].add(quarter)
}

// count returns how many requests had the code of that place, in the window that ends at that second.
func (m *meter) count(place int, w meterWindow, second int64) (sum uint64) {
	counts := m.counts[place].Load()
	if counts == nil {
		return 0
	}
	slots := counts.minutes[:]
	if w == lastDay {
		slots = counts.quarters[:]
	}
	current := second / w.slot
	for i := range slots {
		v := slots[i].Load()
		if age := current - int64(v>>32); age >= 0 && age < w.slots {
			sum += v & (1<<32 - 1)
		}
	}
	return sum
}

// readiness is what a meter tells.
type readiness struct {
	Messenger string            `json:"messenger"`
	Mode      string            `json:"mode"`
	Since     time.Time         `json:"since"` // nothing before that was counted
	Windows   []readinessWindow `json:"windows"`
}

// A readinessWindow has the requests of one window. Good, None and Bad add up to Requests.
type readinessWindow struct {
	Window   string            `json:"window"`
	Requests uint64            `json:"requests"`
	Good     uint64            `json:"good"`            // carried a good token
	None     uint64            `json:"none"`            // carried no token
	Bad      uint64            `json:"bad"`             // were refused, or would be, for another reason
	Codes    map[string]uint64 `json:"codes,omitempty"` // of None and Bad
	Pass     *float64          `json:"pass"`            // the share that passes under "required"; null without requests
}

func (m *meter) windows(now time.Time) []readinessWindow {
	var windows []readinessWindow
	for _, w := range []meterWindow{lastHour, lastDay} {
		r := readinessWindow{Window: w.name, Codes: make(map[string]uint64)}
		for place, code := range meteredCodes {
			n := m.count(place, w, now.Unix())
			r.Requests += n
			switch {
			case n == 0:
				continue
			case place == 0:
				r.Good = n
				continue
			case code == string(authn.TokenMissing):
				r.None = n
			default:
				r.Bad += n
			}
			r.Codes[code] = n
		}
		if r.Requests > 0 {
			pass := float64(r.Good) / float64(r.Requests)
			r.Pass = &pass
		}
		windows = append(windows, r)
	}
	return windows
}

// readiness says what this node has met of m.
func (m *messenger) readiness() *readiness {
	now := time.Now()
	return &readiness{Messenger: m.name, Mode: string(m.Mode.or(ModeRequired)), Since: m.meter.since.UTC().Truncate(time.Second), Windows: m.meter.windows(now)}
}

func readinessText(r *readiness) string {
	var b strings.Builder
	printf(&b, "messenger %s, mode %s, counted on this node since %s\n", r.Messenger, r.Mode, r.Since.Format(time.RFC3339))
	for _, w := range r.Windows {
		printf(&b, "\n  last %-3s  %s\n", w.Window, w.Summary())
		for _, code := range w.CodesByCount() {
			printf(&b, "    %10d  %s\n", w.Codes[code], code)
		}
	}
	return b.String()
}

// CodesByCount returns the codes of w, the most frequent first.
func (w readinessWindow) CodesByCount() []string {
	return slices.SortedFunc(maps.Keys(w.Codes), func(x, y string) int {
		return cmp.Or(cmp.Compare(w.Codes[y], w.Codes[x]), strings.Compare(x, y))
	})
}

// Summary is one line about w.
func (w readinessWindow) Summary() string {
	if w.Requests == 0 {
		return "no requests"
	}
	return fmt.Sprintf("%d requests: %d with a good token, %d with none, %d with a bad one; %s would pass under required",
		w.Requests, w.Good, w.None, w.Bad, w.Share())
}

// Share is the share that passes, in words. It is rounded down: somebody may decide by it that nobody is locked out.
func (w readinessWindow) Share() string {
	if w.Requests == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f %%", float64(w.Good*10_000/w.Requests)/100)
}

// LastWindow is the longest window.
func (r *readiness) LastWindow() readinessWindow { return r.Windows[len(r.Windows)-1] }
