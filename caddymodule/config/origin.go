package config

import (
	"errors"
	"net/url"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// An Origin is a web origin (RFC 6454 section 4) with an explicit port, or the origin of an app, which has a scheme of its own
// and a port only if one is written.
type Origin struct {
	scheme, Host, port string
}

// ParseOrigin reads an origin as browsers send it and as operators configure it.
func ParseOrigin(text string) (Origin, error) {
	if text == "*" || text == "null" {
		return Origin{}, errors.New("is not an origin; list each origin, such as https://www.example.com")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return Origin{}, errors.New("is not an origin; write scheme and host, such as https://www.example.com")
	}
	if err := checkOriginScheme(u.Scheme); err != nil {
		return Origin{}, err
	}
	if u.Host == "" || u.Hostname() == "" {
		return Origin{}, errors.New("is not an origin; write scheme and host, such as https://www.example.com")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" || u.ForceQuery || strings.Contains(text, "#") {
		return Origin{}, errors.New("has more than scheme, host and port; browsers send no path in Origin, so write " + u.Scheme + "://" + u.Host)
	}
	o := Origin{scheme: u.Scheme, Host: ascii.Lower(u.Hostname()), port: u.Port()}
	if o.port == "" {
		o.port = defaultPort(o.scheme)
	}
	for _, c := range []byte(o.Host) {
		if c >= 0x80 {
			return Origin{}, errors.New("has a host with non-ASCII letters; browsers send the form that begins with xn--")
		}
		if c == '*' {
			return Origin{}, errors.New("has a wildcard; list each origin")
		}
	}
	return o, nil
}

// checkOriginScheme refuses schemes whose origins do not distinguish pages: a browser sends null for them, or the same text
// for all. Any other may be the scheme of an app (capacitor, ionic, tauri, app) or of an extension (chrome-extension,
// moz-extension, vscode-webview).
func checkOriginScheme(scheme string) error {
	switch scheme {
	case "http", "https":
		return nil
	case "ws", "wss":
		return errors.New("has the scheme of a WebSocket; write the scheme of the page that opens it, such as https://www.example.com")
	case "file", "data", "blob", "about", "javascript", "filesystem", "content", "view-source", "ftp", "mailto":
		return errors.New("has a scheme whose pages do not have an origin of their own; serve the page over https, or from the scheme of an app")
	}
	if strings.Trim(scheme, "htps") == "" {
		return errors.New("has the scheme " + scheme + "; did you mean https?")
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
