package admin

import (
	"context"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/succession"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A State says at a glance how a messenger is doing.
type State struct {
	Keys string `json:"keys"` // one of the constants below

	// The last use, to the hour. The use of shared tokens is known for a year, from all nodes. The use of other methods is known for a
	// day, from this node only.
	LastUsed *time.Time `json:"last_used,omitempty"`

	Ending *Ending `json:"ending,omitempty"` // of shared tokens in the state KeysEnding
}

// An Ending says which shared token expires soon.
type Ending struct {
	KeyID  string    `json:"kid"` // the one in use, or the last one if all expire
	End    time.Time `json:"end"`
	Next   string    `json:"next_kid,omitempty"` // the newest one that outlives it, with which to sign
	Unused bool      `json:"next_unused"`        // the newest one was never used
}

// The states of a messenger's keys.
const (
	KeysReady      = "ready"
	KeysNone       = "none"               // no token can be verified
	KeysEnding     = "ending"             // all expire within a day, or the one in use does and its successor was never used
	KeysServer     = "key_server_failing" // the last fetch of the key set failed; the keys that were fetched before may be active
	KeysNotLoaded  = "not_loaded"         // the key set is fetched for the first request
	KeysUnreadable = "unreadable"         // the messenger cannot be read or used; its warnings say why
)

// stateReads is how many messengers' last uses are read at a time.
const stateReads = 16

// AddStates adds the states of messengers. It loads none of them, because there may be a thousand. The state of a stored messenger
// that is not in memory comes from its facts in the storage alone.
func (s *Service) AddStates(ctx context.Context, list []*Description) error {
	active := make(map[string]*registry.Messenger)
	for m := range s.Active() {
		active[m.Name] = m
	}
	if err := s.addRings(ctx, list); err != nil {
		return err
	}
	return vault.EachOf(ctx, stateReads, list, func(_ int, d *Description) error {
		d.State = s.stateOf(ctx, d, active[d.Name])
		return nil
	})
}

// addRings reads the shared tokens of configured messengers, which are not in their description.
func (s *Service) addRings(ctx context.Context, list []*Description) error {
	var names []string
	var described []*Description
	for _, d := range list {
		if d.Source == registry.SourceConfig && d.Settings.IsGenerated() {
			names, described = append(names, d.Name), append(described, d)
		}
	}
	return s.Peek(ctx, names, ledger.KindRing, func(i int, p registry.Peeked) {
		described[i].record, described[i].unusable = p.Record, p.Err != nil
	})
}

// stateOf returns the state of a messenger; m is nil if it is not in memory.
func (s *Service) stateOf(ctx context.Context, d *Description, m *registry.Messenger) *State {
	state := &State{Keys: KeysReady}
	kind := ledger.KindStored
	if d.Source == registry.SourceConfig {
		kind = ledger.KindRing
	}
	if m != nil {
		state.LastUsed = moment(m.Meter.LastVerified(time.Now()))
	}
	switch {
	case d.unusable:
		state.Keys = KeysUnreadable
	case d.Settings.IsGenerated():
		var tokens []ledger.Token
		if d.record != nil {
			tokens = d.record.ActiveTokens()
		}
		uses := s.Store.Uses.Last(ctx, d.Name, kind)
		state.Keys, state.Ending = ringState(tokens, uses, registry.Now())
		for _, hour := range uses {
			if state.LastUsed == nil || hour.After(*state.LastUsed) {
				state.LastUsed = &hour
			}
		}
	case m != nil:
		state.Keys = activeState(m)
	case d.Settings.JWKS != nil:
		state.Keys = KeysNotLoaded
	}
	if state.LastUsed != nil {
		state.LastUsed = moment(state.LastUsed.Truncate(time.Hour))
	}
	return state
}

// activeState returns the state of the keys of a messenger in memory.
func activeState(m *registry.Messenger) string {
	keys := DescribeKeys(m)
	switch {
	case keys.Error != "":
		return KeysServer
	case !keys.Usable && keys.Tried == nil && m.JWKS != nil:
		return KeysNotLoaded
	case !keys.Usable:
		return KeysNone
	}
	return KeysReady
}

// ringState returns the state of shared tokens with these last uses.
func ringState(tokens []ledger.Token, uses map[string]time.Time, now time.Time) (string, *Ending) {
	if len(tokens) == 0 {
		return KeysNone, nil
	}
	w := succession.Of(tokens, uses)
	if !w.IsSoon(now) {
		return KeysReady, nil
	}
	ending := &Ending{KeyID: w.Token.KeyID, End: w.Token.End.UTC().Truncate(time.Second)}
	if w.Next != nil {
		ending.Next, ending.Unused = w.Next.KeyID, !w.Used
	}
	return KeysEnding, ending
}
