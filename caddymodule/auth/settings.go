package auth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// resolveMessenger looks the messenger up when the configuration is loaded, if its name does not depend on the request.
func (h *Handler) resolveMessenger() error {
	names := h.registry.Names()
	if h.Messenger == "" {
		if len(names) != 1 {
			return fmt.Errorf("%d messengers are configured; name the one that is meant: messenger_auth <messenger>", len(names))
		}
		h.Messenger = names[0]
	}
	if strings.Contains(h.Messenger, "{") {
		h.address = upstream.AddressOf(h.Messenger)
		return nil
	}
	if h.static = h.registry.Messengers[h.Messenger]; h.static == nil {
		return fmt.Errorf("messenger %q is not configured; configured are: %s", h.Messenger, strings.Join(names, ", "))
	}
	return nil
}

// warnAboutLogs warns operators that Caddy logs the tokens that we remove: it copies the request for its logs before any
// handler runs. The proxy in front of the backend logs the request that it sends, whenever an event stream is left or ended.
func (h *Handler) warnAboutLogs() {
	if h.Assertion != nil {
		h.registry.AuditWarning("Caddy's proxy writes assertions into its log; filter them as \"What Caddy logs\" in caddymodule/docs/security.md shows",
			zap.String("header", h.Assertion.header()), zap.String("directive", h.title))
	}
	claims := slices.Clone(h.headers.ClaimHeaders)
	if h.static != nil && len(h.static.ContactClaims) > 0 {
		claims = append(claims, h.headers.Information)
	}
	if len(claims) > 0 {
		h.registry.AuditWarning("Caddy's proxy writes values of claims into its log; filter them as \"What Caddy logs\" in caddymodule/docs/security.md shows",
			zap.Strings("headers", claims), zap.String("directive", h.title))
	}
	for _, source := range h.sources {
		if h.hasAccessLog && isLogged(source) {
			h.registry.AuditWarning("Caddy writes tokens from this source into its access logs and error logs; filter them as \"What Caddy logs\" in caddymodule/docs/security.md shows",
				zap.String("token_from", string(source.Kind)), zap.String("name", source.Name), zap.String("directive", h.title))
		}
	}
}

// warnAboutAddresses warns operators that fail_limit has one allowance for all clients: clients of a Unix socket have no
// address, unless the proxy in front is trusted.
func (h *Handler) warnAboutAddresses() {
	limited := func(m *registry.Messenger) bool { return m.FailLimit != nil }
	if h.static != nil && !limited(h.static) || h.static == nil && !slices.ContainsFunc(slices.Collect(maps.Values(h.registry.Messengers)), limited) {
		return
	}
	for _, listen := range h.server.Listen {
		if addr, err := caddy.ParseNetworkAddress(listen); err == nil && addr.IsUnixNetwork() && !h.server.TrustedProxiesUnix {
			h.registry.AuditWarning(noAddress, zap.String("listen", listen), zap.String("server", h.server.Name()))
		}
	}
}

func isQuery(s TokenSource) bool { return s.From == authn.Query || s.From == authn.Ticket }

// isLogged reports whether Caddy's logs contain the tokens of source. Caddy itself redacts cookies and two headers.
func isLogged(source authn.Source) bool {
	switch source.Kind {
	case authn.Cookie, authn.Ticket: // a ticket in a log was used already, or expires soon
		return false
	case authn.Header:
		return source.Name != "Authorization" && source.Name != "Proxy-Authorization"
	}
	return true
}

// checkSettings checks everything that can be decided without the app. The Caddyfile adapter calls it too, to name the line
// of a mistake.
func (h *Handler) checkSettings() error {
	if err := config.CheckNamePattern(h.Messenger); err != nil {
		return err
	}
	if err := h.Mode.Check(); err != nil {
		return fmt.Errorf("mode %q %w", h.Mode, err)
	}
	for i, source := range h.TokenFrom {
		if err := source.check(); err != nil {
			return fmt.Errorf("token_from %s %s: %w", source.From, source.Name, err)
		}
		if slices.Contains(h.TokenFrom[:i], source) {
			return fmt.Errorf("token_from %s %s: is given twice; remove one", source.From, source.Name)
		}
		for _, other := range h.TokenFrom[:i] {
			if isQuery(source) && isQuery(other) && source.Name == other.Name {
				return fmt.Errorf("token_from %s %s: the parameter is used by %s; a token and a ticket each need a parameter of their own", source.From, source.Name, other.From)
			}
			if source.isOtherSpelling(other) {
				return fmt.Errorf("token_from %s %s: is another spelling of %s, which is the same to some backends; keep one", source.From, source.Name, other.Name)
			}
		}
	}
	if err := checkPath(h.LogoutPath); err != nil {
		return fmt.Errorf("logout_path %q %w", h.LogoutPath, err)
	}
	if h.LogoutPath == "" && h.LogoutEverywhere {
		return errors.New("logout_everywhere needs a logout_path")
	}
	for _, check := range []func() error{h.checkTickets, h.checkStreamTypes, h.checkRejection, h.CORS.check, h.ContactLimit.check, h.Assertion.check, h.checkHeaders} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// escape is a character in a URL that is written by its number.
var escape = regexp.MustCompile("%[0-9A-Fa-f]{2}")

// checkPath returns why no request can have a path, which may be empty for none. Its errors continue a sentence that begins with the path.
func checkPath(path string) error {
	switch {
	case path == "":
		return nil
	case !strings.HasPrefix(path, "/"):
		return errors.New("does not begin with a slash")
	case strings.ContainsAny(path, "?#"):
		return errors.New("has a query or a fragment; write the path alone")
	case strings.ContainsAny(path, "{*"):
		return errors.New("has a placeholder or a wildcard; write the path itself")
	case escape.MatchString(path):
		return errors.New("has an escape such as %20; write the character itself")
	case slices.ContainsFunc(strings.Split(path, "/"), func(segment string) bool { return segment == "." || segment == ".." }):
		return errors.New(`has a "." or ".." in it, which browsers take out of a path; write the path without`)
	}
	return nil
}

// reservedHeaders are headers with a meaning for Caddy, for proxies or for the message itself, folded. One that ends in "-"
// is a prefix.
var reservedHeaders = []string{
	"host", "cookie", "authorization", "forwarded", "via", "date", "expect", "origin", "referer", "range",
	"connection", "keep-alive", "proxy-", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "alt-svc",
	"content-", "x-forwarded-", "sec-", "access-control-", "user-agent", "early-data", "proxy", "cache-control", "pragma",
	"accept", "accept-", "if-", "x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url", "x-real-ip",
}

// ClaimHeader names a claim and the header that carries it upstream.
type ClaimHeader struct {
	// The claim, a top-level member of the token. Required, unless path is set.
	Claim string `json:"claim,omitempty"`

	// Where the value is inside the token, as a JSON Pointer (RFC 6901) such as /user/name, in place of a claim. Default: none.
	Path string `json:"path,omitempty"`

	// The header. Required.
	Header string `json:"header,omitempty"`
}

// name names what the header carries: the claim, or the pointer.
func (c *ClaimHeader) name() string {
	return cmp.Or(c.Path, c.Claim)
}

// path returns the pointer to a value that is not a top-level member, or nil.
func (c *ClaimHeader) path() (strictjson.Pointer, error) {
	if c.Path == "" {
		return nil, nil
	}
	if c.Claim != "" {
		return nil, errors.New("has both a claim and a path; keep one")
	}
	return strictjson.ParsePointer(c.Path)
}

// names returns the configured names of headers, or the defaults.
func (h *Handler) names() upstream.Names {
	return upstream.Names{
		Identity:    cmp.Or(h.IdentityHeader, upstream.DefaultIdentityHeader),
		Messenger:   cmp.Or(h.MessengerHeader, upstream.DefaultMessengerHeader),
		Information: cmp.Or(h.ClaimsHeader, upstream.DefaultClaimsHeader),
		Assertion:   h.Assertion.header(),
	}
}

// Contract returns what the handler tells the upstream.
func (h *Handler) Contract() upstream.Contract {
	names := h.names()
	names.Raw, names.Sources = h.IdentityEncoding == upstream.EncodingRaw, h.Sources()
	for _, c := range h.ClaimHeaders {
		path, _ := c.path() // checkHeaders has checked it
		names.Claims, names.Paths, names.ClaimHeaders = append(names.Claims, c.name()), append(names.Paths, path), append(names.ClaimHeaders, c.Header)
	}
	return upstream.NewContract(names)
}

// MayServe reports whether requests for the messenger of that name can reach h.
func (h *Handler) MayServe(name string) bool { return config.RefCanName(h.Messenger, name) }

// Sources returns where h looks for tokens.
func (h *Handler) Sources() authn.Sources { return sources(h.TokenFrom) }

// Marker returns the subprotocol after which h expects a token, or "" if websocket_protocol is not one of its sources.
func (h *Handler) Marker() string {
	for _, source := range h.Sources() {
		if source.Kind == authn.WebSocketProtocol && !source.Prefix {
			return source.Name
		}
	}
	return ""
}

// ReadHandler makes a handler from its JSON without provisioning it. Such a handler must not serve requests; it can be asked what
// a provisioned one would do.
func ReadHandler(text []byte, reg *registry.Registry) (*Handler, error) {
	h := new(Handler)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, err
	}
	if err := h.checkSettings(); err != nil {
		return nil, err
	}
	h.registry = reg
	return h, h.resolveMessenger()
}

// checkHeaders refuses header names that the upstream, or a proxy on the way, would drop or read differently.
func (h *Handler) checkHeaders() error {
	if !slices.Contains([]string{"", upstream.EncodingPercent, upstream.EncodingRaw}, h.IdentityEncoding) {
		return fmt.Errorf("identity_encoding %q is not one of: percent, raw", h.IdentityEncoding)
	}
	taken := map[string]string{}
	check := func(option, name string) error {
		if err := checkHeaderName(name); err != nil {
			return fmt.Errorf("%s: the header %q %w", option, name, err)
		}
		if other, found := taken[upstream.Fold(name)]; found {
			return fmt.Errorf("%s: the header %q is already used by %s; every value needs a header of its own", option, name, other)
		}
		taken[upstream.Fold(name)] = option
		return nil
	}
	names := h.names()
	for _, option := range []struct{ name, header string }{
		{"identity_header", names.Identity}, {"messenger_header", names.Messenger}, {"claims_header", names.Information}, {"assertion", names.Assertion},
	} {
		if err := check(option.name, option.header); err != nil {
			return err
		}
	}
	for i, claim := range h.ClaimHeaders {
		option := "claim_header " + claim.name()
		if claim.name() == "" {
			return errors.New("claim_header: the claim is missing; write claim_header <claim> <header>")
		}
		if strings.HasPrefix(claim.Claim, "/") {
			return fmt.Errorf("%s: begins with a slash, as a JSON Pointer does; write claim_header path %s %s", option, claim.Claim, claim.Header)
		}
		if strings.Contains(claim.name(), "{") {
			return fmt.Errorf("%s: has a placeholder; write the name of the claim itself", option)
		}
		if _, err := claim.path(); err != nil {
			return fmt.Errorf("claim_header path %s: the pointer %w", claim.Path, err)
		}
		if slices.ContainsFunc(h.ClaimHeaders[:i], func(other ClaimHeader) bool { return other.name() == claim.name() }) {
			return fmt.Errorf("%s: is given twice; remove one", option)
		}
		if err := check(option, claim.Header); err != nil {
			return err
		}
	}
	for _, source := range h.TokenFrom {
		if option, found := taken[upstream.Fold(source.Name)]; found && source.From == authn.Header {
			return fmt.Errorf("token_from header %s: this header is used by %s, and clients must not send it; take the token from another header", source.Name, option)
		}
	}
	return nil
}

// checkHeaderName returns why a header of this name must not carry an identity or a claim. Its errors continue a sentence
// that begins with the name.
func checkHeaderName(name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return errors.New("is not a header name")
	}
	folded := upstream.Fold(name)
	if folded != ascii.Lower(name) {
		return errors.New(`has characters other than letters, digits and "-" in its name, which some servers read as "-"; use "-"`)
	}
	for _, reserved := range reservedHeaders {
		if folded == reserved || strings.HasSuffix(reserved, "-") && strings.HasPrefix(folded, reserved) {
			return errors.New("already has a meaning in HTTP; choose another, such as X-Contact-Name")
		}
	}
	return nil
}
