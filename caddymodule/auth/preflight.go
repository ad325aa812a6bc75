package auth

import (
	"net/http"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// methodOverrides are headers from which frameworks take the method.
var methodOverrides = upstream.NewNameSet("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")

// isPreflight reports whether r is a CORS preflight, which a browser sends by itself, without credentials, before a page of another
// origin may send its request (Fetch standard, section 4.8). It passes without an identity, so a request that could
// have an effect upstream must not count as one. The caller has checked that r has no token.
func isPreflight(r *http.Request) bool {
	if r.Method != http.MethodOptions || r.ContentLength != 0 || len(r.TransferEncoding) > 0 || len(r.Header["Upgrade"]) > 0 {
		return false
	}
	if asked := r.Header["Access-Control-Request-Method"]; len(asked) != 1 || !httpguts.ValidHeaderFieldName(asked[0]) {
		return false
	}
	// A framework would take the method from such a header, and that may be POST.
	for key := range r.Header {
		if methodOverrides.Has(key) {
			return false
		}
	}
	sent := r.Header["Origin"]
	if len(sent) != 1 {
		return false
	}
	_, err := config.ParseOrigin(sent[0])
	return err == nil || sent[0] == "null" || sent[0] == "file://" // a sandboxed page, and one of an Android app
}
