package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// KeysInfo says which keys are active, where they come from, and how their last fetch went.
type KeysInfo struct {
	Messenger string           `json:"messenger"`
	Method    string           `json:"method"`
	Sources   []string         `json:"sources"` // placeholders, or the URL
	Usable    bool             `json:"usable"`  // whether tokens can be verified right now
	Keys      []KeyInfo        `json:"keys"`
	Fetched   *time.Time       `json:"fetched,omitempty"`
	Fresh     *time.Time       `json:"fresh_until,omitempty"`
	Tried     *time.Time       `json:"last_attempt,omitempty"`
	Error     string           `json:"last_error,omitempty"`
	Next      *time.Time       `json:"next_attempt,omitempty"`
	Omitted   []sigkey.Omitted `json:"omitted,omitempty"`

	Previous *PreviousKeys `json:"previous,omitempty"` // the previous method while it is still used; its keys are among Keys
}

// A KeyInfo is one active key. A shared token that the gateway stores has the label that was given to it, and who made it.
type KeyInfo struct {
	sigkey.Info
	Label  string `json:"label,omitempty"`
	MadeBy string `json:"made_by,omitempty"`
}

// PreviousKeys says where the keys of the previous method come from.
type PreviousKeys struct {
	Method  string    `json:"method"`
	Until   time.Time `json:"until"`
	Sources []string  `json:"sources"`
}

// sourcesOf says where the keys of a method come from. The caller adds the URL of a key set.
func sourcesOf(m *config.Messenger) []string {
	sources := []string{}
	for i := range m.KeyValues() {
		sources = append(sources, m.KeyPlace(i))
	}
	if m.IsGenerated() {
		sources = append(sources, "generated, in the storage")
	}
	return sources
}

// DescribeKeys describes the keys that verify tokens of m right now.
func DescribeKeys(m *registry.Messenger) *KeysInfo {
	d := &KeysInfo{Messenger: m.Name, Method: m.Method(), Sources: sourcesOf(m.Messenger), Keys: []KeyInfo{}}
	if !m.Previous.IsOver(registry.Now()) {
		former := m.Previous.Settings()
		d.Previous = &PreviousKeys{Method: former.Method(), Until: m.Previous.Until, Sources: sourcesOf(former)}
		if former.JWKS != nil {
			d.Previous.Sources = append(d.Previous.Sources, keyserver.Shown(former.JWKS.Document()))
		}
	}
	for _, info := range m.Verifier.Load().Keys() {
		d.Keys = append(d.Keys, KeyInfo{Info: info})
	}
	d.Usable = len(d.Keys) > 0
	if m.KeySet == nil {
		return d
	}
	status := m.KeySet.Status()
	d.Sources = append(d.Sources, keyserver.Shown(status.URL))
	d.Fetched, d.Fresh, d.Tried, d.Next = moment(status.Fetched), moment(status.FreshUntil), moment(status.Tried), moment(status.Next)
	if status.Err != nil {
		d.Error = status.Err.Error()
	}
	d.Omitted = status.Omitted
	return d
}

// keys is DescribeKeys with the label of each shared token, and with who made it.
func (s *Service) keys(m *registry.Messenger) *KeysInfo {
	d := DescribeKeys(m)
	ring, _ := s.Store.RingOf(m)
	for i := range d.Keys {
		key := &d.Keys[i]
		at := slices.IndexFunc(ring, func(t ledger.Token) bool { return t.KeyID == key.KeyID })
		if at >= 0 && key.SHA256 == "" { // a public key of the same key ID has no label
			key.Label, key.MadeBy = ring[at].Label, ring[at].By
		}
	}
	return d
}

func moment(t time.Time) *time.Time {
	t = t.UTC().Truncate(time.Second)
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 { // JSON cannot represent years beyond 9999
		return nil
	}
	return &t
}

// Refresh fetches the key set of m now. distrust drops the keys that were fetched before, whether or not new ones can be fetched.
func (s *Service) Refresh(ctx context.Context, m *registry.Messenger, distrust bool, by registry.Actor) error {
	sets := m.KeySets()
	if len(sets) == 0 {
		return apierror.New(http.StatusConflict, "messenger "+m.Name+" has no key set to fetch: its method is "+m.Method())
	}
	s.Audit(trail.KeySetRefreshed, m.Name, by, zap.Bool("distrust", distrust))
	var failed error
	for key, set := range sets {
		if err := s.refresh(ctx, key, set, distrust); err != nil {
			failed = err
		}
	}
	if failed != nil {
		kept := "the keys that were fetched before stay active"
		if len(m.Verifier.Load().Keys()) == 0 {
			kept = "the messenger has no keys now and answers " + string(authn.KeysUnavailable)
		}
		if answer, ok := errors.AsType[caddy.APIError](failed); ok {
			return answer
		}
		return caddy.APIError{HTTPStatus: http.StatusBadGateway, Err: fmt.Errorf("%w; %s", failed, kept)}
	}
	return nil
}

// refresh fetches one key set.
func (s *Service) refresh(ctx context.Context, key keysets.Key, set *authn.JWKS, distrust bool) error {
	if distrust {
		// Every node drops the keys that it has fetched so far, and none restores them after a restart.
		if err := s.Store.KeySets.Distrust(ctx, keysets.ID(key.Settings.URL)); err != nil {
			return apierror.Storage(err)
		}
	}
	err := set.Refresh(ctx, distrust)
	if distrust {
		s.Store.KeySetChanged(key) // even if nothing was fetched, because the old keys are dropped
	}
	return err
}
