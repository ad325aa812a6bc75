package panel

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A claimView is a claim of a token that was tested.
type claimView struct {
	Name, Value string
	At          *time.Time // of a claim that is a time
}

// claimViews returns the claims of an accepted token as a page shows them. result may be nil.
func claimViews(result *admin.Explanation) (views []claimView) {
	if result == nil {
		return nil
	}
	for _, claim := range result.Claims {
		view := claimView{Name: claim.Name, Value: string(claim.Value)}
		var text string
		if json.Unmarshal(claim.Value, &text) == nil {
			view.Value = text
		}
		if seconds, err := strconv.ParseFloat(string(claim.Value), 64); err == nil && authn.IsTimeClaim(claim.Name) && seconds > 0 && seconds < 1e11 {
			at := time.Unix(int64(seconds), 0)
			view.At = &at
		}
		views = append(views, view)
	}
	return views
}
