package caddymodule

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// An address says which parts of a request's address give the messenger's name.
type address struct {
	labels bool // labels of the host
	parts  int  // how many parts of the path, from its beginning to the last one that is read
}

// addressOf returns the parts that ref, which checkMessengerRef accepted, reads.
func addressOf(ref string) (a address) {
	for _, piece := range strings.Split(ref, "{")[1:] {
		name, _, _ := strings.Cut(piece, "}")
		if index, ok := strings.CutPrefix(name, pathPartPrefix); ok {
			if n, err := strconv.Atoi(index); err == nil {
				a.parts = max(a.parts, n+1)
			}
			continue
		}
		a.labels = true
	}
	return a
}

// check refuses an address that another server could read as that of another messenger. The backend gets the address
// together with the verified contact: where it takes the customer from there, a contact of one customer would otherwise
// reach the data of another one.
func (a address) check(r *http.Request) *authn.Rejection {
	a.dropOthers(r)
	if a.labels && !dropFinalDot(r) {
		return &authn.Rejection{Code: authn.MessengerUnknown, Reason: "the host of the address has an empty label"}
	}
	if a.parts > 0 && isAmbiguous(r.URL.EscapedPath(), a.parts) {
		return &authn.Rejection{Code: authn.MessengerUnknown, Reason: "the path of the address can be read in more than one way, and not every way leads to the same messenger"}
	}
	return nil
}

// dropOthers removes headers from which frameworks take another address than the one that was asked for: Forwarded goes
// before the Host in Spring and Undertow, the next two in IIS, Symfony and Zend before the path (CVE-2018-14773). Only a
// trusted proxy may send them. Caddy itself sees to X-Forwarded-Host.
func (a address) dropOthers(r *http.Request) {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		return
	}
	if a.labels {
		delete(r.Header, "Forwarded")
	}
	if a.parts > 0 {
		delete(r.Header, "X-Original-Url")
		delete(r.Header, "X-Rewrite-Url")
	}
}

// dropFinalDot takes the final dot from the host of r, so that what counts labels from the right counts them alike, here
// and behind the gateway. It reports whether no label of the host is empty.
func dropFinalDot(r *http.Request) bool {
	host, dotted := withoutFinalDot(r.Host)
	if dotted {
		r.Host = host
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host != "" && !strings.HasPrefix(host, ".") && !strings.HasSuffix(host, ".") && !strings.Contains(host, "..")
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
