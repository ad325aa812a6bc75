// Package auth is messenger_auth, the HTTP handler that verifies the contact of a request. It removes what clients must not
// send, chooses the messenger, verifies the token, tells the upstream who the contact is, and closes long-lived connections
// when the token stops being valid. It answers refused requests, and reports decisions to logs, metrics and spans.
//
// It does not know how tokens are verified (authn), which messengers there are and where they are stored (registry), or how
// the headers are encoded (upstream).
//
// Begin reading with [Handler.ServeHTTP]: its comment has the steps of a request in their order, and each step is a function that it
// or authenticate calls. Where to look for:
//
//   - a header that clients must not send, and its other spellings (aliases), which are removed: upstream.Contract.Clean and
//     upstream/headername.go; names that a configuration must not use: checkHeaderName in settings.go
//   - what makes a token invalid: verify in authn/verifier.go; where in a request tokens are: authn.Sources.Find
//   - what happens if the key server is down, at a start and later: the comment of authn.JWKS
//   - how a change that was made on one node, such as a rotation, reaches another: the comment of package registry
//   - an error code: authn/codes.go has all of its texts, and problem.go makes the answer. .github/CONTRIBUTING.md has the
//     steps to add one
//   - a setting: the fields of [Handler], caddyfile.go and settings.go
//   - what is counted and logged: record.go
package auth

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/assertion"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printlog"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler verifies the contact of a request and tells the upstream who it is, in headers that clients cannot set.
//
// From every request that reaches it, it removes the headers that it sets, and those that any other messenger_auth of the
// configuration sets, in all spellings. Then it verifies the requests that match. The token is removed as well. In a Caddyfile:
//
//	messenger_auth [<matcher>] [<messenger>] {
//		token_from header Authorization Bearer
//	}
//
// After it these placeholders have the verified contact, percent-encoded. They are empty for anonymous requests.
//
// Placeholder | Description
// ------------|-------------
// `{http.messenger_auth.identity}` | The contact identity
// `{http.messenger_auth.messenger}` | The name of the messenger; a contact identity is unique only together with it
// `{http.messenger_auth.claim.*}` | A claim that has a header, by its name
// `{http.messenger_auth.code}` | The code of a refusal, also of one that the modes optional and report let pass
// `{http.auth.user.id}` | The contact identity, unless another authenticator has set it
type Handler struct {
	// Which requests are verified, in the form of a route's matchers. The others are cleaned and passed on: they must
	// not reach the chat backend. Default: all requests.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// The messenger whose settings apply, or placeholders of the host's labels or of parts of the path that give its
	// name, such as {http.request.host.labels.2}. A path that another server could read as the path of another messenger is
	// refused. Default: the only messenger that is configured.
	Messenger string `json:"messenger,omitempty"`

	// What happens to requests on this route: "required", "optional", "report" or "off". Default: the messenger's mode.
	Mode config.Mode `json:"mode,omitempty"`

	// The parts of a request in which a token may be. Default: the header Authorization with the scheme Bearer.
	TokenFrom []TokenSource `json:"token_from,omitempty"`

	// Whether the token stays in the request that goes upstream. Default: false, it is removed.
	ForwardToken bool `json:"forward_token,omitempty"`

	// The header that carries the contact identity upstream. Default: X-Contact-Identity.
	IdentityHeader string `json:"identity_header,omitempty"`

	// The header that carries the messenger's name upstream. An identity is unique only together with it. Default:
	// X-Contact-Messenger.
	MessengerHeader string `json:"messenger_header,omitempty"`

	// The header that carries the contact information upstream: the claims that the messenger names in contact_claims, as one
	// compact JSON object, encoded like the identity. Claims that do not fit into 4 KiB are left out. Default: X-Contact-Claims.
	ClaimsHeader string `json:"claims_header,omitempty"`

	// How identity and claims are written into headers: "percent" percent-encodes all bytes that are not ASCII (as UTF-8), and
	// the characters %, +, { and }; percent-decoding or form decoding gives back the exact value. "raw" writes the bytes as
	// they are. Default: percent.
	IdentityEncoding string `json:"identity_encoding,omitempty"`

	// Claims that are sent upstream, each in a header of its own. Default: none.
	ClaimHeaders []ClaimHeader `json:"claim_headers,omitempty"`

	// The path at which a contact logs out: a POST with a valid token revokes that token if it has a jti, and otherwise
	// all tokens of the contact that were issued so far, and closes the connections that were opened with them. Default: none.
	LogoutPath string `json:"logout_path,omitempty"`

	// Whether a logout always revokes all tokens of the contact that were issued so far. Default: false.
	LogoutEverywhere bool `json:"logout_everywhere,omitempty"`

	// The path at which a page gets a ticket: a POST with a valid token answers with a short text that can be used once in place
	// of the token, in the query parameter that token_from ticket names. Default: none.
	TicketPath string `json:"ticket_path,omitempty"`

	// How long a ticket is valid, at most 5m. Default: 30s.
	TicketLifetime *caddy.Duration `json:"ticket_lifetime,omitempty"`

	// Whether pages of the messenger's allowed_origin may send requests from another origin and read the answers: preflights are
	// answered here, and answers of the backend get the headers of CORS if they have none. Default: the backend does both.
	CORS *CORS `json:"cors,omitempty"`

	// Whether the backend gets an assertion: a JWT that the gateway signs, which says who the contact is and that the request came
	// through the gateway. It needs the app's assertion_issuer. Default: none.
	Assertion *Assertion `json:"assertion,omitempty"`

	// How many requests one contact may send, and how many WebSockets and event streams it may have open, on each node. Only
	// requests with a valid token count, so that a contact can use up only its own allowance. Default: no limit.
	ContactLimit *ContactLimit `json:"contact_limit,omitempty"`

	// Media types of responses that end when the token expires or is revoked, as event streams always do, such as
	// application/x-ndjson, application/grpc or multipart/x-mixed-replace. They are cut off, so that they do not look complete.
	// Default: none.
	StreamTypes []string `json:"stream_types,omitempty"`

	// How a WebSocket handshake is refused: "status" answers with the HTTP status, which no page can see; "close" opens
	// the WebSocket, without the backend, and closes it at once with the error code as the reason. Default: status.
	WebSocketRejection string `json:"websocket_rejection,omitempty"`

	registry     *registry.Registry
	matchers     caddyhttp.MatcherSets
	static       *registry.Messenger // the messenger, if its name has no placeholder; otherwise nil
	address      upstream.Address    // the placeholders of the messenger's name, if it has any
	sources      authn.Sources
	headers      upstream.Contract
	issuer       *assertion.Issuer // nil without assertion
	server       *caddyhttp.Server
	errorRoutes  []*caddyhttp.HTTPErrorConfig // those that answer what h or a later handler fails with, the nearest last
	hasAccessLog bool                         // the server keeps an access log
	title        string                       // names this handler in the log
	logger       *zap.Logger
	refusals     *zap.Logger // sampled: clients can cause any number of its lines

	takesQuery bool // one of the sources is a query parameter
}

// messengers is what a handler needs from the app "messenger".
type messengers interface {
	Registry() *registry.Registry
	UseAssertion(alg string) (issuer string, keys *assertion.Keys, err error)
	EndAtExit(server *caddyhttp.Server)
	AddRoute(r interface {
		caddyhttp.MiddlewareHandler
		MayServe(messenger string) bool
	}, headers *upstream.NameSet) (all *upstream.NameSet)
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.messenger_auth",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision resolves the messenger and prepares everything that a request needs.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = printlog.New(ctx.Logger())
	h.refusals = printlog.Sampled(h.logger)
	if err := h.checkSettings(); err != nil {
		return fmt.Errorf("messenger_auth: %w", err)
	}
	h.headers = h.Contract()
	h.sources = h.Sources()
	h.CORS.prepare(h.sources)
	h.takesQuery = slices.ContainsFunc(h.sources, func(s authn.Source) bool { return s.Kind == authn.Query || s.Kind == authn.Ticket })

	app, err := ctx.App("messenger")
	if err != nil {
		return err
	}
	messengers := app.(messengers)
	h.registry = messengers.Registry()
	h.headers.Others = messengers.AddRoute(h, &h.headers.Own)
	h.headers.Dropped = func(claim string) { h.registry.Metrics.ClaimDropped(h.logger, claim) }
	if err := h.provision(ctx, messengers); err != nil {
		return fmt.Errorf("messenger_auth: %w", err)
	}
	return nil
}

// provision prepares h for the messengers of the app.
func (h *Handler) provision(ctx caddy.Context, messengers messengers) error {
	if err := h.resolveMessenger(); err != nil {
		return err
	}
	if err := h.provisionAssertion(messengers); err != nil {
		return err
	}
	sets, err := ctx.LoadModule(h, "MatcherSetsRaw")
	if err != nil {
		return fmt.Errorf("loading matchers: %w", err)
	}
	if err := h.matchers.FromInterface(sets); err != nil {
		return err
	}
	h.server, _ = ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if h.server == nil {
		return nil
	}
	if err := routing.CheckNamedRoutes(ctx); err != nil {
		return err
	}
	messengers.EndAtExit(h.server)
	h.hasAccessLog = h.server.Logs != nil
	h.title = fmt.Sprintf("messenger_auth %s of server %s", h.Messenger, h.server.Name())
	if err := h.cleanErrorRoutes(ctx, h.findErrorRoutes(ctx)); err != nil {
		return err
	}
	h.warnAboutLogs()
	h.warnAboutOrigins()
	h.warnAboutAddresses()
	return nil
}

// ServeHTTP decides a request, in steps whose order matters:
//
//  1. Clean it, first, so that no return below can pass on headers that a client forged.
//  2. Answer a CORS preflight, or let it pass if it has no token.
//  3. Find the token. This and the next three are in authenticate.
//  4. Remove the token before it is checked, so that a refused one does not reach an error route either.
//  5. Check the Origin, before a page of an attacker can find out whether the browser's token is valid.
//  6. Verify the token.
//  7. Set the headers for the upstream.
//  8. Guard long-lived connections, and call the next handler.
//
// The messenger is chosen after cleaning, so that a forged header cannot choose it. The decision is recorded before the
// upstream is called, because the upstream's answer may take hours.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	o := upstream.OutcomeOf(r)
	if rej := h.headers.Clean(r, o); rej != nil {
		h.removeToken(r)
		d := decision{mode: h.Mode, outcome: o}
		h.record(r, d, rej, "")
		return h.refuse(w, r, d, rej)
	}
	// After the cleaning, so that no matcher ever sees an identity that a client forged.
	matched, err := h.matchers.AnyMatchWithError(r)
	if err != nil {
		h.removeToken(r)
		return fail(o, err)
	}
	if !matched {
		h.headers.RemoveShared(r, o)
		return next.ServeHTTP(w, r)
	}
	var d decision
	d.messenger, d.mode, d.rej = h.messengerOf(r)
	d.outcome, d.next = o, next
	switch {
	case d.mode == config.ModeOff:
		h.headers.RemoveShared(r, o)
		return next.ServeHTTP(w, r)
	case h.CORS != nil && d.messenger != nil:
		return h.serveReadably(w, r, d)
	default:
		return h.serve(w, r, d)
	}
}

// A decision has the state of a request after the messenger was chosen. The results of the steps are in the outcome.
type decision struct {
	messenger *registry.Messenger // nil if it is not known; rej says why
	mode      config.Mode
	outcome   *upstream.Outcome
	rej       *authn.Rejection
	next      caddyhttp.Handler
}

// required returns d for a request that needs a valid token in every mode.
func (d decision) required() decision {
	d.mode = config.ModeRequired
	return d
}

// serve is ServeHTTP from step 2 on.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, d decision) error {
	mode, o, rej, next := d.mode, d.outcome, d.rej, d.next
	token := ""
	switch {
	case rej != nil:
		h.removeToken(r)
	case h.isLogout(r):
		return h.logOut(w, r, d)
	case h.isTicketRequest(r):
		return h.giveTicket(w, r, d)
	case o.Contact != nil:
		return h.passVerified(w, r, d)
	case o.Guarded: // for another contact, whose request a later handler has refused
		h.removeToken(r)
		return fail(o, errTwoMessengers())
	default:
		preflight := isPreflight(r)
		w, token, rej = h.authenticate(w, r, d)
		if preflight && rej != nil && rej.Code == authn.TokenMissing {
			return next.ServeHTTP(w, r)
		}
	}
	var over *authn.Rejection
	asserted := ""
	if rej == nil {
		asserted, over = h.admit(r, d)
	}
	h.record(r, d, cmp.Or(rej, over), token)
	switch {
	case over != nil && mode != config.ModeReport:
		return h.refuse(w, r, d, over)
	case rej == nil:
		h.headers.Set(r, o)
		if asserted != "" {
			h.headers.SetAssertion(r, o, asserted)
		}
		return h.passOn(w, r, d)
	case mode == config.ModeReport && o.Source != "": // there was a token, and it was removed
		return h.keepErrorPrivate(w, r, servePrivately(w, r, next))
	case mode == config.ModeReport, mode == config.ModeOptional && rej.Code == authn.TokenMissing:
		return next.ServeHTTP(w, r)
	default:
		return h.refuse(w, r, d, rej)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
