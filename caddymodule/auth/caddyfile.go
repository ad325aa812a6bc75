package auth

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
)

func init() {
	httpcaddyfile.RegisterDirective("messenger_auth", parseDirective)
	// After forward_auth, so that the headers that forward_auth copies cannot pass for ours, and after messenger_health, so
	// that a load balancer needs no token.
	httpcaddyfile.RegisterDirectiveOrder("messenger_auth", httpcaddyfile.Before, "request_header")
}

// parseDirective reads the directive:
//
//	messenger_auth [<matcher>] [<messenger>] {
//		mode                required|optional|report|off
//		token_from          header <name> [<scheme>]
//		token_from          cookie <name>
//		token_from          query <name>
//		token_from          websocket_protocol <marker>
//		token_from          websocket_protocol prefix <prefix> [base64url]
//		token_from          ticket <name>
//		forward_token
//		identity_header     <name>
//		messenger_header    <name>
//		claims_header       <name>
//		identity_encoding   percent|raw
//		claim_header        <claim> <header>
//		claim_header        path <pointer> <header>
//		cors                [<header…>]
//		assertion {
//			audience <name…>
//			lifetime <duration>
//			header   <name>
//			alg      EdDSA|ES256|RS256
//		}
//		contact_limit {
//			connections <n>
//			requests    <n>/<duration>
//		}
//		websocket_rejection close|status
//		logout_path         <path> [everywhere]
//		stream_types        <media type…>
//		ticket_path         <path>
//		ticket_lifetime     <duration>
//	}
//
// token_from and claim_header may be repeated. The matcher belongs to the handler and not to its route: requests that do
// not match must be cleaned too.
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
	return routing.NewRoute(d, nil, h)
}

// UnmarshalCaddyfile sets up the handler from the tokens of the directive, the matcher excepted.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	directive := d.Token()
	args := d.RemainingArgs()
	switch {
	case len(args) == 1:
		h.Messenger = args[0]
	case len(args) > 1:
		return d.Errf("messenger_auth takes one messenger, and %d words are given; write messenger_auth [<matcher>] [<messenger>]", len(args))
	}
	err := config.ParseBlock(d, "messenger_auth", map[string]config.OptionParser{
		"mode":                config.Option(&h.Mode),
		"token_from":          h.parseTokenFrom,
		"identity_header":     config.Option(&h.IdentityHeader),
		"messenger_header":    config.Option(&h.MessengerHeader),
		"claims_header":       config.Option(&h.ClaimsHeader),
		"identity_encoding":   config.Option(&h.IdentityEncoding),
		"claim_header":        h.parseClaimHeader,
		"websocket_rejection": config.Option(&h.WebSocketRejection),
		"logout_path":         h.parseLogoutPath,
		"assertion":           h.parseAssertion,
		"contact_limit":       h.parseContactLimit,
		"cors": func(d *caddyfile.Dispenser) error {
			h.CORS = &CORS{ExposedHeaders: d.RemainingArgs()}
			return nil
		},
		"stream_types":    config.Option(&h.StreamTypes),
		"ticket_path":     config.Option(&h.TicketPath),
		"ticket_lifetime": config.Option(&h.TicketLifetime),
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
		return config.AtToken(directive).Errf("messenger_auth: %w", err)
	}
	return nil
}

func (h *Handler) parseTokenFrom(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) >= 3 && authn.SourceKind(args[0]) == authn.WebSocketProtocol && args[1] == "prefix" && len(args) <= 4 {
		source := TokenSource{From: authn.WebSocketProtocol, Name: args[2], Prefix: true, Encoding: strings.Join(args[3:], "")}
		return h.addTokenFrom(d, source)
	}
	if len(args) != 2 && (len(args) != 3 || authn.SourceKind(args[0]) != authn.Header) {
		return d.Err("token_from takes one of: header <name> [<scheme>], cookie <name>, query <name>, websocket_protocol <marker>, ticket <name>, or websocket_protocol prefix <prefix> [base64url]")
	}
	source := TokenSource{From: authn.SourceKind(args[0]), Name: args[1]}
	if len(args) == 3 {
		source.Scheme = args[2]
	}
	return h.addTokenFrom(d, source)
}

func (h *Handler) addTokenFrom(d *caddyfile.Dispenser, source TokenSource) error {
	if err := source.check(); err != nil {
		return d.Errf("token_from %s %s: %w", source.From, source.Name, err)
	}
	h.TokenFrom = append(h.TokenFrom, source)
	return nil
}

func (h *Handler) parseClaimHeader(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 2:
		h.ClaimHeaders = append(h.ClaimHeaders, ClaimHeader{Claim: args[0], Header: args[1]})
	case len(args) == 3 && args[0] == "path":
		h.ClaimHeaders = append(h.ClaimHeaders, ClaimHeader{Path: args[1], Header: args[2]})
	default:
		return d.Err("claim_header takes a claim and a header, or a path and a header: claim_header name X-Contact-Name, claim_header path /user/name X-Contact-Name")
	}
	return nil
}

func (h *Handler) parseContactLimit(d *caddyfile.Dispenser) error {
	if d.CountRemainingArgs() > 0 {
		return d.Err("contact_limit takes only a block: contact_limit { connections 5 } or { requests 60/1m }, or both")
	}
	h.ContactLimit = new(ContactLimit)
	return config.ParseBlock(d, "contact_limit", map[string]config.OptionParser{
		"connections": config.Option(&h.ContactLimit.Connections),
		"requests": func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			ok := len(args) == 1
			if ok {
				h.ContactLimit.Requests, h.ContactLimit.Window, ok = config.ParseRate(args[0])
			}
			if !ok {
				return d.Err("requests takes a number and a duration, such as 60/1m")
			}
			return nil
		},
	})
}

func (h *Handler) parseLogoutPath(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[1] != "everywhere" {
		return d.Err("logout_path takes a path: logout_path /logout [everywhere]")
	}
	h.LogoutPath, h.LogoutEverywhere = args[0], len(args) == 2
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
