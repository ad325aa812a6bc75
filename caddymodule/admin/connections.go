package admin

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// OpenConnections are the guarded connections of the process.
type OpenConnections struct {
	Open       int         `json:"open"`
	Messengers []Connected `json:"messengers"` // those with open connections
}

// Connected are the guarded connections of one messenger.
type Connected struct {
	Messenger string     `json:"messenger"`
	Open      int        `json:"open"`
	Oldest    *time.Time `json:"oldest"`
	NextEnd   *time.Time `json:"next_end,omitempty"` // when the next of them reaches its deadline
}

// EndRequest says which connections to end: all connections of the messenger that match every other member that is set.
type EndRequest struct {
	Messenger    string             `json:"messenger"`
	Identity     string             `json:"identity,omitempty"`
	IssuedBefore *time.Time         `json:"issued_before,omitempty"` // of the token
	TokenID      revocation.TokenID `json:"token_id,omitempty"`
	TokenHash    authn.TokenID      `json:"token_id_sha256,omitempty"` // as the list of revocations has it
	Key          string             `json:"key,omitempty"`             // the SHA-256 of a public key, as "keys" shows it
}

// EndedConnections is the answer to an EndRequest.
type EndedConnections struct {
	Ended int `json:"ended"`
}

// EndedHere is the answer to a change that ends connections. Those of other nodes are not counted.
type EndedHere struct {
	Ended   int    `json:"connections_ended"`
	Warning string `json:"warning,omitempty"` // why the change may not have the whole effect that its caller expects
}

func describeConnections() *OpenConnections {
	all := registry.Connections.Stats()
	d := &OpenConnections{Messengers: []Connected{}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		stats := all[name]
		d.Open += stats.Open
		d.Messengers = append(d.Messengers, Connected{name, stats.Open, moment(stats.Oldest), moment(stats.NextEnd)})
	}
	return d
}

func (s *Service) endByRequest(ctx context.Context, e EndRequest, by registry.Actor) (EndedConnections, error) {
	n, err := s.EndConnections(ctx, e, by)
	return EndedConnections{n}, err
}

// check refuses members that would be no filter, or not the one that was meant.
func (e *EndRequest) check() error {
	switch {
	case e.IssuedBefore != nil && e.IssuedBefore.IsZero():
		return apierror.New(http.StatusBadRequest, "issued_before is not a valid time of issue")
	case e.TokenID != "" && e.TokenHash != "":
		return apierror.New(http.StatusBadRequest, "token_id and token_id_sha256 name a token twice; give one of the two")
	}
	return nil
}

// filter selects the connections of a request to end them.
func (e *EndRequest) filter() session.Filter {
	f := session.Filter{Messenger: e.Messenger, Identity: e.Identity, TokenID: string(cmp.Or(e.TokenHash, authn.NewTokenID(string(e.TokenID)))), Key: e.Key}
	if e.IssuedBefore != nil {
		f.IssuedBefore = *e.IssuedBefore
	}
	return f
}

// EndConnections ends connections of this node, and returns their number. The audit log names the actor, but not the contact.
func (s *Service) EndConnections(ctx context.Context, e EndRequest, by registry.Actor) (int, error) {
	if err := e.check(); err != nil {
		return 0, err
	}
	if _, open := registry.Connections.Stats()[e.Messenger]; e.Messenger != "" && !open {
		if _, err := s.LookUp(ctx, e.Messenger); err != nil {
			return 0, err
		}
	}
	n, err := registry.Connections.End(e.filter(), session.Revoked)
	if err != nil {
		return 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	s.Audit(trail.ConnectionsEnded, e.Messenger, by, zap.Int(trail.DetailConnections, n))
	return n, nil
}

// CountConnections returns how many connections of this node EndConnections would end.
func (s *Service) CountConnections(e EndRequest) int { return registry.Connections.Count(e.filter()) }

// ConnectionsOf describes the connections of one messenger on this node.
func (s *Service) ConnectionsOf(name string) Connected {
	stats := registry.Connections.Stats()[name]
	return Connected{name, stats.Open, moment(stats.Oldest), moment(stats.NextEnd)}
}
