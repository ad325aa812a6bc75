package caddymodule

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// An origin is a web origin (RFC 6454 section 4) with its default port written out, or that of an app, which has a scheme
// of its own, and a port only where one is written.
type origin struct {
	scheme, host, port string
}

// parseOrigin reads an origin as browsers send it and as operators configure it.
func parseOrigin(text string) (origin, error) {
	if text == "*" || text == "null" {
		return origin{}, errors.New("names no origin; list each origin, such as https://www.example.com")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return origin{}, errors.New("is not an origin; write scheme and host, such as https://www.example.com")
	}
	if err := checkOriginScheme(u.Scheme); err != nil {
		return origin{}, err
	}
	if u.Host == "" || u.Hostname() == "" {
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

// checkOriginScheme refuses schemes whose pages have no origin that tells them from strangers: a browser sends null for
// them, or the same text for all. Any other may be that of an app (capacitor, ionic, tauri, app) or of an extension
// (chrome-extension, moz-extension, vscode-webview).
func checkOriginScheme(scheme string) error {
	switch scheme {
	case "http", "https":
		return nil
	case "ws", "wss":
		return errors.New("has the scheme of a WebSocket; write the scheme of the page that opens it, such as https://www.example.com")
	case "file", "data", "blob", "about", "javascript", "filesystem", "content", "view-source", "ftp", "mailto":
		return errors.New("has a scheme whose pages have no origin of their own, so that any of them could ask; serve the page over https, or from the scheme of an app")
	}
	if strings.Trim(scheme, "htps") == "" {
		return errors.New("has the scheme " + scheme + "; was https meant?")
	}
	return nil
}

// defaultPort returns the port of a scheme, or "" for that of an app, which has none.
func defaultPort(scheme string) string {
	switch scheme {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
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
		if o, err := parseOrigin(values[0]); err == nil && (m.allows(o) || isOwnOrigin(r, o)) {
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
