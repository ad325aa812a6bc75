package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

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

// A tokenAction is a change of the shared tokens of a messenger that the gateway keeps.
type tokenAction struct {
	members    []string // that its body can have
	needsKeyID bool     // it is about the token that kid names
	change     func(b *tokensBody) (ledger.RingChange, error)
}

// tokenActions are all of them, by the last part of their path.
var tokenActions = map[string]tokenAction{
	"generate": {members: []string{"label"}, change: func(*tokensBody) (ledger.RingChange, error) { return ledger.GenerateToken(), nil }},
	"rotate": {members: []string{"overlap", "label", "confirm"},
		change: func(b *tokensBody) (ledger.RingChange, error) { return ledger.RotateTokens(b.overlap()), nil }},
	"reset": {members: []string{"label", "close_connections"},
		change: func(b *tokensBody) (ledger.RingChange, error) { return ledger.ResetTokens(b.closing()), nil }},
	"revoke": {members: []string{"kid", "close_connections"}, needsKeyID: true,
		change: func(b *tokensBody) (ledger.RingChange, error) { return ledger.RevokeToken(b.KeyID, b.closing()), nil }},
	"import": {members: []string{"secret", "encoding", "kid", "label"},
		change: func(b *tokensBody) (ledger.RingChange, error) { return ImportOf(b.Secret, b.Encoding, b.KeyID) }},
	"extend": {members: []string{"kid", "overlap"}, needsKeyID: true,
		change: func(b *tokensBody) (ledger.RingChange, error) { return ledger.ExtendToken(b.KeyID, b.overlap()), nil }},
}

func (b *tokensBody) overlap() time.Duration {
	return config.DurationOr(b.Overlap, ledger.DefaultOverlap)
}

func (b *tokensBody) closing() bool { return b.Close != nil && *b.Close }

// check returns an error if the body has members that the action does not take.
func (b *tokensBody) check(action string) error {
	taken := tokenActions[action].members
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

// changeFor returns the change that an action with this body makes.
func (b *tokensBody) changeFor(action string) (ledger.RingChange, error) {
	a := tokenActions[action]
	if a.needsKeyID && b.KeyID == "" {
		return ledger.RingChange{}, apierror.New(http.StatusBadRequest, `kid is missing; name the shared token to `+action+`: {"kid": "…"}`)
	}
	return a.change(b)
}

// changing is the route of an action.
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
		ring, err := body.changeFor(action)
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
