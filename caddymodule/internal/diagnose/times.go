package diagnose

import (
	"math"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// findTimes says what is wrong with the dates, in the order in which the verifier reads them. The code of dates that cannot be read is
// also that of a jti which is not one.
func (f *finder) findTimes(rej *authn.Rejection) {
	if rej.Cause == cause.TokenIDOther {
		f.add(rej.Cause, "")
		return
	}
	skew := f.policy.ClockSkew
	for _, name := range authn.TimeClaims {
		date, known := f.date(name)
		switch {
		case !known:
		case name != "exp" && date.After(f.now.Add(skew)):
			ahead := apart(f.now, date) + " ahead"
			if ahead == Duration(skew)+" ahead" { // which would read as if it were within the limit
				ahead = "ahead by " + apart(f.now.Add(skew), date) + " more than clock_skew"
			}
			f.add(cause.TimeAhead, "%s is %s (%s; it is %s here), and clock_skew is %s", name, ahead, stamp(date), stamp(f.now), Duration(skew))
		case name == "exp" && !f.now.Before(date.Add(skew)):
			f.add(cause.TimePassed, "exp passed %s ago (%s; it is %s here)", apart(date, f.now), stamp(date), stamp(f.now))
		}
	}
	if rej.Code == authn.TokenNotYetValid && len(f.findings) == 0 {
		f.add(cause.TimeAhead, "it was when the token was refused, and no longer is")
	}
}

// date returns the time of a claim as the verifier reads it, with its fraction of a second. If it cannot be read, that is added.
func (f *finder) date(name string) (date time.Time, known bool) {
	value := f.payload[name]
	if value == nil {
		return time.Time{}, false
	}
	date, rej := authn.NumericDate(value)
	if rej != nil {
		f.add(rej.Cause, "%s", name)
		return time.Time{}, false
	}
	return date, true
}

// findLifetime compares dates that the verifier has read.
func (f *finder) findLifetime() {
	iat, _ := f.date("iat")
	exp, _ := f.date("exp")
	limit := f.policy.MaxLifetime
	if lifetime := apart(iat, exp); lifetime != Duration(limit) {
		f.add(cause.LifetimeLong, "it is valid for %s, and max_lifetime is %s", lifetime, Duration(limit))
		return
	}
	f.add(cause.LifetimeLong, "it is valid for %s more than max_lifetime, which is %s", apart(iat.Add(limit), exp), Duration(limit))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// apart is [Duration] of the time from a to b, which can be longer than a time.Duration: that ends at 292 years.
func apart(a, b time.Time) string {
	const year = 31556952 // seconds, the mean of the calendar
	if years := (b.Unix() - a.Unix()) / year; years >= 292 {
		return cause.Counted(years, "year")
	}
	return Duration(b.Sub(a))
}

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
		text := cause.Counted(int64(n), unit.name)
		if unit.next && n < 10 {
			if rest := (d % unit.size) / units[i+1].size; rest > 0 {
				text += " " + cause.Counted(int64(rest), units[i+1].name)
			}
		}
		return text
	}
	if d > 0 {
		return "less than a second"
	}
	return "0 seconds"
}
