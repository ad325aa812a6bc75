package change

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// No change loses keys silently. A change that takes keys or shared tokens out of use is refused with their number, and is made only
// if the caller confirms this number. Instead, the caller can keep the replaced method in use for some time.

// AnyLoss confirms a loss of any size. It is for a caller that has shown the loss to the operator, and names the revision for which
// the loss was computed.
const AnyLoss = -1

// next returns the settings that a change makes, or why it cannot be made. before is nil if there is no messenger.
func (c Condition) next(before *ledger.Record, settings *config.Messenger, now time.Time) (*config.Messenger, error) {
	next := settings.CopySettings()
	if c.KeepPrevious != nil && before != nil {
		if err := keepPrevious(next, before.Settings, *c.KeepPrevious, now); err != nil {
			return nil, err
		}
		if err := next.CheckPrevious(); err != nil {
			return nil, caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
		}
	}
	if next.Previous.IsOver(now) {
		next.Previous = nil // its time is over
	}
	if next.Previous != nil && next.UsesRing(now) && !next.IsGenerated() && before != nil && !before.Settings.UsesRing(now) {
		return nil, apierror.New(http.StatusConflict, "previous has shared_token, and there are no shared tokens of this messenger any more that could stay valid")
	}
	if before == nil {
		return next, nil
	}
	return next, c.Confirms(before.Settings.Lost(next, now, len(before.ActiveTokens())), "keep the previous method for some time")
}

// keepPrevious makes the method of before the previous method of next for at least that time, if next has another method. If
// the method stays the same, keepPrevious extends the time of the previous method, and never shortens it.
func keepPrevious(next, before *config.Messenger, keep time.Duration, now time.Time) error {
	if keep < 0 || keep > config.MaxPrevious {
		return apierror.New(http.StatusBadRequest, fmt.Sprintf("the time for which the previous method is used is not between 0 and %d days", config.MaxPrevious/(24*time.Hour)))
	}
	if next.Previous != nil {
		return apierror.New(http.StatusBadRequest, "the settings have previous, and keep_previous would replace it; give one of the two")
	}
	if keep == 0 {
		return nil
	}
	until := now.Add(keep)
	if !next.SameMethod(before) {
		next.Previous = before.AsPrevious(until)
		return nil
	}
	if before.Previous.IsOver(now) {
		return apierror.New(http.StatusConflict, "the method does not change, and there is no previous one whose time could be extended")
	}
	next.Previous = before.CopySettings().Previous
	if until.After(next.Previous.Until) {
		next.Previous.Until = until.UTC().Truncate(time.Second)
	}
	return nil
}

// Confirms returns an error with status 428 if the caller has not confirmed what a change takes out of use. otherwise is what the caller
// can do instead of confirming.
func (c Condition) Confirms(lost config.Loss, otherwise string) error {
	n := lost.Count()
	if n == 0 || c.Confirm == n || c.Confirm == AnyLoss {
		return nil
	}
	return apierror.New(http.StatusPreconditionRequired, fmt.Sprintf("this takes %s out of use, and tokens that are signed with %s are refused from then on; nothing was changed: confirm the number %d, or %s",
		lost, ThemOrIt(n), n, otherwise))
}

// ThemOrIt returns the pronoun for n things.
func ThemOrIt(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}
