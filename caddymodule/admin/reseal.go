package admin

import (
	"context"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/reseal"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// resealing lets one step run at a time: two callers take turns.
var resealing = make(slots, 1)

var (
	errNoStoreKey = apierror.New(http.StatusConflict, "no store key is configured; add store { key {file.…} } to the global option messenger { … }")

	// ErrNothingOpens refuses to discard values if none can be opened: most likely the configured key is the wrong one.
	ErrNothingOpens = apierror.New(http.StatusConflict, "no value can be opened, so the configured store key is probably not the one of this store; "+
		"to discard all messengers because the key is lost, add --everything (\"everything\" in the admin API)")
)

// A ResealRequest asks for one step of resealing.
type ResealRequest struct {
	reseal.Options
	Everything bool `json:"everything"` // discard even if nothing can be opened
}

// Reseal takes one step of sealing everything with the first store key.
func (s *Service) Reseal(ctx context.Context, q ResealRequest, by registry.Actor) (reseal.Step, error) {
	if !s.Store.Seal.Enabled() && !q.Check && !q.Discard {
		return reseal.Step{}, errNoStoreKey
	}
	if err := resealing.take(ctx, slotWait); err != nil {
		return reseal.Step{}, err
	}
	defer resealing.release()
	if q.Discard && !q.Check && !q.Everything {
		switch opens, err := reseal.AnyOpens(ctx, s.Store); {
		case err != nil:
			return reseal.Step{}, apierror.Storage(err)
		case !opens:
			return reseal.Step{}, ErrNothingOpens
		}
	}
	step, err := reseal.Run(ctx, s.Store, q.Options)
	if errors.Is(err, reseal.ErrPosition) {
		return reseal.Step{}, apierror.New(http.StatusBadRequest, err.Error())
	}
	if err != nil {
		return reseal.Step{}, apierror.Storage(err)
	}
	for _, v := range step.Named {
		if v.Discarded {
			s.Audit(trail.ValueDiscarded, v.Messenger, by, zap.String("key", v.Key), zap.String("lost", v.Lost))
		}
	}
	action := trail.None
	switch {
	case q.Check:
	case step.Done:
		action = trail.StoreResealed
	case q.After == "":
		action = trail.ResealBegun
	}
	if action != trail.None {
		s.Audit(action, "", by, zap.Int("values", step.Resealed), zap.Int("position", step.Position), zap.Int("of", step.Of))
	}
	return step, nil
}
