package caddymodule

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

const (
	defaultClockSkew = time.Minute
	maxClockSkew     = 5 * time.Minute

	defaultMaxSession = 12 * time.Hour
)

// Messenger is one instance of the chat widget with trust settings of its own: who may sign tokens for its contacts, and
// what these tokens must say. Exactly one of public_key, jwks and shared_token is set.
type Messenger struct {
	// The name of the claim that holds the contact identity, as one top-level member of the token. Letters, digits and
	// _ - . : / are accepted; exp, nbf and iat are not. Required.
	IdentityKey string `json:"identity_key,omitempty"`

	// The public keys that verify RS256 tokens of this messenger, at most 10. Several are there for a change of keys.
	PublicKey []PublicKey `json:"public_key,omitempty"`

	// The URL of the public keys that verify RS256 tokens of this messenger.
	JWKS *JWKS `json:"jwks,omitempty"`

	// The secret that verifies HS256 tokens of this messenger. Empty, the gateway generates it and keeps it in its
	// storage: caddy messenger tokens generate <messenger>.
	SharedToken *SharedToken `json:"shared_token,omitempty"`

	// The accepted values of the claim "iss". When set, a token must have exactly one of them. Default: any, or none.
	Issuer []string `json:"issuer,omitempty"`

	// The accepted values of the claim "aud". When set, a token must name at least one of them. Default: any, or none.
	Audience []string `json:"audience,omitempty"`

	// Claims that every token must have, with a value other than null. "exp" is worth requiring: a token without it
	// never ends. Default: none beside the identity key.
	RequireClaims []string `json:"require_claims,omitempty"`

	// How far the clocks of the site and of the gateway may be apart when exp, nbf and iat are checked, at most 5m.
	// 0 tolerates nothing. Default: 1m.
	ClockSkew *caddy.Duration `json:"clock_skew,omitempty"`

	// The longest time from iat to exp that is accepted; with it, both are required. 0 or absent sets no limit.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`

	// Origins (scheme, host and port, without a path) of the pages that hold this messenger's widget, also those of apps,
	// such as capacitor://localhost or chrome-extension://<id>. When set, a
	// WebSocket handshake that names another origin is refused, and refusals can be read by scripts of these pages. A
	// token from a cookie needs one of these origins, or the gateway's own, wherever a request can change something.
	// Default: none.
	AllowedOrigin []string `json:"allowed_origin,omitempty"`

	// How long a WebSocket or an event stream may live, whatever its token says. 0 sets no limit. Default: 12h.
	MaxSession *caddy.Duration `json:"max_session,omitempty"`

	// What happens to requests: "required" refuses those without a good token; "optional" lets those without any token
	// pass as anonymous; "report" refuses nothing and logs what "required" would have refused; "off" only removes
	// headers that a client must not set. Default: required.
	Mode Mode `json:"mode,omitempty"`

	// How often one client address may send tokens that were never signed for this messenger before further ones are
	// refused unread. Tokens that were verified before are never refused by it. Behind another proxy this needs
	// trusted_proxies. Default: off.
	FailLimit *FailLimit `json:"fail_limit,omitempty"`
}

// A messenger is a messenger as it runs: its settings, which never change, and what is made from them.
type messenger struct {
	*Messenger

	name     string
	stored   bool // it is kept in the storage, and not in the configuration
	policy   authn.Policy
	session  time.Duration // the longest; 0 for no limit
	origins  []origin
	keys     keyFiles
	files    loadedFiles // while the configuration is loaded
	jwks     *authn.JWKS // the engine of the method jwks
	engine   engineKey   // its place in the pool
	revoked  *authn.Revocations
	origin   atomic.Pointer[session.Origin] // what connections are opened under
	ring     string                         // the revision of the key ring that is in force; the store's lock guards it
	released atomic.Bool                    // whether engine and meter were given back
	verifier atomic.Pointer[authn.Verifier]
	counter  messengerCounter
	timings  timings
	meter    *meter
	fetches  *fetchUsers // of the engine
	logger   *zap.Logger
}

// PublicKey is one public key of a messenger.
type PublicKey struct {
	// The RSA public key: PEM (PKIX, PKCS#1 or an X.509 certificate) or a JWK, or exactly one placeholder {file.…} or
	// {env.…} that holds it. A file is read again when it changes. Required.
	Key string `json:"key,omitempty"`

	// The key ID. A token with a "kid" is checked with the keys that have it and with those that have none. Default:
	// the kid of a JWK, otherwise none.
	KeyID string `json:"kid,omitempty"`
}

// SharedToken is the secret of a messenger.
type SharedToken struct {
	// Exactly one placeholder {env.…} or {file.…} that holds the secret; the secret itself never stands in the
	// configuration. At least 32 bytes. A file is read again when it changes. Default: none, the secret is generated on
	// command and kept in Caddy's storage; until then the messenger answers keys_unavailable.
	Token string `json:"token,omitempty"`

	// How the text stands for the bytes of the secret: "raw" (as it is), "base64", "base64url" or "hex". Default: raw.
	Encoding authn.Encoding `json:"encoding,omitempty"`
}

// Mode says what happens to requests that a messenger guards.
type Mode string

// The modes of a messenger.
const (
	ModeRequired Mode = "required"
	ModeOptional Mode = "optional"
	ModeReport   Mode = "report"
	ModeOff      Mode = "off"
)

func (m Mode) check() error {
	switch m {
	case "", ModeRequired, ModeOptional, ModeReport, ModeOff:
		return nil
	}
	return errors.New("is none of required, optional, report, off")
}

// or returns m, or fallback if m is not set.
func (m Mode) or(fallback Mode) Mode {
	if m == "" {
		return fallback
	}
	return m
}

// provision prepares a configured messenger. A generated key ring is given to it later, by the store.
func (m *messenger) provision(name string, logger *zap.Logger, l *live) error {
	if err := m.prepare(name, logger); err != nil {
		return err
	}
	switch {
	case m.JWKS != nil:
		settings, err := m.JWKS.settings()
		if err != nil {
			return fmt.Errorf("jwks %w", err)
		}
		return m.takeEngine(settings, l)
	case m.isGenerated():
		keys, err := authn.NewRing()
		if err != nil {
			return err
		}
		m.keys.current = keys
		m.trust(keys)
		return nil
	}
	return m.loadKeys()
}

// prepare checks the settings and makes of them what requests need, keys excepted.
func (m *messenger) prepare(name string, logger *zap.Logger) error {
	m.name = name
	m.logger = logger.With(zap.String("messenger", name))
	m.revoked = new(authn.Revocations)
	m.setOrigin(session.Origin{})
	if err := m.checkSettings(); err != nil {
		return err
	}
	m.timings = processMetrics.timings(m.method())
	m.policy = authn.Policy{
		IdentityKey:    m.IdentityKey,
		Issuers:        m.Issuer,
		Audiences:      m.Audience,
		RequiredClaims: m.RequireClaims,
		ClockSkew:      defaultClockSkew,
		MaxLifetime:    time.Duration(m.MaxLifetime),
		Revoked:        m.revoked,
	}
	if m.ClockSkew != nil {
		m.policy.ClockSkew = time.Duration(*m.ClockSkew)
	}
	m.session = durationOr(m.MaxSession, defaultMaxSession)
	for _, entry := range m.AllowedOrigin {
		o, err := parseOrigin(entry)
		if err != nil {
			return fmt.Errorf("allowed_origin %q %w", entry, err)
		}
		m.origins = append(m.origins, o)
	}
	return nil
}

// takeEngine makes the verifier of a messenger whose keys come from a URL. Nothing is fetched yet.
func (m *messenger) takeEngine(settings authn.JWKSSettings, l *live) (err error) {
	key := engineKey{settings, l}
	if m.jwks, err = acquireEngine(key, m); err != nil {
		return err
	}
	m.engine = key
	m.keys.current = m.jwks
	m.trust(m.jwks)
	return nil
}

// trust makes keys those that verify the messenger's tokens from now on.
func (m *messenger) trust(keys authn.Keys) {
	m.verifier.Store(authn.NewVerifier(m.policy, keys))
}

// label is what metrics call the messenger. Stored ones share a label: there may be any number of them.
func (m *messenger) label() string {
	if m.stored {
		return sourceStored
	}
	return m.name
}

// countRequest counts a request that was decided so. m is nil if the messenger is unknown.
func (m *messenger) countRequest(mode Mode, code string) {
	if m == nil {
		processMetrics.request(nil, "", "", string(mode), code)
		return
	}
	processMetrics.request(&m.counter, m.label(), m.method(), string(mode), code)
}

// isGenerated reports whether the messenger's shared tokens are generated by the gateway and kept in the storage.
func (m *Messenger) isGenerated() bool { return m.SharedToken != nil && m.SharedToken.Token == "" }

// cleanup gives back what provision took, also after a provision that failed half-way.
func (m *messenger) cleanup() {
	if !m.released.CompareAndSwap(false, true) {
		return
	}
	if m.jwks != nil { // requests may still read it
		releaseEngine(m.engine, m)
	}
	if m.meter != nil {
		_, _ = meters.Delete(meterKey{m.name, m.stored}) // Destruct returns no error
	}
}

// methods are the validation methods that are set, as the configuration calls them.
func (m *Messenger) methods() []string {
	var methods []string
	if len(m.PublicKey) > 0 {
		methods = append(methods, "public_key")
	}
	if m.JWKS != nil {
		methods = append(methods, "jwks")
	}
	if m.SharedToken != nil {
		methods = append(methods, "shared_token")
	}
	return methods
}

// method is the messenger's validation method. A stored value that nobody checked may be without any: then it is "".
func (m *Messenger) method() string {
	if methods := m.methods(); len(methods) > 0 {
		return methods[0]
	}
	return ""
}
