package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// FailLimit is how many forged tokens one client address may send. Addresses are Caddy's client IPs, IPv6 by /64; clients
// without an address count as one. Only tokens that were not signed for the messenger count; expired ones, for instance, do
// not.
type FailLimit struct {
	// How many forged tokens are read before further ones are refused. Required.
	Attempts int `json:"attempts,omitempty"`

	// The time after which the full number is allowed again. Required.
	Window caddy.Duration `json:"window,omitempty"`
}

func (f *FailLimit) check() error {
	switch {
	case f == nil:
		return nil
	case f.Attempts <= 0 || f.Window <= 0:
		return errors.New("needs a number of attempts and a duration above 0, such as 20/1m; remove it to set no limit")
	case RateTooLarge(f.Attempts, f.Window):
		return errors.New("is more than 1000000 attempts or 24h; write a limit such as 20/1m")
	}
	return nil
}

// readFailLimit reads <n>/<duration>.
func readFailLimit(args []string) (*FailLimit, error) {
	value, err := oneValue(args)
	if err != nil {
		return nil, err
	}
	n, window, ok := ParseRate(value)
	if !ok {
		return nil, fmt.Errorf("%q is not a number of attempts and a duration, such as 20/1m", value)
	}
	f := &FailLimit{Attempts: n, Window: window}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("%q %w", value, err)
	}
	return f, nil
}

// RateTooLarge reports whether a rate has a number or a duration that no limit needs.
func RateTooLarge(n int, window caddy.Duration) bool {
	return n > 1_000_000 || time.Duration(window) > 24*time.Hour
}

// ParseRate reads <n>/<duration>.
func ParseRate(text string) (n int, window caddy.Duration, ok bool) {
	number, duration, _ := strings.Cut(text, "/")
	n, errNumber := strconv.Atoi(number)
	d, errDuration := caddy.ParseDuration(duration)
	return n, caddy.Duration(d), errNumber == nil && errDuration == nil && CheckUnit(d, "") == nil
}

// String returns <n>/<duration>, as readFailLimit reads it.
func (f *FailLimit) String() string {
	return fmt.Sprintf("%d/%s", f.Attempts, DurationText(time.Duration(f.Window)))
}

// RetryAfter returns the number of seconds after which one more attempt is allowed.
func (f *FailLimit) RetryAfter() int {
	return int(math.Ceil(time.Duration(f.Window).Seconds() / float64(f.Attempts)))
}
