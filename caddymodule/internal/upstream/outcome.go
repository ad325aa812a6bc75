package upstream

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

const PlaceholderPrefix = "http.messenger_auth."

const outcomeVar = "messenger_auth.outcome"

// An Outcome is what the messenger_auth handlers that a request meets know together. It lives in the request's context,
// never in a header, because headers are what clients write. Only the goroutine of the request uses it.
type Outcome struct {
	Messenger string               // whose contact was looked for last
	Contact   *authn.Contact       // once verified
	Rejection *authn.Rejection     // why not, if it was not
	Origin    *session.Origin      // of the messenger, before the contact was verified
	Place     string               // the handler that decided
	Source    string               // the kind of source in which the token stood
	Code      string               // what {http.messenger_auth.code} says
	Began     int64                // when verification did, in Unix seconds; 0 if it did not
	Cache     metrics.CacheOutcome // what the cache had for the token
	Guarded   bool                 // the connection ends when the right to it ends

	ErrorPrivate bool    // the answer of an error route is kept private
	Fingerprint  [4]byte // the fingerprint of a good token, if somebody wants to log it

	set      []string  // headers that a handler has set on this request
	sent     []string  // the values of identity and messenger among them, as they are in the request
	claimed  []string  // those of the claims
	identity string    // percent-encoded, for placeholders
	claims   *Contract // names claims, for placeholders; nil without any
	values   []string  // theirs, percent-encoded; "" if a claim gives no header
}

// Wrote reports whether values are what a handler has put into this very request, and not only equal.
func (o *Outcome) Wrote(values []string) bool {
	if len(values) != 1 {
		return false
	}
	ours := func(list []string) bool {
		for i := range list {
			if &list[i] == &values[0] {
				return true
			}
		}
		return false
	}
	return ours(o.sent) || ours(o.claimed)
}

// OutcomeOf returns the outcome of r. The first handler that asks makes it, and answers the placeholders from then on.
func OutcomeOf(r *http.Request) *Outcome {
	ctx := r.Context()
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if o, ok := vars[outcomeVar].(*Outcome); ok {
		return o
	}
	o := new(Outcome)
	if vars != nil {
		vars[outcomeVar] = o
	}
	if replacer, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		replacer.Map(o.placeholder)
	}
	return o
}

// IsVerified reports whether a messenger_auth has verified the contact of r.
func IsVerified(r *http.Request) bool { return OutcomeOf(r).Contact != nil }

// placeholder answers every name under our prefix, with "" for what is not known: Caddy sends a placeholder that nobody
// answers upstream as it is written. For the same reason it answers {http.auth.user.*}. What another authenticator has set
// there stands before that. To set it ourselves would take the replacer's lock, which costs half a microsecond.
func (o *Outcome) placeholder(key string) (any, bool) {
	if user, ok := strings.CutPrefix(key, "http.auth.user."); ok {
		if user == "id" {
			return o.identity, true
		}
		return "", true
	}
	name, ok := strings.CutPrefix(key, PlaceholderPrefix)
	if !ok {
		return nil, false
	}
	switch name {
	case "identity":
		return o.identity, true
	case "messenger":
		if o.Contact != nil {
			return o.Messenger, true
		}
	case "code":
		return o.Code, true
	}
	if claim, ok := strings.CutPrefix(name, "claim."); ok && o.claims != nil {
		if i := slices.Index(o.claims.Claims, claim); i >= 0 {
			return o.values[i], true
		}
	}
	return "", true
}

// String keeps an operator who writes {http.vars.…} from printing a contact by accident.
func (o *Outcome) String() string { return "" }
