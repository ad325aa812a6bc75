package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// What clients of the admin API and users of the panel can start in parallel, and what costs more than an answer: a few
// run at a time, the others wait in turn, and who waits for too long is told so.
var (
	explaining = make(slots, 8) // signatures, with the keys of many messengers
	listing    = make(slots, 2) // a thousand reads of the storage
)

// slotWait is how long a request waits for its turn.
const slotWait = 5 * time.Second

type slots chan struct{}

var errNoSlot = registry.StatusError(http.StatusTooManyRequests, "the gateway is busy with others who ask for the same; try again in a moment")

// take waits for a slot. The caller gives it back by release.
func (s slots) take(ctx context.Context) error {
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-timer.C:
	}
	return errNoSlot
}

func (s slots) release() { <-s }
