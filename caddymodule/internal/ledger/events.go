package ledger

import (
	"cmp"
	"slices"
	"time"
)

// An Event is a change of a messenger as the facts tell it. Changes whose facts have outlived their use are not among them.
type Event struct {
	At     time.Time
	Action string // in the words of the audit log
	By     string // "" if that was not recorded
	Detail string // the kid of a shared token, or what kind of revocation it is
}

// ByContact is who makes a logout.
const ByContact = "the contact"

// action returns what the audit log calls the change that a fact is of. It is "" for a fact that is only a part of a change.
func (l *ledger) action(f *Fact) string {
	switch f.Kind {
	case factSettings:
		switch {
		case l.withdrawn[f.ID]:
			return ""
		case f.Parent == "":
			return "messenger created"
		}
		return "messenger changed"
	case factToken:
		return "shared token generated"
	case factImported:
		return "shared token imported"
	case factExpiry:
		return "expiry of shared tokens set"
	case factRevoked:
		return "shared token revoked"
	case factReset:
		return "shared tokens reset"
	case factRevoke:
		return "tokens revoked"
	case factUndo:
		return "revocation removed"
	}
	return ""
}

// Events returns what has happened to the messenger, the latest first.
func (j *Journal) Events() (events []Event) {
	j.view(func(_ string, l *ledger) {
		for _, f := range l.facts {
			e := Event{At: f.At.UTC(), Action: l.action(f), By: f.By, Detail: f.KeyID}
			switch {
			case e.Action == "":
				continue
			case f.Kind == factExpiry:
				e.Detail = f.End.UTC().Format(time.RFC3339)
			case f.Kind == factRevoke:
				e.Detail = f.Revocation.Target()
				if f.Revocation.Contact != "" {
					e.By = ByContact
				}
			}
			events = append(events, e)
		}
	})
	slices.SortFunc(events, func(a, b Event) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Action, b.Action)) })
	return events
}
