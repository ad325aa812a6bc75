package config

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A number alone means nanoseconds in JSON, so that a protection would be off without a word. That holds for every duration that there is
// or will be.
func TestEveryDurationNeedsItsUnit(t *testing.T) {
	found := 0
	for _, s := range Settings {
		for _, previous := range []bool{false, true} {
			m := &Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}
			number := caddy.Duration(3600)
			switch field := s.field(m).(type) {
			case *caddy.Duration:
				*field = number
			case **caddy.Duration:
				*field = &number
			case **FailLimit:
				*field = &FailLimit{Attempts: 3, Window: number}
			default:
				continue
			}
			found++
			if previous {
				if !strings.HasPrefix(s.Name, "jwks ") {
					continue
				}
				m = &Messenger{Previous: m.AsPrevious(time.Now())}
			}
			if err := m.checkUnits(); err == nil || !strings.Contains(err.Error(), s.Name) || !strings.Contains(err.Error(), "unit") {
				t.Errorf("%s of 3600, previous %t: %v", s.Name, previous, err)
			}
		}
	}
	if found < 2*6 {
		t.Errorf("there are %d durations", found/2)
	}
}

// A value from a file often ends in a line break. It would fit no token.
func TestListValuesWithSurroundingSpaceAreRefused(t *testing.T) {
	for _, s := range Settings {
		m := &Messenger{JWKS: new(JWKS)}
		if field, ok := s.field(m).(*[]string); ok {
			*field = []string{"a", "b\n"}
			if err := m.CheckResolved(); err == nil || !strings.Contains(err.Error(), s.Name) {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
	}
}
