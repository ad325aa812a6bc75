package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// A TokenList is the key ring of a messenger, without the tokens themselves.
type TokenList struct {
	Messenger string      `json:"messenger"`
	Revision  string      `json:"revision,omitempty"`
	Tokens    []TokenInfo `json:"tokens"`
}

// A TokenInfo describes one shared token.
type TokenInfo struct {
	KeyID       string      `json:"kid"`
	Label       string      `json:"label,omitempty"`
	MadeBy      string      `json:"made_by,omitempty"`     // the actor as in the audit log; empty if it was not recorded
	Fingerprint string      `json:"fingerprint,omitempty"` // of a generated token
	Origin      TokenOrigin `json:"origin"`
	State       TokenState  `json:"state"`
	Created     time.Time   `json:"created"`
	End         *time.Time  `json:"end,omitempty"`
	LastUsed    *time.Time  `json:"last_used,omitempty"` // to the hour
}

// A TokenOrigin says where a shared token comes from.
type TokenOrigin string

// The origins of shared tokens.
const (
	TokenGenerated TokenOrigin = "generated" // by the gateway
	TokenImported  TokenOrigin = "imported"  // by an operator
)

// Imported reports whether an operator brought the token.
func (o TokenOrigin) Imported() bool { return o == TokenImported }

// A TokenState says whether tokens of contacts can be signed with a shared token.
type TokenState string

// The states of shared tokens.
const (
	TokenActive   TokenState = "active"
	TokenEnding   TokenState = "ending"    // it has a time at which it expires
	TokenTooShort TokenState = "too short" // for the messenger's algorithm, and therefore not used
)

// Active reports whether the token is used and has no time at which it expires.
func (s TokenState) Active() bool { return s == TokenActive }

// TooShort reports whether the token is not used because of its length.
func (s TokenState) TooShort() bool { return s == TokenTooShort }

// ringKind returns the messenger's settings, the kind of record that has its ring, and the algorithm of its tokens, or an error for
// messengers without a ring.
func (s *Service) ringKind(ctx context.Context, name string) (m *config.Messenger, kind string, alg sigkey.Algorithm, err error) {
	m, kind, err = s.RecordKind(ctx, name)
	if err != nil {
		return nil, "", 0, err
	}
	if !m.UsesRing(registry.Now()) {
		why := "its method is " + m.Method()
		if m.SharedToken != nil {
			why = "its shared token comes from " + m.SharedToken.Token
		}
		return nil, "", 0, apierror.New(http.StatusConflict, "this messenger has no generated shared tokens: "+why)
	}
	ring := m.SharedToken
	if !m.IsGenerated() {
		ring = m.Previous.SharedToken
	}
	alg, err = ring.Algorithm()
	return m, kind, alg, err
}

// previousEnd returns when the previous method of m, and with it a shared token of that method, expires. It returns nil if the
// token has an earlier end of its own, or belongs to the current method.
func previousEnd(m *config.Messenger, end *time.Time) *time.Time {
	if m.IsGenerated() || end != nil && !end.After(m.Previous.Until) {
		return nil
	}
	return &m.Previous.Until
}

// ImportOf returns the change that imports a secret that a site has already. Errors do not quote the secret.
func ImportOf(secret string, encoding sharedtoken.Encoding, kid string) (ledger.RingChange, error) {
	if err := CheckImported(secret, encoding); err != nil {
		return ledger.RingChange{}, apierror.New(http.StatusBadRequest, "the secret "+err.Error())
	}
	if err := CheckImportedKeyID(kid, secret); err != nil {
		return ledger.RingChange{}, apierror.New(http.StatusBadRequest, "the kid "+err.Error())
	}
	decoded, err := encoding.Decode(secret)
	return ledger.ImportToken(decoded, kid), err
}

// CheckImported returns why a secret cannot be imported. The error continues "the secret …", and does not quote the secret.
func CheckImported(secret string, encoding sharedtoken.Encoding) error {
	if secret == "" {
		return errors.New("is missing")
	}
	decoded, err := encoding.Decode(secret)
	if err == nil {
		_, err = sigkey.ParseShared(decoded, "", sigkey.HS256) // the least length; ChangeTokens checks that of the messenger's algorithm
	}
	return err
}

// CheckImportedKeyID returns why a text cannot be the kid of an imported secret. The error continues "the kid …".
func CheckImportedKeyID(kid, secret string) error {
	switch {
	case len(kid) > config.MaxKeyID || strings.TrimSpace(kid) != kid:
		return fmt.Errorf("has more than %d bytes, or begins or ends with white space", config.MaxKeyID)
	case printable.Line(kid) != kid: // two different kids could look the same, and forms could not send it
		return ledger.ErrInvisible
	case sharedtoken.IsIn(kid), ShowsSecret(kid, secret):
		return errors.New("has a secret in it, and would show it; leave it out, or write the kid of the tokens that are signed with it")
	}
	return nil
}

// ShowsSecret reports whether a text that operators will see contains the secret, as it does if a user pasted the secret into the
// wrong field.
func ShowsSecret(text, secret string) bool { return secret != "" && strings.Contains(text, secret) }

// Labelled returns a change with a label for the token that it makes. The error does not quote the label.
func Labelled(change ledger.RingChange, label string) (ledger.RingChange, error) {
	change, err := change.Labelled(label)
	if err != nil {
		return change, apierror.New(http.StatusBadRequest, "the label "+err.Error())
	}
	return change, nil
}

// Tokens describes the ring of a messenger.
func (s *Service) Tokens(ctx context.Context, name string) (*TokenList, error) {
	m, kind, alg, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := s.Record(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	ring := &TokenList{Messenger: name, Tokens: []TokenInfo{}}
	if r == nil {
		return ring, nil
	}
	ring.Revision = r.Revision
	used := s.Store.Uses.Last(ctx, name, kind)
	for _, t := range r.ActiveTokens() {
		d := TokenInfo{KeyID: t.KeyID, Label: t.Label, MadeBy: t.By, Fingerprint: t.Fingerprint(), Origin: TokenGenerated, State: TokenActive, Created: t.Created, End: t.End}
		if t.Imported {
			d.Origin = TokenImported
		}
		if end := previousEnd(m, t.End); end != nil {
			d.End = end
		}
		if d.End != nil {
			d.State = TokenEnding
		}
		if hour, ok := used[t.KeyID]; ok {
			d.LastUsed = &hour
		}
		if !t.Fits(alg) {
			d.State = TokenTooShort
		}
		ring.Tokens = append(ring.Tokens, d)
	}
	slices.Reverse(ring.Tokens) // the newest first
	return ring, nil
}

// ChangeTokens changes the ring of a messenger. It returns the token that was generated, if any, and how many connections of this
// node were ended. The text of the token cannot be read again later.
func (s *Service) ChangeTokens(ctx context.Context, name string, ring ledger.RingChange, c change.Condition, by registry.Actor) (made *ledger.NewToken, ended int, err error) {
	m, kind, alg, err := s.ringKind(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	if ring.Makes && !m.IsGenerated() {
		return nil, 0, apierror.New(http.StatusConflict, "shared_token is the previous method of this messenger, until "+m.Previous.Until.UTC().Format(time.RFC3339)+": its shared tokens can be revoked, and no others can be made")
	}
	if ring.Extends && !m.IsGenerated() {
		return nil, 0, apierror.New(http.StatusConflict, "the shared tokens of the previous method are valid until the time of previous; extend that: caddy messenger create "+name+" --replace --keep-previous 48h")
	}
	if ring, err = ring.For(alg); err != nil {
		return nil, 0, apierror.New(http.StatusBadRequest, "the secret "+err.Error())
	}
	ctx = registry.WithActor(ctx, by)
	if made, ended, err = s.ChangeRing(ctx, name, kind, ring, c); err != nil {
		return nil, 0, err
	}
	kid := ring.KeyID
	if made != nil {
		kid = made.KeyID
		if ring.Close {
			made.Ended = &ended
		}
	}
	s.Audit(ring.Action, name, by, zap.String(trail.DetailKeyID, kid), zap.Bool("close_connections", ring.Close), zap.Int(trail.DetailConnections, ended))
	return made, ended, nil
}
