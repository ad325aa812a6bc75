package authn

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// year10000 is its first second. A NumericDate from then on is not an intended date, and most often a count of milliseconds.
const year10000 = 253402300800

// TimeClaims are the registered claims that are times (RFC 7519 section 4.1), in the order in which the verifier checks them.
var TimeClaims = []string{"exp", "nbf", "iat"}

// IsTimeClaim reports whether a claim is a time.
func IsTimeClaim(name string) bool { return slices.Contains(TimeClaims, name) }

// checkTimes honours exp, nbf and iat (RFC 7519 sections 4.1.4 to 4.1.6) if the token has them.
func (c *claims) checkTimes(p *Policy, now time.Time) *Rejection {
	if rej := readDate(c.exp, &c.expires); rej != nil {
		return rej
	}
	if c.exp != nil && !now.Before(c.expires.Add(p.ClockSkew)) {
		return reject(TokenExpired, "exp has passed")
	}
	if rej := readDate(c.nbf, &c.begins); rej != nil {
		return rej
	}
	if c.nbf != nil && now.Add(p.ClockSkew).Before(c.begins) {
		return reject(TokenNotYetValid, "nbf is in the future")
	}
	if rej := readDate(c.iat, &c.issued); rej != nil {
		return rej
	}
	if c.iat != nil && now.Add(p.ClockSkew).Before(c.issued) {
		return reject(TokenNotYetValid, "iat is in the future: the clock that made the token is ahead")
	}
	return c.checkLifetime(p)
}

// readDate reads a claim that may be absent.
func readDate(value []byte, date *time.Time) (rej *Rejection) {
	if value != nil {
		*date, rej = NumericDate(value)
	}
	return rej
}

// checkLifetime requires iat as well as exp: otherwise it is unknown when the token was made, and so neither its lifetime nor
// how long a revocation has to be stored.
func (c *claims) checkLifetime(p *Policy) *Rejection {
	switch {
	case p.MaxLifetime == 0:
		return nil
	case c.exp == nil:
		return reject(ClaimMissing, "exp is absent, and max_lifetime needs it")
	case c.iat == nil:
		return reject(ClaimMissing, "iat is absent, and max_lifetime needs it")
	case c.expires.After(c.issued.Add(p.MaxLifetime)): // a difference of the two would be capped at 292 years
		return reject(TokenLifetimeTooLong, "the time from iat to exp is longer than max_lifetime")
	}
	return nil
}

// window returns the first instant at which checkTimes accepts c, and the first after that at which it does not. A zero time
// means that there is no such bound.
func (c *claims) window(p *Policy) (since, until time.Time) {
	if c.nbf != nil {
		since = c.begins.Add(-p.ClockSkew)
	}
	if issued := c.issued.Add(-p.ClockSkew); c.iat != nil && issued.After(since) {
		since = issued
	}
	if c.exp != nil {
		until = c.expires.Add(p.ClockSkew)
	}
	return since, until
}

// NumericDate reads a NumericDate (RFC 7519 section 2): a JSON number of seconds since 1970, fractions allowed. Strings, and
// numbers that would wrap around or are not a time, are refused: libraries take some of them for "no limit".
func NumericDate(value []byte) (time.Time, *Rejection) {
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		why := cause.TimeOther
		if c == '"' {
			why = cause.TimeString
		}
		return time.Time{}, &Rejection{Code: ClaimInvalid, Reason: "exp, nbf or iat is not a JSON number", Cause: why}
	}
	if seconds, ok := wholeSeconds(value); ok {
		return time.Unix(seconds, 0), nil
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	switch {
	case err != nil || math.Abs(seconds) >= 1e15:
		return time.Time{}, &Rejection{Code: ClaimInvalid, Reason: "exp, nbf or iat is not a date", Cause: cause.TimeOther}
	case math.Abs(seconds) >= year10000:
		return time.Time{}, &Rejection{Code: ClaimInvalid, Reason: "exp, nbf or iat counts milliseconds; a NumericDate counts seconds", Cause: cause.TimeMilliseconds}
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}

// wholeSeconds reads the usual form of a NumericDate, digits alone, and returns false for all others, whose parsing costs more.
func wholeSeconds(value []byte) (seconds int64, ok bool) {
	if len(value) > 12 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		seconds = 10*seconds + int64(c-'0')
	}
	return seconds, seconds < year10000
}
