package caddymodule

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// maxFailing is how many client addresses are remembered as failing. When there are more, those that failed seldom and
// long ago are forgotten.
const maxFailing = 1 << 16

// FailLimit says how many bad tokens one client address may send. Addresses are those that Caddy takes for the client's,
// IPv6 by /64; clients without an address count as one. Only tokens that nobody signed for the messenger count; expired
// ones, for instance, do not.
type FailLimit struct {
	// How many bad tokens are read before further ones are refused. Required.
	Attempts int `json:"attempts,omitempty"`

	// The time in which so many more may come. Required.
	Window caddy.Duration `json:"window,omitempty"`
}

func (f *FailLimit) check() error {
	switch {
	case f == nil:
		return nil
	case f.Attempts <= 0 || f.Window <= 0:
		return errors.New("needs a number of attempts and a duration above 0, such as 20/1m; remove it to set no limit")
	case f.Attempts > 1_000_000 || time.Duration(f.Window) > 24*time.Hour:
		return errors.New("is more than 1000000 attempts or 24h; a limit such as 20/1m is meant")
	}
	return nil
}

// parseFailLimit reads fail_limit <n>/<duration>.
func (m *Messenger) parseFailLimit(d *caddyfile.Dispenser) error {
	value := ""
	if err := stringOption(&value)(d); err != nil {
		return err
	}
	attempts, window, _ := strings.Cut(value, "/")
	n, errNumber := strconv.Atoi(attempts)
	duration, errDuration := caddy.ParseDuration(window)
	if errNumber != nil || errDuration != nil {
		return d.Errf("fail_limit %q is no number of attempts and a duration, such as 20/1m", value)
	}
	m.FailLimit = &FailLimit{Attempts: n, Window: caddy.Duration(duration)}
	if err := m.FailLimit.check(); err != nil {
		return d.Errf("fail_limit %q %w", value, err)
	}
	return nil
}

// retryAfter is the number of seconds after which one more attempt is free.
func (f *FailLimit) retryAfter() int {
	return int(math.Ceil(time.Duration(f.Window).Seconds() / float64(f.Attempts)))
}

// A failingKey is a client address at one messenger with one limit: after a change of the limit counting begins anew.
type failingKey struct {
	messenger string
	limit     FailLimit
	address   netip.Addr
}

// failing holds an allowance for each address that failed; for the others it is full. It belongs to the process, so that
// a reload gives nobody new attempts.
var failing = sync.OnceValue(func() *otter.Cache[failingKey, *rate.Limiter] {
	return otter.Must(&otter.Options[failingKey, *rate.Limiter]{
		MaximumSize: maxFailing,
		Executor:    func(evict func()) { evict() },
	})
})

// clientNetwork returns the address by which r's client is told apart. A client has a whole /64 of IPv6 to itself. It is
// invalid where there is none, as on a Unix socket without trusted_proxies_unix: such clients count as one.
func clientNetwork(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	if address = address.Unmap().WithZone(""); address.Is6() {
		return netip.PrefixFrom(address, 64).Masked().Addr()
	}
	return address
}
