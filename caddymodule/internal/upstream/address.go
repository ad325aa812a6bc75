package upstream

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// An Address says which parts of a request's address give the messenger's name.
type Address struct {
	labels bool // labels of the host
	parts  int  // how many parts of the path, from its beginning to the last one that is read
}

// AddressOf returns the parts that ref uses, which CheckNamePattern has accepted.
func AddressOf(ref string) (a Address) {
	for _, piece := range strings.Split(ref, "{")[1:] {
		name, _, _ := strings.Cut(piece, "}")
		if index, ok := strings.CutPrefix(name, config.PathPartPrefix); ok {
			if n, err := strconv.Atoi(index); err == nil {
				a.parts = max(a.parts, n+1)
			}
			continue
		}
		a.labels = true
	}
	return a
}

// Check refuses an address that another server could read as the address of another messenger. The backend gets the address
// together with the verified contact. If it takes the customer from the address, a contact of one customer could otherwise
// reach the data of another.
func (a Address) Check(r *http.Request) *authn.Rejection {
	a.dropOthers(r)
	if a.labels && !DropFinalDot(r) {
		return &authn.Rejection{Code: authn.MessengerUnknown, Reason: "the host of the address is not a host name with or without a port, or has an empty label"}
	}
	if a.parts > 0 && IsAmbiguous(r.URL.EscapedPath(), a.parts) {
		return &authn.Rejection{Code: authn.MessengerUnknown, Reason: "the path of the address can be read in more than one way, and not every way leads to the same messenger"}
	}
	return nil
}

// Headers from which frameworks take another address than the requested one. In Spring and Undertow, Forwarded has
// precedence over Host; in IIS, Symfony and Zend, X-Original-URL has precedence over the path (CVE-2018-14773). Gunicorn and
// others remove the prefix that a header names from the path, and Spring adds it.
var (
	otherHosts = NewNameSet("Forwarded", "X-Forwarded-Server", "X-Host", "X-Original-Host", "X-HTTP-Host-Override")
	otherPaths = NewNameSet("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Script-Name", "Script-Name", "Path-Info")
)

// dropOthers removes headers that name another address. Only a trusted proxy may send them. Caddy itself handles
// X-Forwarded-Host, but not its other spellings.
func (a Address) dropOthers(r *http.Request) {
	if FromTrustedProxy(r) {
		return
	}
	for key := range r.Header {
		if a.labels && (otherHosts.Has(key) || key != "X-Forwarded-Host" && isSpelling(key, "x-forwarded-host")) ||
			a.parts > 0 && otherPaths.Has(key) {
			delete(r.Header, key)
		}
	}
}

// DropFinalDot removes the final dot from the host of r, so that labels are counted from the right in the same way here and
// in the backend. It returns whether every server reads the host in the same way. Net/http accepts more: in
// "globex.example:80,acme.example" Caddy finds the labels of globex, and a server that reads a list, such as
// X-Forwarded-Host, those of acme.
func DropFinalDot(r *http.Request) bool {
	host, dotted := withoutFinalDot(r.Host)
	if dotted {
		r.Host = host
	}
	name, port, found := strings.Cut(host, ":")
	if strings.HasPrefix(host, "[") {
		end := strings.LastIndexByte(host, ']') + 1
		name, port, found = host[:end], strings.TrimPrefix(host[end:], ":"), len(host) > end
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil {
			return false
		}
	} else if strings.ContainsFunc(name, func(c rune) bool { return !isHostCharacter(c) }) {
		return false
	}
	if found && strings.Trim(port, "0123456789") != "" {
		return false
	}
	return name != "" && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".") && !strings.Contains(name, "..")
}

// isHostCharacter reports whether c may be in a host name. Characters beyond ASCII are read alike by all servers, or refused.
func isHostCharacter(c rune) bool {
	return c >= utf8.RuneSelf || ascii.IsLetterOrDigit(byte(c)) || c == '-' || c == '_' || c == '.'
}

// withoutFinalDot returns hostport without the dot that makes a host name absolute, and whether there was one.
func withoutFinalDot(hostport string) (string, bool) {
	name, port := hostport, ""
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && !strings.HasSuffix(hostport, "]") {
		name, port = hostport[:i], hostport[i:]
	}
	rest, dotted := strings.CutSuffix(name, ".")
	return rest + port, dotted && rest != ""
}
