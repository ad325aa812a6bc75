package trail

import "cmp"

// An Action is a change as the audit log calls it. The set is closed: each action has its row in the table below, and what writes,
// stores or shows a change names it by its constant.
type Action uint8

// The actions. None is for what is not a change of its own.
const (
	None Action = iota
	MessengerCreated
	MessengerChanged
	MessengerDeleted
	UnreadableMessengerDeleted
	MessengerImported
	MessengersExported
	TokenGenerated
	TokenImported
	TokenExtended
	TokenRevoked
	TokensRotated
	TokensReset
	TokensExpire
	ContactsRevoked
	RevocationRemoved
	ConnectionsEnded
	KeySetRefreshed
	StoreRepaired
	ResealBegun
	StoreResealed
	ValueDiscarded

	actionCount int = iota
)

// actions has the texts of each action.
var actions = [actionCount]struct {
	name   string // in the audit log and the admin API
	title  string // in the control panel; "" if it is the name
	detail string // the name of the one detail that the storage has of such a change; "" if that is DetailKeyID
}{
	MessengerCreated:           {name: "messenger created"},
	MessengerChanged:           {name: "messenger changed", title: "Settings changed"},
	MessengerDeleted:           {name: "messenger deleted"},
	UnreadableMessengerDeleted: {name: "unreadable messenger deleted"},
	MessengerImported:          {name: "messenger imported"},
	MessengersExported:         {name: "messengers exported"},
	TokenGenerated:             {name: "shared token generated"},
	TokenImported:              {name: "shared token imported"},
	TokenExtended:              {name: "shared token extended"},
	TokenRevoked:               {name: "shared token revoked"},
	TokensRotated:              {name: "shared tokens rotated"},
	TokensReset:                {name: "shared tokens reset"},
	TokensExpire:               {name: "expiry of shared tokens set", title: "End of shared tokens set", detail: DetailExpires},
	ContactsRevoked:            {name: "tokens revoked", title: "Tokens of contacts revoked", detail: DetailTarget},
	RevocationRemoved:          {name: "revocation removed", title: "Revocation undone"},
	ConnectionsEnded:           {name: "connections ended", title: "Connections closed"},
	KeySetRefreshed:            {name: "key set refresh requested", title: "Key set fetched"},
	StoreRepaired:              {name: "store repaired"},
	ResealBegun:                {name: "resealing the store begun"},
	StoreResealed:              {name: "store resealed"},
	ValueDiscarded:             {name: "unreadable value discarded"},
}

// String returns what the audit log and the admin API call the action, or "" for None.
func (a Action) String() string { return actions[a].name }

// MarshalText implements encoding.TextMarshaler.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Title returns what the control panel calls the action, or "" if that is its name.
func (a Action) Title() string { return actions[a].title }

// Detail returns what the audit log calls the one detail that the storage has of such a change.
func (a Action) Detail() string { return cmp.Or(actions[a].detail, DetailKeyID) }

// The names of the details that the control panel shows.
const (
	DetailKeyID       = "kid"
	DetailExpires     = "expires"
	DetailTarget      = "target" // the kind of a revocation
	DetailConnections = "connections"
	DetailMethod      = "method"
	DetailMode        = "mode"
	DetailResult      = "result"
	DetailRevocations = "revocations"
)
