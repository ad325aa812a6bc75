package metrics

import (
	"cmp"
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

// A MeterWindow is a span of time over which a meter can tell. It moves on by one slot at a time, so that it ends now and
// reaches back over its length less a part of one slot.
type MeterWindow struct {
	Name  string
	slot  int64 // seconds
	slots int64
}

var (
	LastHour = MeterWindow{"1h", 60, minuteSlots}
	LastDay  = MeterWindow{"24h", 15 * 60, quarterSlots}
)

const (
	minuteSlots  = 60
	quarterSlots = 96
)

// Codes are what a meter counts by: good tokens, and every reason to refuse, which has its place here.
var Codes = func() []string {
	codes := []string{Verified}
	for _, code := range authn.Codes() {
		codes = append(codes, string(code))
	}
	return codes
}()

// A Meter counts the requests of one messenger. It takes no lock, and 200 bytes, and 1.25 KiB more for every code that
// was met. It outlives configurations and changes of the messenger.
type Meter struct {
	Since  time.Time
	Counts []atomic.Pointer[meterCounts] // by place; nil before the first
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

// Meters holds the meters of the messengers that there are.
var Meters = caddy.NewUsagePool()

// A MeterKey is the place of a meter in the pool. What a configured messenger met is not told of a stored one that later
// has its name.
type MeterKey struct {
	Name   string
	Stored bool
}

// Destruct implements caddy.Destructor.
func (*Meter) Destruct() error { return nil }

func NewMeter() *Meter {
	return &Meter{Since: time.Now(), Counts: make([]atomic.Pointer[meterCounts], len(Codes))}
}

// Note counts a request at that second. place is that of its code in Codes.
func (m *Meter) Note(place int, second int64) {
	counts := m.Counts[place].Load()
	if counts == nil {
		m.Counts[place].CompareAndSwap(nil, new(meterCounts))
		counts = m.Counts[place].Load()
	}
	minute, quarter := second/LastHour.slot, second/LastDay.slot
	counts.minutes[minute%minuteSlots].add(minute)
	counts.quarters[quarter%quarterSlots].add(quarter)
}

// Count returns how many requests had the code of that place, in the window that ends at that second.
func (m *Meter) Count(place int, w MeterWindow, second int64) (sum uint64) {
	counts := m.Counts[place].Load()
	if counts == nil {
		return 0
	}
	slots := counts.minutes[:]
	if w == LastDay {
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

// CodesByCount returns the codes of w, the most frequent first.
func (w readinessWindow) CodesByCount() []string {
	return slices.SortedFunc(maps.Keys(w.Codes), func(x, y string) int {
		return cmp.Or(cmp.Compare(w.Codes[y], w.Codes[x]), strings.Compare(x, y))
	})
}

const Verified = "verified"
