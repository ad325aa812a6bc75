// Package config has the settings of messengers as operators and site owners write them: their JSON, their Caddyfile syntax,
// the checks that need no running gateway, and the reading of the files that they name.
//
// It does not know what runs: the registry makes messengers from these settings.
//
// Begin reading with [Messenger], and with [Settings] below it. A new setting is a field of the one and a row of the other;
// from these two the Caddyfile, JSON, the stored record, the admin API, "caddy messenger create" and the control panel get it.
package config

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
)

const (
	DefaultClockSkew = time.Minute
	MaxClockSkew     = 5 * time.Minute

	DefaultMaxSession = 12 * time.Hour
)

// Messenger is one instance of the chat widget with trust settings of its own: who may sign tokens for its contacts, and
// what these tokens must say. Exactly one of public_key, jwks and shared_token is set.
type Messenger struct {
	// The name of the claim with the contact identity, a top-level member of the token. Letters, digits and _ - . : / are
	// accepted; exp, nbf and iat are not. Required, unless identity_path is set.
	IdentityKey string `json:"identity_key,omitempty"`

	// Where the contact identity is inside the token, as a JSON Pointer (RFC 6901) such as /user/id, for tokens that do not have it
	// at their top level. It replaces identity_key. Default: none.
	IdentityPath string `json:"identity_path,omitempty"`

	// The public keys that verify tokens of this messenger, at most 10. Several are needed while keys are changed.
	PublicKey []PublicKey `json:"public_key,omitempty"`

	// The URL of the public keys that verify tokens of this messenger, or the issuer at which it is found.
	JWKS *JWKS `json:"jwks,omitempty"`

	// The secret that verifies tokens of this messenger. If empty, the gateway generates it and stores it in its storage:
	// caddy messenger tokens generate <messenger>.
	SharedToken *SharedToken `json:"shared_token,omitempty"`

	// The validation method that was used before, whose tokens stay valid until a stated time, so that a site can change its
	// method without a moment in which tokens are refused. Default: none.
	Previous *Previous `json:"previous,omitempty"`

	// The accepted values of the claim "iss". When set, a token must have exactly one of them. Default: any, or none.
	Issuer []string `json:"issuer,omitempty"`

	// The accepted values of the claim "aud". When set, a token must name at least one of them. Default: any, or none.
	Audience []string `json:"audience,omitempty"`

	// The type that every token must name in its header ("typ"), such as at+jwt for the access tokens of RFC 9068: in any case, with
	// or without "application/". A token of another type, or that names none, is refused. Default: JWT, at+jwt, JOSE, or none.
	TokenType string `json:"token_type,omitempty"`

	// Claims that every token must have, with a value other than null. "exp" is worth requiring: a token without it
	// never expires. Default: none except the identity key.
	RequireClaims []string `json:"require_claims,omitempty"`

	// Claims that say more about a contact, such as name and email. Those that a token has go upstream together, as one JSON
	// object in a header (X-Contact-Claims), in this order. They do not decide anything here. Default: none.
	ContactClaims []string `json:"contact_claims,omitempty"`

	// How far the clocks of the site and of the gateway may be apart when exp, nbf and iat are checked, at most 5m.
	// 0 tolerates nothing. Default: 1m.
	ClockSkew *caddy.Duration `json:"clock_skew,omitempty"`

	// The longest time from iat to exp that is accepted; with it, both are required. 0 or absent sets no limit.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`

	// Origins (scheme, host and port, without a path) of the pages with this messenger's widget, also those of apps, such as
	// capacitor://localhost or chrome-extension://<id>. When set, a WebSocket handshake that names another origin is refused,
	// and scripts of these pages can read refusals. A token from a cookie needs one of these origins, or the gateway's own,
	// if the request can change something. Default: none.
	AllowedOrigin []string `json:"allowed_origin,omitempty"`

	// How long a WebSocket or an event stream may stay open, whatever its token says. 0 sets no limit. Default: 12h.
	MaxSession *caddy.Duration `json:"max_session,omitempty"`

	// What happens to requests: "required" refuses those without a valid token; "optional" lets those without any token
	// pass as anonymous; "report" refuses nothing and logs what "required" would have refused; "off" only removes
	// headers that a client must not set. Default: required.
	Mode Mode `json:"mode,omitempty"`

	// How often one client address may send tokens that were never signed for this messenger before further ones are
	// refused unread. Tokens that were verified before are never refused by it. Behind another proxy this needs
	// trusted_proxies. Default: off.
	FailLimit *FailLimit `json:"fail_limit,omitempty"`
}

// Sections of the form in the control panel.
const (
	SectionContacts = "contacts"
	SectionIdentity = "identity"
	SectionJWKS     = "jwks"
	SectionShared   = "shared"
	SectionFetch    = "fetch"
	SectionClaims   = "claims"
	SectionUse      = "use"
)

// ofKeys is why a setting of the method has no loss of its own.
const ofKeys = "what becomes of keys is counted as a whole, see Lost"

// Settings are all options of a messenger, in the order of the form. A new one is a field of Messenger and a row here.
//
// public_key and shared_token have no section: the form has a place of its own for keys, and shared tokens are generated.
var Settings = []Setting{
	{Name: "identity_key", Section: SectionContacts, Label: "Contact identity key", Unless: "identity_path", Required: "It is the name of the claim that holds the contact identity, such as sub.",
		Flag:  "The claim that holds the contact identity",
		Help:  "Defining it is mandatory: the same name as in your token, such as `identity`, `sub` or `customer_id`. It is the claim that holds the primary key of the contact in your chat backend, a top-level member of the token.",
		field: func(m *Messenger) any { return &m.IdentityKey }, loss: identityLoss},
	{Name: "identity_path", Section: SectionIdentity, Label: "Identity path", Default: "none",
		Flag:  "Where the contact identity is, as a JSON `pointer` such as /user/id, in place of the identity key",
		Help:  "Only if the identity is not at the top level of your tokens: a JSON Pointer such as `/user/id`. The contact identity key is empty then.",
		field: func(m *Messenger) any { return &m.IdentityPath }, noLoss: "it is the other form of identity_key"},
	{Name: "public_key", Flag: "A `file` with a public key; may be repeated", field: func(m *Messenger) any { return &m.PublicKey }, noLoss: ofKeys},
	{Name: "jwks", Section: SectionJWKS, Label: "URL of the key set", Unless: "discovery", Required: "Write the URL at which your site publishes its public keys.",
		Flag:  "The `URL` of a key set",
		Help:  "An https URL that everyone can read, such as `https://login.example.com/.well-known/jwks.json`.",
		field: func(m *Messenger) any { return &m.JWKS }, noLoss: ofKeys},
	{Name: "jwks discovery", Section: SectionFetch, Label: "Issuer", Default: "none",
		Flag:  "The `issuer` of a login service, at which the URL of its key set is found, in place of the URL",
		Help:  "In place of the URL: the issuer of your login service, exactly as its tokens have it in `iss`, such as `https://login.example.com/`. The gateway finds the keys there (OpenID Connect Discovery).",
		field: ofJWKS(func(j *JWKS) any { return &j.Discovery }), noLoss: ofKeys},
	{Name: "jwks algorithms", Section: SectionFetch, Label: "Algorithms", Default: "RS256", Kept: true, check: checkAlgorithms,
		Flag:  "An accepted `algorithm` of the keys; may be repeated",
		Help:  "With which your site signs, one per line: RS256 or another of `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`. Keys for others are left out.",
		field: ofJWKS(func(j *JWKS) any { return &j.Algorithms }), noLoss: ofKeys},
	{Name: "jwks refresh_interval", Section: SectionFetch, Label: "Refresh interval", Default: DurationText(authn.DefaultRefreshInterval), Kept: true,
		Flag:  "How long a key set is used if its server sends no lifetime",
		Help:  "How long the keys are used if the key server sends no lifetime. 1m to 1h.",
		field: ofJWKS(func(j *JWKS) any { return &j.RefreshInterval }), noLoss: "it says when keys are fetched, and drops none"},
	{Name: "jwks stale_if_error", Section: SectionFetch, Label: "Use without the key server", Default: DurationText(authn.DefaultStaleIfError), Kept: true,
		Flag:  "How long the last key set is used while its server cannot be reached",
		Help:  "How long the last keys are used while the key server cannot be reached.",
		field: ofJWKS(func(j *JWKS) any { return &j.StaleIfError }), noLoss: "it says what happens if the key server fails later"},
	{Name: "jwks timeout", Section: SectionFetch, Label: "Time for one fetch", Default: DurationText(keyserver.DefaultTimeout), Kept: true,
		Flag:  "How long one fetch of the key set may take",
		Help:  "At most 30s.",
		field: ofJWKS(func(j *JWKS) any { return &j.Timeout }), noLoss: "it says what happens if the key server is slow"},
	{Name: "jwks ca", Section: SectionFetch, Label: "Certificate authority", Default: "those of the system", Kept: true,
		Flag:  "A `file` with the certificates of the authorities that may sign the key server's certificate",
		Help:  "If the certificate of the key server is from an authority of your own: the certificates of that authority in PEM. No other authority is accepted then.",
		field: ofJWKS(func(j *JWKS) any { return &j.CA }), noLoss: ofKeys},
	{Name: "jwks header", Section: SectionFetch, Label: "Request header", Default: "none", Kept: true,
		Flag:  "A `header` that the key server wants to see, as \"X-Api-Key: {file./path}\" or with {env.NAME}, which are read here; may be repeated",
		Help:  "One per line, such as `X-Api-Key: value`. Values are secrets and are not shown: a line with the name alone keeps the value, as long as the host of the URL and the authority stay the same.",
		field: ofJWKS(func(j *JWKS) any { return &j.Header }), noLoss: ofKeys},
	{Name: "shared_token", Flag: "Use shared tokens, which the gateway generates", field: func(m *Messenger) any { return &m.SharedToken }, noLoss: ofKeys},
	{Name: "shared_token alg", Section: SectionShared, Label: "Algorithm", Default: "HS256", Kept: true, check: checkSharedAlgorithm,
		Flag:  "The `algorithm` of shared tokens: HS256, HS384 or HS512",
		Help:  "With which your site signs: `HS256`, `HS384` or `HS512`. The longer ones need shared tokens that are longer, too: generate one after a change.",
		field: sharedTokenAlg, noLoss: ofKeys},
	{Name: "previous", field: func(m *Messenger) any { return &m.Previous }, noLoss: ofKeys},
	{Name: "audience", Section: SectionClaims, Label: "Audience", Default: "any, or none",
		Flag:  "An accepted `aud`; may be repeated",
		Help:  "Accepted values of `aud`, one per line. A token must name one of them exactly.",
		field: func(m *Messenger) any { return &m.Audience }, loss: audienceLoss},
	{Name: "issuer", Section: SectionClaims, Label: "Issuer", Default: "any, or none",
		Flag:  "An accepted `iss`; may be repeated",
		Help:  "Accepted values of `iss`, one per line, compared exactly, including a slash at the end.",
		field: func(m *Messenger) any { return &m.Issuer }, loss: issuerLoss},
	{Name: "token_type", Section: SectionClaims, Label: "Token type", Default: "JWT, at+jwt, JOSE, or none", check: checkTokenType,
		Flag:  "The `type` that every token must name in its header (typ)",
		Help:  "The `typ` that the header of every token must have, such as `at+jwt`. A login server signs tokens for several purposes with one key; with a type, only those for this one are accepted.",
		field: func(m *Messenger) any { return &m.TokenType }, loss: typeLoss},
	{Name: "require_claims", Section: SectionClaims, Label: "Required claims", Default: "only the identity key",
		Flag:  "A `claim` that every token must have; may be repeated",
		Help:  "One per line. Require `exp`: a token without it never expires.",
		field: func(m *Messenger) any { return &m.RequireClaims }, loss: claimsLoss},
	{Name: "contact_claims", Section: SectionIdentity, Label: "Contact information", Default: "none",
		Flag:  "A `claim` that the backend gets as well; may be repeated",
		Help:  "Claims that your chat backend gets as well, such as `name` and `email`, one per line. A claim that a token does not have is left out.",
		field: func(m *Messenger) any { return &m.ContactClaims }, noLoss: "a token without them is valid"},
	{Name: "max_lifetime", Section: SectionClaims, Label: "Longest lifetime", Default: "no limit",
		Flag:  "The longest time from iat to exp",
		Help:  "The longest time from `iat` to `exp`, such as 15m. With it, every token needs both.",
		field: func(m *Messenger) any { return &m.MaxLifetime }, loss: lifetimeLoss},
	{Name: "clock_skew", Section: SectionClaims, Label: "Clock skew", Default: DurationText(DefaultClockSkew),
		Flag:  "How far the clocks of the site and the gateway may differ",
		Help:  "How far the clocks of your site and the gateway may differ. At most 5m.",
		field: func(m *Messenger) any { return &m.ClockSkew }, loss: skewLoss},
	{Name: "allowed_origin", Section: SectionUse, Label: "Allowed origins", Default: "none", check: checkOrigins,
		Flag:  "The `origin` of a page with the widget; may be repeated",
		Help:  "The pages with the widget: scheme and host without a path, such as `https://www.example.com`, one per line. Other pages cannot open a WebSocket then.",
		field: func(m *Messenger) any { return &m.AllowedOrigin }, loss: originLoss},
	{Name: "max_session", Section: SectionUse, Label: "Longest connection", Default: DurationText(DefaultMaxSession), Kept: true,
		Flag:  "How long a WebSocket or an event stream may stay open; 0 sets no limit",
		Help:  "How long a WebSocket or an event stream may stay open. 0 sets no limit.",
		field: func(m *Messenger) any { return &m.MaxSession }, loss: sessionLoss},
	{Name: "fail_limit", Section: SectionUse, Label: "Limit of forged tokens", Default: "off", Kept: true,
		Flag:  "How many forged tokens one client address may send, such as 20/1m",
		Help:  "How many forged tokens one client address may send in a time, such as 20/1m.",
		field: func(m *Messenger) any { return &m.FailLimit }, loss: limitLoss},
	{Name: "mode", Section: SectionUse, Label: "Mode", Default: string(ModeRequired),
		Flag:  valuesText(Modes),
		Help:  "A route of the gateway can have its own mode, which is used instead.",
		field: func(m *Messenger) any { return &m.Mode }, loss: modeLoss},
}

// CopySettings returns a messenger with the same settings, which can be changed with [Setting.Replace] without changing m.
func (m *Messenger) CopySettings() *Messenger {
	settings := *m
	settings.JWKS = m.JWKS.copy()
	if m.SharedToken != nil {
		shared := *m.SharedToken
		settings.SharedToken = &shared
	}
	if m.Previous != nil {
		previous := *m.Previous
		previous.JWKS = previous.JWKS.copy()
		settings.Previous = &previous
	}
	return &settings
}
