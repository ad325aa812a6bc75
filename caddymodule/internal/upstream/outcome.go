package upstream

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// PlaceholderPrefix begins the names of all placeholders of messenger_auth.
const PlaceholderPrefix = "http.messenger_auth."

// outcomeVar is the variable of the request in which Caddy stores the outcome.
const outcomeVar = "messenger_auth.outcome"

// An Outcome has the result of the verification of a request, for all messenger_auth handlers on its route. It is stored in the request's
// context and never in a header, because clients write headers. Only the goroutine of the request uses it.
type Outcome struct {
	Messenger      string             // the messenger that verified the token last
	Contact        *authn.Contact     // nil if the contact is not verified
	Rejection      *authn.Rejection   // why the contact is not verified
	Origin         *session.Origin    // of the messenger, read before the verification
	Handler        string             // the title of the handler that decided
	Source         string             // the kind of source that had the token
	Code           string             // the value of {http.messenger_auth.code}
	Began          time.Time          // when the verification began, or the request was decided without one
	Cache          authn.CacheOutcome // whether the token was in the cache
	Handshake      bool               // the request opens a WebSocket; Clean finds that out
	MaxConnections int                // how many connections the contact may have open; 0 for any number
	Guarded        bool               // a handler guards the connection already
	Session        *session.Session   // the connection, if it is tracked already

	Marker string // the subprotocol that announced the token; "" if none did

	Refused     bool                                          // a handler has refused the request with an error
	ErrorAnswer func(http.ResponseWriter) http.ResponseWriter // wraps the answer of an error route; may be nil
	ErrorRoute  caddyhttp.MiddlewareHandler                   // serves an error route as the handler that verified the contact; may be nil
	Answering   bool                                          // an error route answers, and both have been applied
	Fingerprint [4]byte                                       // of a valid token, if there is an access log

	counted  []Rate              // the limits in which the request was counted
	rates    [1]Rate             // for counted, which rarely has more
	headers  []string            // the names of the headers that a handler has set on this request
	hidden   bool                // whether Hide has removed them
	replaced map[string][]string // by name: the values with which an operator's handlers have replaced them

	// The values of these headers. The request's header has slices of these very arrays: see Wrote.
	base         [2]string // identity and messenger
	information  [1]string // the contact information
	assertion    [1]string
	claimHeaders []string // one value for each claim

	assertionHeader string    // the name of the header of the assertion; "" without one
	contract        *Contract // the one whose Set was called last; nil before

	// For placeholders.
	identity   string   // percent-encoded
	claimTexts []string // one for each claim of contract, percent-encoded; "" if the claim was skipped
}

// A Rate is how many requests a contact may send in a window.
type Rate struct {
	Requests int
	Window   time.Duration
}

// Counts reports whether the request still has to be counted in the limit of this rate: directives with the same one count together.
func (o *Outcome) Counts(r Rate) bool {
	if slices.Contains(o.counted, r) {
		return false
	}
	if o.counted == nil {
		o.counted = o.rates[:0]
	}
	o.counted = append(o.counted, r)
	return true
}

// Wrote reports whether values is the very slice that a handler, or Show, has set on this request, and not only an equal one, which the
// client may have sent.
func (o *Outcome) Wrote(values []string) bool {
	if len(values) == 0 {
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
	for _, list := range o.replaced {
		if ours(list) {
			return true
		}
	}
	return len(values) == 1 && (ours(o.base[:]) || ours(o.claimHeaders) || ours(o.information[:]) || ours(o.assertion[:]))
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

// Hide removes the headers that were set from r until Show, and reports whether it did: r is not guarded meanwhile, so that no backend may
// take it for a request of the contact. Headers that an operator's handlers have removed or replaced stay so after Show.
func (o *Outcome) Hide(r *http.Request) bool {
	if o.hidden || len(o.headers) == 0 {
		return false
	}
	o.hidden = true
	for _, name := range o.headers {
		values, there := r.Header[name]
		own := o.valueOf(name)
		switch {
		case !there:
			o.headers = without(o.headers, name)
		case len(values) != len(own) || len(own) > 0 && &values[0] != &own[0]:
			if o.replaced == nil {
				o.replaced = make(map[string][]string)
			}
			o.replaced[name] = values
		}
		delete(r.Header, name)
	}
	return true
}

// without returns a copy of list without name.
func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(other string) bool { return other == name })
}

// Show sets the headers that Hide has removed, and reports whether it did.
func (o *Outcome) Show(r *http.Request) bool {
	if !o.hidden {
		return false
	}
	o.hidden = false
	for _, name := range o.headers {
		r.Header[name] = o.valueOf(name)
	}
	return true
}

// valueOf returns the value of a header that was set. The request's header has this very slice.
func (o *Outcome) valueOf(name string) []string {
	if values, ok := o.replaced[name]; ok {
		return values
	}
	switch c := o.contract; name {
	case o.assertionHeader: // first, because the assertion of another handler may use the name of any other header
		return o.assertion[:]
	case c.Identity:
		return o.base[0:1:1]
	case c.Messenger:
		return o.base[1:2:2]
	case c.Information:
		return o.information[:]
	default:
		i := slices.Index(c.ClaimHeaders, name)
		return o.claimHeaders[i : i+1 : i+1]
	}
}

// isSet reports whether the header of that name is one that a handler has set on the request.
func (o *Outcome) isSet(name string) bool { return !o.hidden && slices.Contains(o.headers, name) }

// Refuse records that r is refused, and removes the headers that Set has set: an earlier handler may have verified r, and neither an
// error route nor a backend there may take r for a verified request.
func (o *Outcome) Refuse(r *http.Request, rej *authn.Rejection) {
	if o.Contact != nil {
		o.Contact, o.Rejection = nil, rej
	}
	for _, name := range o.headers {
		delete(r.Header, name)
	}
	o.headers, o.hidden, o.replaced, o.assertionHeader, o.identity, o.contract, o.claimTexts = nil, false, nil, "", "", nil, nil
}

// SetsAll reports whether the handler that has verified the contact sets all headers of c, but for that of the assertion.
func (o *Outcome) SetsAll(c *Contract) bool {
	first := o.contract
	return first == nil || first.Identity == c.Identity && first.Messenger == c.Messenger && first.Information == c.Information &&
		!slices.ContainsFunc(c.ClaimHeaders, func(name string) bool { return !slices.Contains(first.ClaimHeaders, name) })
}

// ClaimText returns the text of the contact's i-th claim of c, or "" if there is none. If an earlier handler has verified the contact,
// only the claims of that one are known.
func (o *Outcome) ClaimText(c *Contract, i int) string {
	if o.contract != nil && o.contract != c {
		i = slices.Index(o.contract.Claims, c.Claims[i])
	}
	if i < 0 || i >= len(o.Contact.Claims) {
		return ""
	}
	return o.Contact.Claims[i].Text
}

// IsVerified reports whether a messenger_auth has verified the contact of r.
func IsVerified(r *http.Request) bool { return OutcomeOf(r).Contact != nil }

// placeholder returns a value for every name under our prefix, "" if it is not known, because Caddy sends a placeholder without a
// value upstream literally. For the same reason it has values for {http.auth.user.*}; those that another authenticator
// has set have precedence. It is a function, because setting values would take the replacer's lock for half a microsecond.
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
	if claim, ok := strings.CutPrefix(name, "claim."); ok && o.contract != nil {
		if i := slices.Index(o.contract.Claims, claim); i >= 0 {
			return o.claimTexts[i], true
		}
	}
	return "", true
}

// String prevents an operator who writes {http.vars.…} from printing a contact by accident.
func (o *Outcome) String() string { return "" }
