package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
)

// Limits for expensive operations that clients of the admin API and users of the panel can start in parallel. A few run at a
// time, the others wait, and those that wait for too long are refused.
var (
	explaining = make(slots, 8) // signatures, with the keys of many messengers
	listing    = make(slots, 2) // thousands of reads of the storage
)

// slotWait is how long a request waits for a slot.
const slotWait = 5 * time.Second

// slots is a semaphore.
type slots chan struct{}

var errNoSlot = apierror.New(http.StatusTooManyRequests, "the gateway is busy with other requests of this kind; try again in a moment")

// take waits for a slot, for slotWait as a rule. The caller returns it with release.
func (s slots) take(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
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
