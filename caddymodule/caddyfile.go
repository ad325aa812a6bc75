package caddymodule

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("messenger", parseGlobalOption)
	httpcaddyfile.RegisterDirective("messenger_auth", parseDirective)
	// After forward_auth, so that what that copies into headers cannot pass for ours.
	httpcaddyfile.RegisterDirectiveOrder("messenger_auth", httpcaddyfile.After, "forward_auth")
}

// parseGlobalOption reads one block of the global option; the blocks of one Caddyfile make one app:
//
//	messenger <name> {
//		identity_key   <claim>
//		public_key     <pem|jwk|{file.…}|{env.…}> [kid <id>]
//		jwks           <url> {
//			refresh_interval <duration>
//			stale_if_error   <duration>
//			timeout          <duration>
//		}
//		shared_token   {env.…}|{file.…} [raw|base64|base64url|hex]
//		issuer         <value…>
//		audience       <value…>
//		require_claims <claim…>
//		clock_skew     <duration>
//		max_lifetime   <duration>
//		max_session    <duration>
//		allowed_origin <origin…>
//		mode           required|optional|report|off
//	}
//
//	messenger {
//		poll_interval <duration>
//	}
//
// A messenger has exactly one of public_key, which may be repeated, jwks, and shared_token.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if previous, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(previous.Value, app); err != nil {
			return nil, d.WrapErr(err)
		}
	}
	d.Next() // the name of the option
	args := d.RemainingArgs()
	var err error
	switch len(args) {
	case 0:
		err = parseShared(d, app)
	case 1:
		if _, found := app.Messengers[args[0]]; found {
			return nil, d.Errf("messenger %s is configured twice; keep one block", args[0])
		}
		if err := checkMessengerName(args[0]); err != nil {
			return nil, d.Errf("messenger %q: the name %w", args[0], err)
		}
		var m *Messenger
		if m, err = parseMessenger(d, args[0]); err == nil {
			if app.Messengers == nil {
				app.Messengers = make(map[string]*Messenger)
			}
			app.Messengers[args[0]] = m
		}
	default:
		return nil, d.Errf("messenger takes one name, and %d words are given; write messenger <name> { … }", len(args))
	}
	if err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "messenger", Value: caddyconfig.JSON(app, nil)}, nil
}

func parseShared(d *caddyfile.Dispenser, app *App) error {
	return parseBlock(d, "messenger", map[string]optionParser{
		"poll_interval": func(d *caddyfile.Dispenser) error {
			if app.PollInterval != nil {
				return d.Err("poll_interval is set twice; keep one line")
			}
			return durationOption(&app.PollInterval)(d)
		},
	})
}

func parseMessenger(d *caddyfile.Dispenser, name string) (*Messenger, error) {
	place := d.Token()
	m := new(Messenger)
	err := parseBlock(d, "messenger "+name, map[string]optionParser{
		"identity_key":   stringOption(&m.IdentityKey),
		"public_key":     m.parsePublicKey,
		"jwks":           m.parseJWKS,
		"shared_token":   m.parseSharedToken,
		"issuer":         listOption(&m.Issuer),
		"audience":       listOption(&m.Audience),
		"require_claims": listOption(&m.RequireClaims),
		"allowed_origin": m.parseAllowedOrigin,
		"clock_skew":     durationOption(&m.ClockSkew),
		"max_lifetime":   func(d *caddyfile.Dispenser) error { return parseDuration(d, &m.MaxLifetime) },
		"max_session":    durationOption(&m.MaxSession),
		"mode":           func(d *caddyfile.Dispenser) error { return parseMode(d, &m.Mode) },
	}, "public_key", "issuer", "audience", "require_claims", "allowed_origin")
	if err != nil {
		return nil, err
	}
	if err := m.checkSettings(); err != nil {
		return nil, at(place).Errf("messenger %s: %w", name, err)
	}
	return m, nil
}

func (m *Messenger) parsePublicKey(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	k := PublicKey{}
	switch {
	case len(args) == 1:
		k.Key = args[0]
	case len(args) == 3 && args[1] == "kid" && args[2] != "":
		k.Key, k.KeyID = args[0], args[2]
	default:
		return d.Err("public_key takes one key and perhaps its kid: public_key {file./path/to/key.pem} [kid <id>]")
	}
	if _, ok := parseReference(k.Key); !ok {
		if _, err := authn.ParsePublicKey([]byte(k.Key), k.KeyID); err != nil {
			return d.Errf("public_key %w", err)
		}
	}
	m.PublicKey = append(m.PublicKey, k)
	return nil
}

func (m *Messenger) parseJWKS(d *caddyfile.Dispenser) error {
	place := d.Token()
	m.JWKS = new(JWKS)
	if err := stringOption(&m.JWKS.URL)(d); err != nil {
		return err
	}
	err := parseBlock(d, "jwks", map[string]optionParser{
		"refresh_interval": durationOption(&m.JWKS.RefreshInterval),
		"stale_if_error":   durationOption(&m.JWKS.StaleIfError),
		"timeout":          durationOption(&m.JWKS.Timeout),
	})
	if err != nil || strings.Contains(m.JWKS.URL, "{") { // placeholders are resolved at load, not here
		return err
	}
	if _, err := m.JWKS.settings(); err != nil {
		return at(place).Errf("jwks %w", err)
	}
	return nil
}

// parseSharedToken never quotes an argument: it may be the secret.
func (m *Messenger) parseSharedToken(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Err("shared_token takes a placeholder and perhaps an encoding: shared_token {env.NAME}|{file./path} [raw|base64|base64url|hex]")
	}
	if _, ok := parseReference(args[0]); !ok {
		return d.WrapErr(errLiteralSecret)
	}
	m.SharedToken = &SharedToken{Token: args[0]}
	if len(args) == 2 {
		m.SharedToken.Encoding = authn.Encoding(args[1])
		if !m.SharedToken.Encoding.Known() {
			return d.Err("shared_token has an encoding that is none of raw, base64, base64url, hex")
		}
	}
	return nil
}

func (m *Messenger) parseAllowedOrigin(d *caddyfile.Dispenser) error {
	first := len(m.AllowedOrigin)
	if err := listOption(&m.AllowedOrigin)(d); err != nil {
		return err
	}
	for _, entry := range m.AllowedOrigin[first:] {
		if _, err := parseOrigin(entry); err != nil {
			return d.Errf("allowed_origin %q %w", entry, err)
		}
	}
	return nil
}

// parseDirective reads the directive:
//
//	messenger_auth [<matcher>] [<messenger>] {
//		mode                required|optional|report|off
//		token_from          header <name> [<scheme>]
//		token_from          cookie <name>
//		token_from          query <name>
//		token_from          websocket_protocol <marker>
//		forward_token
//		identity_header     <name>
//		messenger_header    <name>
//		identity_encoding   percent|raw
//		claim_header        <claim> <header>
//		websocket_rejection close|status
//	}
//
// token_from and claim_header may be repeated. The matcher goes into the handler and not on its route: what does not
// match must be cleaned too.
func parseDirective(d httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	d.Next() // the name of the directive
	matcher, err := d.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	h := new(Handler)
	if matcher != nil {
		h.MatcherSetsRaw = append(h.MatcherSetsRaw, matcher)
	}
	if err := h.UnmarshalCaddyfile(d.Dispenser); err != nil {
		return nil, err
	}
	return d.NewRoute(nil, h), nil
}

// UnmarshalCaddyfile sets up the handler from the tokens of the directive, the matcher excepted.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	place := d.Token()
	args := d.RemainingArgs()
	switch {
	case len(args) == 1:
		h.Messenger = args[0]
	case len(args) > 1:
		return d.Errf("messenger_auth takes one messenger, and %d words are given; write messenger_auth [<matcher>] [<messenger>]", len(args))
	}
	err := parseBlock(d, "messenger_auth", map[string]optionParser{
		"mode":                func(d *caddyfile.Dispenser) error { return parseMode(d, &h.Mode) },
		"token_from":          h.parseTokenFrom,
		"identity_header":     stringOption(&h.IdentityHeader),
		"messenger_header":    stringOption(&h.MessengerHeader),
		"identity_encoding":   stringOption(&h.IdentityEncoding),
		"claim_header":        h.parseClaimHeader,
		"websocket_rejection": stringOption(&h.WebSocketRejection),
		"forward_token": func(d *caddyfile.Dispenser) error {
			if d.CountRemainingArgs() > 0 {
				return d.Err("forward_token takes no value; remove the line to take tokens out of the request")
			}
			h.ForwardToken = true
			return nil
		},
	}, "token_from", "claim_header")
	if err != nil {
		return err
	}
	if err := h.checkSettings(); err != nil {
		return at(place).Errf("messenger_auth: %w", err)
	}
	return nil
}

func (h *Handler) parseTokenFrom(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 && (len(args) != 3 || authn.SourceKind(args[0]) != authn.Header) {
		return d.Err("token_from takes a place: header <name> [<scheme>], cookie <name>, query <name>, or websocket_protocol <marker>")
	}
	source := TokenSource{From: authn.SourceKind(args[0]), Name: args[1]}
	if len(args) == 3 {
		source.Scheme = args[2]
	}
	if err := source.check(); err != nil {
		return d.Errf("token_from %s %s: %w", source.From, source.Name, err)
	}
	h.TokenFrom = append(h.TokenFrom, source)
	return nil
}

func (h *Handler) parseClaimHeader(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Err("claim_header takes a claim and a header: claim_header name X-Contact-Name")
	}
	h.ClaimHeaders = append(h.ClaimHeaders, ClaimHeader{Claim: args[0], Header: args[1]})
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
