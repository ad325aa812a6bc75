package auth

import (
	"container/list"
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// maxFailing is how many client addresses are remembered as failing. When there are more, the ones that failed rarely or
// long ago are evicted.
const maxFailing = 1 << 16

// failures are those of one client address at one messenger with one limit: counting starts again when the limit changes.
type failures struct {
	messenger string
	limit     config.FailLimit
	address   netip.Addr
}

// failing stores the remaining allowance of each address that failed; an address that is not there has its full allowance.
// It belongs to the process, so that a reload gives attackers no new attempts.
var failing = sync.OnceValue(func() *otter.Cache[failures, *rate.Limiter] {
	return otter.Must(&otter.Options[failures, *rate.Limiter]{
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
	return failures{m.Name, *m.FailLimit, clientNetwork(r)}
}

// noAddress is the warning for a fail_limit that cannot distinguish clients.
const noAddress = "clients without an address count as one for fail_limit, so that one of them can use it up for all: behind a proxy on a Unix socket set trusted_proxies_unix in the global option servers"

// How fail_limit is enforced: a token that is not in the cache of verified tokens reserves a part of its address's allowance before it is
// read. When the result is known, the reservation is charged or released. So the gateway reads no more forged tokens than the limit
// allows, however many requests arrive at once.
//
// Concurrent valid tokens are not refused: if the rest of the allowance is reserved, a token waits until a reservation is released. It is
// refused if all of them were charged.

const (
	// maxReserveWait is how long a token waits for a reservation: as long as a verification may wait for a key set.
	maxReserveWait = 5 * time.Second

	// maxReserveWaiting is how many tokens of one address may wait at a time.
	maxReserveWaiting = 1024
)

// reservations counts the tokens that are being read at this moment, by address. An address without reservations takes no memory.
var reservations = struct {
	sync.Mutex
	of map[failures]*reserved
}{of: make(map[failures]*reserved)}

// A reserved counts the reservations of one address. The lock of reservations guards it.
type reserved struct {
	taken   int
	waiting list.List // of reserveWait, first come first served
}

// A reserveWait is a token that waits. The channel receives the decision: nil if the token has its reservation, or the rejection.
type reserveWait chan *authn.Rejection

var (
	errTooManyFailures = &authn.Rejection{Code: authn.TooManyFailures, Reason: "the client's address has sent more forged tokens than fail_limit allows"}
	errReserveBusy     = &authn.Rejection{Code: authn.KeysUnavailable, Reason: "too many tokens from the client's address are being verified at this moment, and fail_limit allows no more at once"}
)

// reserve takes a reservation, which settle must return, or refuses an address whose allowance is used up. Valid tokens
// never use up the allowance, however many clients share one address.
func (f failures) reserve(ctx context.Context) *authn.Rejection {
	reservations.Lock()
	r := reservations.of[f]
	if r == nil {
		r = new(reserved)
		reservations.of[f] = r
	}
	defer f.unlock(r)
	left := f.left()
	switch {
	case left < 1:
		return errTooManyFailures
	case float64(r.taken)+1 <= left:
		r.taken++
		return nil
	case r.waiting.Len() >= maxReserveWaiting:
		return errReserveBusy
	}
	decided := make(reserveWait, 1)
	element := r.waiting.PushBack(decided)
	reservations.Unlock()
	timer := time.NewTimer(maxReserveWait)
	defer timer.Stop()
	select {
	case rej := <-decided:
		reservations.Lock()
		return rej
	case <-timer.C:
	case <-ctx.Done():
	}
	reservations.Lock()
	select {
	case rej := <-decided: // decided at the same moment as the timeout; a reservation is settled like any other
		return rej
	default:
		r.waiting.Remove(element)
		return errReserveBusy
	}
}

// unlock removes r if it is not used any more, so that it takes no memory, and releases the lock of reservations.
func (f failures) unlock(r *reserved) {
	if r.taken == 0 && r.waiting.Len() == 0 && reservations.of[f] == r {
		delete(reservations.of, f)
	}
	reservations.Unlock()
}

// decide answers the waiting tokens that can be decided now, in order. The lock of reservations must be held. While a token
// waits there is at least one open reservation, so that some later settle decides about it.
func (f failures) decide(r *reserved) {
	left := f.left()
	for first := r.waiting.Front(); first != nil; first = r.waiting.Front() {
		var rej *authn.Rejection
		switch {
		case left < 1:
			rej = errTooManyFailures
		case float64(r.taken)+1 <= left:
			r.taken++
		default:
			return
		}
		r.waiting.Remove(first)
		first.Value.(reserveWait) <- rej // does not block: the channel has room for one decision, and gets one
	}
}

// left returns the remaining allowance, without regard to reservations.
func (f failures) left() float64 {
	if limiter, found := failing().GetIfPresent(f); found {
		return limiter.Tokens()
	}
	return float64(f.limit.Attempts)
}

// settle returns a reservation. It is charged if rej says that the token was not signed for this messenger. A token that
// could not be decided, or was refused for another reason, costs nothing.
func (f failures) settle(rej *authn.Rejection) {
	reservations.Lock()
	r := reservations.of[f] // not nil: it exists as long as there is an open reservation
	defer f.unlock(r)
	f.charge(rej)
	r.taken--
	f.decide(r)
}

// charge takes one attempt out of the allowance if rej says that the token was not signed for this messenger.
func (f failures) charge(rej *authn.Rejection) {
	if rej == nil || rej == errTicketOtherKey || !rej.Code.Info().Forged {
		return
	}
	limiter, _ := failing().SetIfAbsent(f, rate.NewLimiter(rate.Every(time.Duration(f.limit.Window)/time.Duration(f.limit.Attempts)), f.limit.Attempts))
	limiter.Allow()
}
