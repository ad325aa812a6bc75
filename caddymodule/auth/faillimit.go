package auth

import (
	"net/http"
	"net/netip"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// maxFailing is how many client addresses are remembered as failing. When there are more, the ones that failed rarely or
// long ago are evicted.
const maxFailing = 1 << 16

// A failingKey is a client address at one messenger with one limit: counting starts again when the limit changes.
type failingKey struct {
	messenger string
	limit     config.FailLimit
	address   netip.Addr
}

// failing stores the remaining allowance of each address that failed; an address that is not there has its full allowance.
// It belongs to the process, so that a reload gives attackers no new attempts.
var failing = sync.OnceValue(func() *otter.Cache[failingKey, *rate.Limiter] {
	return otter.Must(&otter.Options[failingKey, *rate.Limiter]{
		MaximumSize: maxFailing,
		Executor:    func(evict func()) { evict() },
	})
})

// clientNetwork returns the address that identifies r's client: its IPv4 address or its IPv6 /64, because one client usually
// has a whole /64. The result is invalid if there is no address, as on a Unix socket without trusted_proxies_unix: all such
// clients count as one.
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

// failuresOf returns the failures of r's client at m, which has a fail_limit.
func failuresOf(m *registry.Messenger, r *http.Request) failures {
	return failures{failingKey{m.Name, *m.FailLimit, clientNetwork(r)}}
}

// noAddress is the warning for a fail_limit that cannot distinguish clients.
const noAddress = "clients without an address count as one for fail_limit, so that one of them can use it up for all: behind a proxy on a Unix socket set trusted_proxies_unix in the global option servers"
