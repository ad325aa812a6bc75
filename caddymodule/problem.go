package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// documentation is where a problem's type leads; the README has an anchor for every code.
const documentation = "https://github.com/messengerauth/caddy-messenger-auth#"

// retryAfter is what a client is told to wait, in seconds, when the gateway could not decide.
const retryAfter = 5

// A problem is the answer to a refused request. Its sentences are constant: they say what is wrong and how to mend it,
// and hold nothing that was received or configured.
type problem struct {
	status int
	title  string
	detail string
	body   []byte // application/problem+json (RFC 9457)
	length string // of the body
	place  int    // in meters

	challenge               string // what stands behind the realm in WWW-Authenticate
	challenges              bool   // whether that header is sent at all
	refused, wouldBeRefused string // log messages
}

// problems has one entry for every code; the README documents the same list.
var problems = map[authn.Code]*problem{
	authn.TokenMissing: {status: 401, title: "No token",
		detail: "The request carries no token where this gateway looks for one. Send the token of the logged-in contact."},
	authn.TokenAmbiguous: {status: 400, title: "More than one token",
		detail: "The request carries more than one token, or one source twice. Send exactly one token in exactly one place."},
	authn.TokenMalformed: {status: 401, title: "Malformed token",
		detail: "The token is not a signed JWT in compact form: three base64url segments without padding, header and payload each one JSON object without duplicate names. Send the token exactly as the library returned it."},
	authn.TokenTooLarge: {status: 401, title: "Token too large",
		detail: "The token is longer than 8 KiB, or its header is longer than 4 KiB. Put fewer claims into it, and no certificates into the header."},
	authn.AlgorithmNotAllowed: {status: 401, title: "Algorithm not allowed",
		detail: "The token is signed with another algorithm than this messenger's validation method has. Sign with RS256 for a public key or JWKS, with HS256 for a shared token."},
	authn.KeyUnknown: {status: 401, title: "Unknown key",
		detail: "No active key of this messenger fits the token's kid. Sign with a key that the messenger knows, and with its kid."},
	authn.SignatureInvalid: {status: 401, title: "Invalid signature",
		detail: "The signature was not made by a key of this messenger over this token. Check that the site signs with this messenger's key, and that the token arrives unchanged."},
	authn.TokenExpired: {status: 401, title: "Token expired",
		detail: "The token's exp has passed. Fetch a fresh token and try again; if it is fresh, check the clock of the site."},
	authn.TokenNotYetValid: {status: 401, title: "Token not yet valid",
		detail: "The token's nbf or iat lies in the future. Check the clock of the site."},
	authn.TokenLifetimeTooLong: {status: 401, title: "Token lifetime too long",
		detail: "The token lives longer than this messenger accepts. Set an earlier exp."},
	authn.ClaimMissing: {status: 401, title: "Required claim missing",
		detail: "A claim that this messenger requires is absent or null. Add it to the token."},
	authn.ClaimInvalid: {status: 401, title: "Invalid claim",
		detail: "exp, nbf or iat is not a NumericDate, or jti is neither a string nor an integer. Write times as JSON numbers of seconds since 1970 (no strings, no milliseconds), and jti as a string."},
	authn.IssuerNotAllowed: {status: 401, title: "Issuer not allowed",
		detail: "The token's iss is absent or not one that this messenger accepts. It is compared exactly, a final slash included."},
	authn.AudienceNotAllowed: {status: 401, title: "Audience not allowed",
		detail: "The token's aud is absent or names none that this messenger accepts. It is compared exactly."},
	authn.IdentityMissing: {status: 401, title: "Identity missing",
		detail: "The token does not have the claim that is this messenger's identity key. Add it as a top-level claim under exactly that name."},
	authn.IdentityInvalid: {status: 401, title: "Invalid identity",
		detail: "The identity is no string or integer of 1 to 255 bytes, or has control characters, or white space at its edges. Sign the contact's primary key as it is."},
	authn.OriginNotAllowed: {status: 403, title: "Origin not allowed",
		detail: "The page that caused this request is not one that this messenger accepts. Add its origin to allowed_origin."},
	authn.ProtocolNotAllowed: {status: 400, title: "Protocol not allowed",
		detail: "CONNECT is taken only to open a WebSocket."},
	authn.TokenRevoked: {status: 401, title: "Token revoked",
		detail: "This token, or all tokens of this contact that were issued so early, were revoked. Log in again to get a new one."},
	authn.MessengerUnknown: {status: 404, title: "Unknown messenger",
		detail: "There is no messenger at this address. Check the address in the widget's settings."},
	authn.StoreUnavailable: {status: 503, title: "Store unavailable",
		detail: "The gateway could not write this down, and nothing was changed. Try again later."},
	authn.TooManyFailures: {status: 429, title: "Too many failures",
		detail: "Too many tokens that are not good came from this address. Send tokens of this messenger only, and try again after the time in Retry-After."},
	authn.KeysUnavailable: {status: 503, title: "Keys unavailable",
		detail: "The gateway has no key for this messenger at the moment and cannot decide. Try again later."},
}

func init() {
	for code, p := range problems {
		body, err := json.Marshal(struct {
			Type   string     `json:"type"`
			Title  string     `json:"title"`
			Status int        `json:"status"`
			Code   authn.Code `json:"code"`
			Detail string     `json:"detail"`
		}{documentation + string(code), p.title, p.status, code, p.detail})
		if err != nil {
			panic(err) // cannot be: these are strings and a number
		}
		p.body = append(body, '\n')
		p.length = strconv.Itoa(len(p.body))
		p.refused, p.wouldBeRefused = "refused: "+string(code), "would be refused: "+string(code)
		p.challenge, p.challenges = challenge(code, p)
		p.place = slices.Index(meteredCodes, string(code))
	}
}

// refuse answers r. Where the site has error routes, these answer it, with the headers that are set here.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, m *messenger, rej *authn.Rejection) error {
	p := problems[rej.Code]
	if h.WebSocketRejection == rejectionClose && isHandshake(r) && closeHandshake(w, r, p.status, rej.Code) {
		return nil
	}
	header := w.Header()
	values := [3]string{"no-store", "application/problem+json"} // later handlers may change them in place
	header["Cache-Control"] = values[0:1:1]
	switch p.status {
	case http.StatusServiceUnavailable:
		header["Retry-After"] = []string{strconv.Itoa(retryAfter)}
	case http.StatusTooManyRequests:
		header["Retry-After"] = []string{strconv.Itoa(m.FailLimit.retryAfter())}
	}
	if m != nil {
		if p.challenges {
			values[2] = `Bearer realm="` + m.name + `"` + p.challenge
			header["Www-Authenticate"] = values[2:3:3]
		}
		m.allowReading(header, r)
	}
	if h.hasErrorRoutes() {
		if err := caddyhttp.Error(p.status, fmt.Errorf("%s: %s", rej.Code, p.detail)); h.goesToErrorRoute(r, err) {
			return err
		}
	}
	header["Content-Type"] = values[1:2:2]
	if r.Method == http.MethodHead {
		header["Content-Length"] = []string{p.length}
		w.WriteHeader(p.status)
		return nil
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body) // whoever does not read it has gone
	return nil
}

// challenge says what kind of credentials are wanted (RFC 6750 section 3): it returns what stands behind the realm, and
// whether there is a challenge at all. A request without any token gets no error code.
func challenge(code authn.Code, p *problem) (string, bool) {
	switch {
	case code == authn.TokenMissing:
		return "", true
	case p.status == http.StatusUnauthorized:
		return `, error="invalid_token", error_description="` + p.title + `"`, true
	case p.status == http.StatusBadRequest:
		return `, error="invalid_request", error_description="` + p.title + `"`, true
	}
	return "", false
}

// allowReading lets scripts of the messenger's own pages read why they were refused (CORS).
func (m *messenger) allowReading(header http.Header, r *http.Request) {
	if len(m.origins) == 0 {
		return
	}
	header.Add("Vary", "Origin")
	sent := r.Header["Origin"]
	if len(sent) != 1 {
		return
	}
	if o, err := parseOrigin(sent[0]); err == nil && m.allows(o) {
		header.Set("Access-Control-Allow-Origin", sent[0])
		header.Set("Access-Control-Allow-Credentials", "true")
		header.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
	}
}

// sampled returns a logger for lines that clients can cause at will: the first of each kind in every ten seconds.
func sampled(logger *zap.Logger) *zap.Logger {
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, 10*time.Second, 1, 0)
	}))
}
