package diagnose

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// findTimes says by how much a time is wrong. It also names a jti that is not one, which the same code refuses.
func (f *finder) findTimes() {
	dates := make(map[string]time.Time)
	for _, name := range []string{"exp", "nbf", "iat"} {
		value := f.payload[name]
		if value == nil {
			continue
		}
		seconds, err := strconv.ParseFloat(string(value), 64)
		switch {
		case value[0] == '"':
			f.add(cause.TimeString, "%s", name)
		case err != nil || math.Abs(seconds) >= 1e15:
			f.add(cause.TimeOther, "%s", name)
		case math.Abs(seconds) >= year10000:
			f.add(cause.TimeMilliseconds, "%s", name)
		default:
			dates[name] = time.Unix(int64(seconds), 0)
		}
	}
	skew := f.policy.ClockSkew
	if exp, found := dates["exp"]; found && !f.now.Before(exp.Add(skew)) {
		f.add(cause.TimePassed, "exp passed %s ago (%s; it is %s here)", Duration(f.now.Sub(exp)), stamp(exp), stamp(f.now))
	}
	for _, name := range []string{"nbf", "iat"} {
		if date, found := dates[name]; found && date.After(f.now.Add(skew)) {
			f.add(cause.TimeAhead, "%s is %s ahead (%s; it is %s here), and clock_skew is %s", name, Duration(date.Sub(f.now)), stamp(date), stamp(f.now), Duration(skew))
		}
	}
	iat, found := dates["iat"]
	if limit := f.policy.MaxLifetime; limit > 0 && len(f.findings) == 0 && found && dates["exp"].After(iat.Add(limit)) {
		f.add(cause.LifetimeLong, "it is valid for %s, and max_lifetime is %s", Duration(dates["exp"].Sub(iat)), Duration(limit))
	}
	if jti := f.payload["jti"]; jti != nil && len(f.findings) == 0 {
		f.add(cause.TokenIDOther, "")
	}
}

// year10000 is its first second. A time from then on is most often a count of milliseconds.
const year10000 = 253402300800

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Duration says d as people do, with its two largest units at most and without a sign: "15 years", "2 hours 5 minutes".
func Duration(d time.Duration) string {
	if d < 0 {
		if d = -d; d < 0 {
			d = math.MaxInt64
		}
	}
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	units := []struct {
		name string
		size time.Duration
		next bool // the unit below it is said as well
	}{{"year", year, false}, {"day", day, true}, {"hour", time.Hour, true}, {"minute", time.Minute, true}, {"second", time.Second, false}}
	for i, unit := range units {
		n := d / unit.size
		if n == 0 {
			continue
		}
		text := Counted(int64(n), unit.name)
		if unit.next && n < 10 {
			if rest := (d % unit.size) / units[i+1].size; rest > 0 {
				text += " " + Counted(int64(rest), units[i+1].name)
			}
		}
		return text
	}
	return "0 seconds"
}

// Counted is a number of things: "1 key", "2 keys".
func Counted[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
