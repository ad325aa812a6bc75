package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// A tokensBody is the body of a change of shared tokens.
type tokensBody struct {
	Overlap  *caddy.Duration      `json:"overlap"`
	KeyID    string               `json:"kid"`
	Close    *bool                `json:"close_connections"`
	Secret   string               `json:"secret"`
	Encoding sharedtoken.Encoding `json:"encoding"`
	Label    string               `json:"label"`
	Confirm  *int                 `json:"confirm"`
}

// tokenMembers are the members that the body of each action can have.
var tokenMembers = map[string][]string{
	"generate": {"label"}, "rotate": {"overlap", "label", "confirm"}, "reset": {"label", "close_connections"},
	"revoke": {"kid", "close_connections"}, "import": {"secret", "encoding", "kid", "label"}, "extend": {"kid", "overlap"},
}

// check returns an error if the body has members that the action does not take.
func (b *tokensBody) check(action string) error {
	taken := tokenMembers[action]
	for _, member := range []struct {
		name string
		set  bool
	}{
		{"overlap", b.Overlap != nil}, {"kid", b.KeyID != ""}, {"close_connections", b.Close != nil}, {"secret", b.Secret != ""},
		{"encoding", b.Encoding != ""}, {"label", b.Label != ""}, {"confirm", b.Confirm != nil},
	} {
		if !member.set || slices.Contains(taken, member.name) {
			continue
		}
		return apierror.New(http.StatusBadRequest, "tokens/"+action+" does not take the member "+member.name+"; it takes "+strings.Join(taken, ", "))
	}
	return nil
}

// change returns the change that an action with this body makes.
func (b *tokensBody) change(action string) (change ledger.RingChange, err error) {
	overlap, closing := config.DurationOr(b.Overlap, ledger.DefaultOverlap), b.Close != nil && *b.Close
	switch action {
	case "generate":
		return ledger.GenerateToken(), nil
	case "rotate":
		return ledger.RotateTokens(overlap), nil
	case "reset":
		return ledger.ResetTokens(closing), nil
	case "import":
		return ImportOf(b.Secret, b.Encoding, b.KeyID)
	case "revoke", "extend":
		if b.KeyID == "" {
			return change, apierror.New(http.StatusBadRequest, `kid is missing; name the shared token to `+action+`: {"kid": "…"}`)
		}
		if action == "extend" {
			return ledger.ExtendToken(b.KeyID, overlap), nil
		}
		return ledger.RevokeToken(b.KeyID, closing), nil
	}
	return change, errNoPath
}

// changing is a route that changes the shared tokens of a messenger that the gateway keeps.
func changing(action string) route {
	return on(http.MethodPost, func(s *Service, r *http.Request, name string) (any, error) {
		var body tokensBody
		if err := readJSON(r, &body); err != nil {
			return nil, err
		}
		if err := body.check(action); err != nil {
			return nil, err
		}
		c, err := conditionOf(r)
		if err != nil {
			return nil, err
		}
		if body.Confirm != nil {
			if c.Confirm = *body.Confirm; c.Confirm < 0 { // change.AnyLoss is negative, and would confirm a loss of any size
				return nil, apierror.New(http.StatusBadRequest, "confirm is not a number of shared tokens")
			}
		}
		ring, err := body.change(action)
		if err == nil {
			ring, err = Labelled(ring, body.Label)
		}
		if err != nil {
			return nil, err
		}
		made, ended, err := s.ChangeTokens(r.Context(), name, ring, c, actorOf(r))
		if err != nil {
			return nil, err
		}
		switch {
		case made == nil && ring.Close:
			return EndedHere{Ended: ended}, nil
		case made == nil:
			return struct{}{}, nil
		}
		return withStatus{http.StatusCreated, made}, nil
	})
}
