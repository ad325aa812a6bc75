package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// An Event is a change of a messenger as the facts tell it. Changes whose facts have outlived their use are not among them.
type Event struct {
	At     time.Time
	Action trail.Action
	By     string // "" if that was not recorded
	Detail string // the kid of a shared token, or what kind of revocation it is
}

// ByContact is who makes a logout.
const ByContact = "the contact"

// actions are what the audit log calls the change that a fact is of. Facts of other kinds are only a part of a change.
var actions = map[string]trail.Action{
	factSettings: trail.MessengerChanged, factExpiry: trail.TokensExpire,
	factToken: trail.TokenGenerated, factImported: trail.TokenImported, factRevoked: trail.TokenRevoked, factReset: trail.TokensReset,
	factRevoke: trail.ContactsRevoked, factUndo: trail.RevocationRemoved,
}

// Events returns what has happened to the messenger, the latest first.
func (j *Journal) Events() (events []Event) {
	j.view(func(_ string, l *ledger) {
		for _, f := range l.facts {
			e := Event{At: f.At.UTC(), Action: actions[f.Kind], By: f.By, Detail: f.KeyID}
			switch {
			case e.Action == trail.None, f.Kind == factSettings && l.withdrawn[f.ID]:
				continue
			case f.Kind == factSettings && f.Parent == "":
				e.Action = trail.MessengerCreated
			case f.Kind == factExpiry:
				e.Detail = f.End.UTC().Format(time.RFC3339)
			case f.Kind == factRevoke:
				e.Detail = f.Revocation.Kind()
				if f.Revocation.Contact != "" {
					e.By = ByContact
				}
			}
			events = append(events, e)
		}
	})
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Action.String(), b.Action.String()))
	})
	return events
}
