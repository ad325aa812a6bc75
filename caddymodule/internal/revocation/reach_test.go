package revocation

import (
	"math"
	"testing"
	"time"
)

// A revocation is kept as long as a token could still be valid, also where that is longer than a duration or JSON can say.
func TestRevocationIsKeptLongEnough(t *testing.T) {
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, lifetime := range []time.Duration{time.Hour, math.MaxInt64 - 1, math.MaxInt64} {
		for _, before := range []*time.Time{nil, &now, &last} {
			v := Revocation{Identity: "mark", Before: before}
			until := v.expiresBy(lifetime, now)
			if before == &last {
				if until != nil {
					t.Errorf("until %v, which JSON has no text for", until)
				}
			} else if until == nil || until.Before(now.Add(lifetime)) {
				t.Errorf("a lifetime of %v: kept until %v", lifetime, until)
			}
		}
	}
}
