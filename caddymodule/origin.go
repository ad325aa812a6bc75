package caddymodule

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// An origin is a web origin (RFC 6454 section 4) with its default port written out.
type origin struct {
	scheme, host, port string
}

// parseOrigin reads an origin as browsers send it and as operators configure it.
func parseOrigin(text string) (origin, error) {
	if text == "*" || text == "null" {
		return origin{}, errors.New("names no origin; list each origin, such as https://www.example.com")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return origin{}, errors.New("is not an origin; write scheme and host, such as https://www.example.com")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" || u.ForceQuery || strings.Contains(text, "#") {
		return origin{}, errors.New("has more than scheme, host and port; browsers send no path in Origin, so write " + u.Scheme + "://" + u.Host)
	}
	o := origin{scheme: u.Scheme, host: ascii.Lower(u.Hostname()), port: u.Port()}
	if o.port == "" {
		o.port = defaultPort(o.scheme)
	}
	for _, c := range []byte(o.host) {
		if c >= 0x80 {
			return origin{}, errors.New("has a host with non-ASCII letters; browsers send the form that begins with xn--")
		}
		if c == '*' {
			return origin{}, errors.New("has a wildcard; list each origin")
		}
	}
	return o, nil
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// ownOrigin is the origin under which the client reached r. A trusted proxy in front says how it was reached itself.
func ownOrigin(r *http.Request) origin {
	o := origin{scheme: "http"}
	if r.TLS != nil {
		o.scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if proto := r.Header.Get("X-Forwarded-Proto"); proto == "https" || proto == "http" {
			o.scheme = proto
		}
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = strings.Trim(r.Host, "[]"), defaultPort(o.scheme)
	}
	o.host, o.port = ascii.Lower(host), port
	return o
}

// checkOrigin keeps a foreign page from using a contact's browser. A browser attaches a cookie by itself, so a cookie
// token counts only where the page is known, or where the request can change nothing; and it opens WebSockets across
// origins without asking anyone (cross-site WebSocket hijacking), so a handshake answers to the list whenever there is
// one.
func (m *messenger) checkOrigin(r *http.Request, cookieOnly bool) *authn.Rejection {
	handshake := isHandshake(r)
	values := r.Header["Origin"]
	switch {
	case cookieOnly && (handshake || !isSafe(r.Method)):
	case !cookieOnly && handshake && len(m.origins) > 0 && len(values) > 0:
	default:
		return nil
	}
	if len(values) == 1 {
		if o, err := parseOrigin(values[0]); err == nil && (m.allows(o) || o == ownOrigin(r)) {
			return nil
		}
	}
	return &authn.Rejection{Code: authn.OriginNotAllowed, Reason: "the Origin is absent, or neither the gateway's own nor one of allowed_origin"}
}

func (m *messenger) allows(o origin) bool { return slices.Contains(m.origins, o) }

// isSafe reports whether the method is safe (RFC 9110 section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// isPreflight reports whether r is a CORS preflight, which browsers send without credentials and which asks for nothing.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions &&
		len(r.Header["Origin"]) == 1 && len(r.Header["Access-Control-Request-Method"]) == 1 &&
		r.ContentLength == 0 && len(r.TransferEncoding) == 0 && len(r.Header["Upgrade"]) == 0
}
