package auth

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/assertion"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// Assertion is a short-lived JWT that the gateway signs for the backend: who the contact is, and that the request came through the
// gateway. It is for backends that can also be reached without the gateway. They verify it with the keys of messenger_jwks.
type Assertion struct {
	// The "aud" of the assertions: names of the backends behind this route. A backend must refuse assertions that do not name it. Required.
	Audience []string `json:"audience,omitempty"`

	// How long an assertion is valid, 10s to 10m. It is used for the requests of a contact for half of this time, and expires with
	// the contact's token at the latest. Default: 60s.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// The header that carries it. Default: X-Contact-Assertion.
	Header string `json:"header,omitempty"`

	// The algorithm: "EdDSA" (Ed25519), or "ES256" or "RS256" for libraries that do not know it. Default: EdDSA.
	Alg string `json:"alg,omitempty"`
}

const (
	defaultAssertionLifetime = time.Minute
	minAssertionLifetime     = 10 * time.Second
	maxAssertionLifetime     = 10 * time.Minute

	// maxAsserted bounds the claims about the contact in an assertion, apart from the identity, in bytes.
	maxAsserted = 4 << 10
)

func (a *Assertion) header() string {
	if a == nil {
		return upstream.DefaultAssertionHeader
	}
	return cmp.Or(a.Header, upstream.DefaultAssertionHeader)
}

func (a *Assertion) check() error {
	if a == nil {
		return nil
	}
	if len(a.Audience) == 0 {
		return errors.New("assertion has no audience; name the backend, such as audience chat-backend: otherwise one backend could show it to another")
	}
	if err := config.CheckList(a.Audience); err != nil {
		return fmt.Errorf("assertion: audience %w", err)
	}
	for _, name := range a.Audience {
		if strings.Contains(name, "{") {
			return fmt.Errorf("assertion: audience %q has a placeholder, which would be signed as it is written; in a Caddyfile, {$NAME} is replaced when it is read", name)
		}
	}
	if d := time.Duration(a.Lifetime); d != 0 && (d < minAssertionLifetime || d > maxAssertionLifetime) {
		return fmt.Errorf("assertion: lifetime %s is not between %s and %s", d, minAssertionLifetime, maxAssertionLifetime)
	}
	if a.Alg != "" && !slices.Contains(assertion.Algorithms, a.Alg) {
		return fmt.Errorf("assertion: alg %q is not one of: %s", a.Alg, strings.Join(assertion.Algorithms, ", "))
	}
	return nil
}

// parseAssertion reads the block of the option assertion.
func (h *Handler) parseAssertion(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.Err("assertion takes only a block: assertion { audience chat-backend }")
	}
	h.Assertion = new(Assertion)
	var lifetime *caddy.Duration
	err := config.ParseBlock(d, "assertion", map[string]config.OptionParser{
		"audience": config.Option(&h.Assertion.Audience),
		"lifetime": config.Option(&lifetime),
		"header":   config.Option(&h.Assertion.Header),
		"alg":      config.Option(&h.Assertion.Alg),
	}, "audience")
	if lifetime != nil {
		h.Assertion.Lifetime = *lifetime
		if *lifetime == 0 {
			return d.Err("assertion: lifetime 0 would make assertions that are never valid; remove the option to send none")
		}
	}
	return err
}

// provisionAssertion makes the issuer. It stays nil if the store cannot keep signing keys; the app has logged why.
func (h *Handler) provisionAssertion(app messengers) error {
	if h.Assertion == nil {
		return nil
	}
	alg := cmp.Or(h.Assertion.Alg, assertion.Algorithms[0])
	issuer, keys, err := app.UseAssertion(alg)
	if err != nil || keys == nil {
		return err
	}
	lifetime := cmp.Or(time.Duration(h.Assertion.Lifetime), defaultAssertionLifetime)
	h.issuer = assertion.NewIssuer(keys, alg, issuer, h.Assertion.Audience, lifetime, h.headers.Claims)
	return nil
}

var errNoAssertion = &authn.Rejection{Code: authn.KeysUnavailable, Reason: assertion.ErrNoKey.Error()}

// assert returns the assertion about a verified contact, or refuses the request if none can be signed. Without an assertion a
// backend would refuse the request anyway, or would fail to notice that it is missing.
func (h *Handler) assert(m *registry.Messenger, o *upstream.Outcome) (string, *authn.Rejection) {
	if h.issuer == nil || o.Contact == nil {
		return "", nil
	}
	c := o.Contact
	s := assertion.Subject{Messenger: m.Name, Identity: c.Identity, Expires: c.Expires, Until: c.Until}
	s.Object = c.Information
	if len(s.Object) > maxAsserted { // the header leaves out the same claims, and counts them
		s.Object = upstream.Part(s.Object, maxAsserted, func(text string) (string, bool) { return text, true }, func() {})
	}
	room := maxAsserted - len(s.Object)
	if names := h.headers.Claims; len(names) > 0 {
		s.Texts = make([]string, len(names))
		for i := range names {
			if text := o.ClaimText(&h.headers, i); len(text) <= room {
				s.Texts[i] = text
				room -= len(text)
			}
		}
	}
	text, err := h.issuer.Assert(&s, registry.Now())
	if err != nil {
		return "", errNoAssertion
	}
	return text, nil
}
