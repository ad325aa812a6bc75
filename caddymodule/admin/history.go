package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// maxHistory is how many changes a history has.
const maxHistory = 200

// sameChange is how far apart the times of one change in the storage and in the audit log may be. The audit log has the later time,
// at which the change was complete.
const sameChange = 5 * time.Second

// A History says what was changed at a messenger, when and by whom, without secrets and contacts. It joins the changes that the
// storage has, of all nodes, with the audit log of this node since its start. Of older changes the storage has only those that
// still have an effect.
type History struct {
	Messenger string   `json:"messenger"`
	Changes   []Change `json:"changes"`        // the latest first
	More      bool     `json:"more,omitempty"` // there are older ones
}

// A Change is one entry of a history.
type Change struct {
	At      time.Time      `json:"at"`
	Action  trail.Action   `json:"action"`
	By      string         `json:"by,omitempty"` // empty if the actor was not recorded
	Details []trail.Detail `json:"details,omitempty"`
}

// ReadHistory returns the history of a messenger.
func (s *Service) ReadHistory(ctx context.Context, name string) (*History, error) {
	stored, audited, err := s.History(ctx, name)
	if err != nil {
		return nil, err
	}
	h := &History{Messenger: name, Changes: []Change{}}
	for _, e := range audited {
		h.Changes = append(h.Changes, Change{e.At.Truncate(time.Second), e.Action, e.By, e.Details})
	}
	for _, e := range stored {
		if slices.ContainsFunc(audited, func(a trail.Entry) bool {
			return strings.HasPrefix(a.By, e.By) && a.At.Sub(e.At).Abs() <= sameChange
		}) {
			continue // this node made it, and its own entry says more
		}
		c := Change{At: e.At.Truncate(time.Second), Action: e.Action, By: e.By}
		if e.Detail != "" {
			c.Details = []trail.Detail{{Name: e.Action.Detail(), Value: e.Detail}}
		}
		h.Changes = append(h.Changes, c)
	}
	slices.SortStableFunc(h.Changes, func(a, b Change) int { return b.At.Compare(a.At) })
	if h.More = len(h.Changes) > maxHistory; h.More {
		h.Changes = h.Changes[:maxHistory]
	}
	return h, nil
}
