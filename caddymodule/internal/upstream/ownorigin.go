package upstream

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// IsOwnOrigin reports whether o is the origin under which the client reached r. If that is not known for certain, the answer
// is false: guessing http would admit an attacker who can change pages that are sent over plain HTTP.
func IsOwnOrigin(r *http.Request, o config.Origin) bool {
	scheme, hostport, known := ReachedAt(r)
	if !known {
		return false
	}
	hostport, _ = withoutFinalDot(hostport)
	own, err := config.ParseOrigin(scheme + "://" + hostport)
	o.Host = strings.TrimSuffix(o.Host, ".") // a page of the host with its final dot is one of the same host
	return err == nil && own == o
}

// ReachedAt returns the scheme and the host under which the client reached r. A trusted proxy in front says how it was
// reached itself, in the first elements of X-Forwarded-Proto and X-Forwarded-Host; later ones are those of proxies behind
// it. Forwarded (RFC 7239) and X-Forwarded-Port are not read: few proxies set them, and the others pass on what a client
// has sent. If a trusted proxy sends the scheme in Forwarded only, it is unknown.
func ReachedAt(r *http.Request) (scheme, hostport string, known bool) {
	scheme, hostport = "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if !FromTrustedProxy(r) {
		return scheme, hostport, true
	}
	if proto, sent := firstElement(r.Header["X-Forwarded-Proto"]); sent {
		switch ascii.Lower(proto) {
		case "https", "wss":
			scheme = "https"
		case "http", "ws":
			scheme = "http"
		default:
			return "", "", false
		}
	} else if len(r.Header["Forwarded"]) > 0 {
		return "", "", false
	}
	if host, sent := firstElement(r.Header["X-Forwarded-Host"]); sent {
		hostport = host
	}
	return scheme, hostport, true
}

// firstElement returns the first element of a list that may have several lines, and whether there is any line.
func firstElement(lines []string) (string, bool) {
	if len(lines) == 0 {
		return "", false
	}
	first, _, _ := strings.Cut(lines[0], ",")
	return strings.Trim(first, " \t"), true
}

// FromTrustedProxy reports whether r was sent by a proxy that the operator trusts (trusted_proxies).
func FromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}
