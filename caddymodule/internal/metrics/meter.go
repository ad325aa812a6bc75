package metrics

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// The meter shows a site owner what "required" would do before it is switched on: how many requests of the last hour and day
// had a valid token, no token, or an invalid one. It counts in every mode but "off", so that the numbers before and after the
// switch can be compared.

// A MeterWindow is a span of time for which a meter counts. It moves by one slot at a time, so it ends now and covers its
// length except for a part of one slot.
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

// Codes are the results that a meter counts: verified, and every reason to refuse. The index of a code identifies it.
var Codes = func() []string {
	codes := []string{authn.Verified}
	for _, code := range authn.Codes() {
		codes = append(codes, string(code))
	}
	return codes
}()

// A Meter counts the requests of one messenger. It takes no lock. It has 200 bytes, and 1.25 KiB for every code that was
// recorded. It outlives configurations and changes of the messenger.
type Meter struct {
	Since  time.Time
	Counts []atomic.Pointer[meterCounts] // by the index in Codes; nil before the first request
}

// meterCounts are the requests with one code.
type meterCounts struct {
	minutes  [minuteSlots]slotCount
	quarters [quarterSlots]slotCount
}

// A slotCount counts the requests in one slot of time. The upper half is the slot's number, so that a slot that is reused
// after one round is reset in the same atomic step. The lower half is the count: four billion requests in a quarter of an
// hour would overflow it.
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

// Meters has the meters of all messengers.
var Meters = caddy.NewUsagePool()

// A MeterKey identifies a meter in the pool. A stored messenger does not get the meter of a configured one that had its name.
type MeterKey struct {
	Name   string
	Stored bool
}

// StoredLabel is the label of stored messengers, which share one, because there may be any number of them.
const StoredLabel = "stored"

// Label returns the label of the messenger in metrics.
func (k MeterKey) Label() string {
	if k.Stored {
		return StoredLabel
	}
	return k.Name
}

// Destruct implements caddy.Destructor.
func (*Meter) Destruct() error { return nil }

// NewMeter returns a meter that begins to count now.
func NewMeter() *Meter {
	return &Meter{Since: time.Now(), Counts: make([]atomic.Pointer[meterCounts], len(Codes))}
}

// Record counts a request with that code, which is one of Codes, at that second.
func (m *Meter) Record(code string, second int64) {
	slot := &m.Counts[slices.Index(Codes, code)]
	counts := slot.Load()
	if counts == nil {
		slot.CompareAndSwap(nil, new(meterCounts))
		counts = slot.Load()
	}
	minute, quarter := second/LastHour.slot, second/LastDay.slot
	counts.minutes[minute%minuteSlots].add(minute)
	counts.quarters[quarter%quarterSlots].add(quarter)
}

// Count returns how many requests had the code with that index, in the window that ends at that second.
func (m *Meter) Count(index int, w MeterWindow, second int64) (sum uint64) {
	counts := m.Counts[index].Load()
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

// LastVerified returns when a request was last verified, to a quarter of an hour, if that was within the last day; otherwise the
// zero time.
func (m *Meter) LastVerified(now time.Time) (last time.Time) {
	counts := m.Counts[0].Load()
	if counts == nil {
		return last
	}
	current := now.Unix() / LastDay.slot
	for i := range counts.quarters {
		slot := int64(counts.quarters[i].Load() >> 32)
		if age := current - slot; age < 0 || age >= LastDay.slots {
			continue
		}
		if t := time.Unix(slot*LastDay.slot, 0); t.After(last) {
			last = t
		}
	}
	return last
}
