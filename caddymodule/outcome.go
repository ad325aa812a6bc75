package caddymodule

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

const (
	placeholderPrefix = "http.messenger_auth."
	outcomeVar        = "messenger_auth.outcome"
	codeVerified      = "verified"
)

// An outcome is what the messenger_auth handlers that a request meets know together. It lives in the request's context,
// never in a header, because headers are what clients write. Only the goroutine of the request uses it.
type outcome struct {
	messenger string           // whose contact was looked for last
	contact   *authn.Contact   // once verified
	verified  authn.Contact    // has room for one, so that no request needs more memory for it
	rejection *authn.Rejection // why not, if it was not
	place     string           // the handler that decided
	source    string           // the kind of source in which the token stood
	code      string           // what {http.messenger_auth.code} says
	cache     cacheOutcome     // what the cache had for the token
	began     int64            // when verification did, in Unix seconds; 0 if it did not
	printed   [4]byte          // the fingerprint of a good token, if somebody wants to log it
	guarded   bool             // the connection ends when the right to it ends

	set      []string // headers that a handler has set on this request
	identity string   // percent-encoded, for placeholders
	claims   []string // names of claims, for placeholders
	values   []string // theirs, percent-encoded; "" if a claim gives no header

	replacer *caddy.Replacer // of the request, or nil
}

// outcomeOf returns the outcome of r. The first handler that asks makes it, and answers the placeholders from then on.
func outcomeOf(r *http.Request) *outcome {
	ctx := r.Context()
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if o, ok := vars[outcomeVar].(*outcome); ok {
		return o
	}
	o := new(outcome)
	if vars != nil {
		vars[outcomeVar] = o
	}
	if o.replacer, _ = ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); o.replacer != nil {
		o.replacer.Map(o.placeholder)
	}
	return o
}

// placeholder answers every name under our prefix, with "" for what is not known: Caddy sends a placeholder that nobody
// answers upstream as it is written. For the same reason it answers {http.auth.user.*} where no authenticator has.
func (o *outcome) placeholder(key string) (any, bool) {
	if strings.HasPrefix(key, "http.auth.user.") {
		return "", true
	}
	name, ok := strings.CutPrefix(key, placeholderPrefix)
	if !ok {
		return nil, false
	}
	switch name {
	case "identity":
		return o.identity, true
	case "messenger":
		if o.contact != nil {
			return o.messenger, true
		}
	case "code":
		return o.code, true
	}
	if claim, ok := strings.CutPrefix(name, "claim."); ok {
		if i := slices.Index(o.claims, claim); i >= 0 {
			return o.values[i], true
		}
	}
	return "", true
}

// String keeps an operator who writes {http.vars.…} from printing a contact by accident.
func (o *outcome) String() string { return "" }
