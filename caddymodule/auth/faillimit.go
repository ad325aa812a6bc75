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

// maxFailing is how many client addresses are remembered as failing. When there are more, those that failed seldom and
// long ago are forgotten.
const maxFailing = 1 << 16

// A failingKey is a client address at one messenger with one limit: after a change of the limit counting begins anew.
type failingKey struct {
	messenger string
	limit     config.FailLimit
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

// failuresOf returns the failures of r's client.
func failuresOf(m *registry.Messenger, r *http.Request) failures {
	return failures{failingKey{m.Name, *m.FailLimit, clientNetwork(r)}}
}
