package keyserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// lifetime returns how long an answer may be used (RFC 9111 section 4.2.1), or -1 if it does not say. What cannot be read
// counts as expired, so that a mistake of the server leads to more fetches and never to keys that are used for too long.
func lifetime(h http.Header, now time.Time) time.Duration {
	seconds, _ := strconv.ParseUint(h.Get("Age"), 10, 31)
	age := time.Duration(seconds) * time.Second // how long a cache has had it
	stated := time.Duration(-1)
	for directive := range ascii.Elements(h.Values("Cache-Control")...) {
		name, value, _ := strings.Cut(ascii.Lower(directive), "=")
		name, value = strings.TrimRight(name, " \t"), strings.TrimLeft(value, " \t")
		switch {
		case name == "no-store", name == "no-cache", ascii.EndsQuoted(directive): // what is in it is not known
			return 0
		case name == "max-age":
			// 31 bits: more would wrap around when it becomes nanoseconds.
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			if found := max(time.Duration(seconds)*time.Second-age, 0); stated < 0 || found < stated {
				stated = found
			}
		}
	}
	if stated >= 0 {
		return stated
	}
	if expires := h.Get("Expires"); expires != "" {
		date, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			date = now
		}
		end, err := http.ParseTime(expires)
		if err != nil {
			return 0 // "0" and other non-dates mean: expired
		}
		return max(end.Sub(date)-age, 0)
	}
	return -1
}
