package auth

import (
	"container/list"
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// How fail_limit is kept. A token that nobody has verified yet takes a reservation out of its address's allowance before
// it is read. Once it is known what it was, the reservation is charged or given back, so that no number of requests at
// once gets more forged tokens read than the limit allows.
//
// Valid tokens are not refused because others are being read at the same moment: where all that is left of the allowance
// is reserved, a token waits until a reservation comes back. It is refused if they were all charged.

const (
	// maxReserveWait is how long a token waits for a reservation: as long as a verification may wait for a key set.
	maxReserveWait = 5 * time.Second

	// maxReserveWaiting is how many tokens of one address may wait at a time.
	maxReserveWaiting = 1024
)

// failures are those of one client address at one messenger.
type failures struct {
	key failingKey
}

// reservations are the tokens that are being read at this moment, by address. An address without any takes no memory.
var reservations = struct {
	sync.Mutex
	of map[failingKey]*reserved
}{of: make(map[failingKey]*reserved)}

// A reserved counts the reservations of one address. The lock of reservations guards it.
type reserved struct {
	taken   int
	waiting list.List // of those that wait, the first that came in front
}

// A reserveWait is a token that waits. What it waited for is in the channel.
type reserveWait chan *authn.Rejection

var (
	errTooManyFailures = &authn.Rejection{Code: authn.TooManyFailures, Reason: "the client's address has sent more bad tokens than fail_limit allows"}
	errReserveBusy     = &authn.Rejection{Code: authn.KeysUnavailable, Reason: "too many tokens from the client's address are being verified at this moment, and fail_limit lets no more be read at once"}
)

// reserve takes a reservation, which settle returns, or refuses an address whose allowance is used up. Valid tokens use
// nothing up, however many there are behind one address.
func (f failures) reserve(ctx context.Context) *authn.Rejection {
	reservations.Lock()
	r := reservations.of[f.key]
	if r == nil {
		r = new(reserved)
		reservations.of[f.key] = r
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
	place := r.waiting.PushBack(decided)
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
	case rej := <-decided: // at the same moment; the reservation is settled like any other
		return rej
	default:
		r.waiting.Remove(place)
		return errReserveBusy
	}
}

// unlock gives the lock back. What is not used any more takes no memory.
func (f failures) unlock(r *reserved) {
	if r.taken == 0 && r.waiting.Len() == 0 && reservations.of[f.key] == r {
		delete(reservations.of, f.key)
	}
	reservations.Unlock()
}

// decide tells those that wait what can be told by now. Where somebody waits, a reservation is out, so that its return
// decides about the next.
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
		first.Value.(reserveWait) <- rej // it has room for one, and gets one
	}
}

// left is what is left of the allowance, reservations aside.
func (f failures) left() float64 {
	if limiter, found := failing().GetIfPresent(f.key); found {
		return limiter.Tokens()
	}
	return float64(f.key.limit.Attempts)
}

// settle returns a reservation: it is charged if rej says that nobody signed the token for this messenger. What could not
// be decided, or was refused for another reason, costs nothing.
func (f failures) settle(rej *authn.Rejection) {
	reservations.Lock()
	r := reservations.of[f.key] // it is there as long as a reservation is out
	defer f.unlock(r)
	f.note(rej)
	r.taken--
	f.decide(r)
}

// note counts rej if it says that nobody signed the token for this messenger.
func (f failures) note(rej *authn.Rejection) {
	if rej == nil {
		return
	}
	switch rej.Code {
	case authn.TokenMalformed, authn.TokenTooLarge, authn.AlgorithmNotAllowed, authn.KeyUnknown, authn.SignatureInvalid:
	default:
		return
	}
	limiter, _ := failing().SetIfAbsent(f.key, rate.NewLimiter(rate.Every(time.Duration(f.key.limit.Window)/time.Duration(f.key.limit.Attempts)), f.key.limit.Attempts))
	limiter.Allow()
}
