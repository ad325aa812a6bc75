// Package upstream is the contract with the chat backend: which headers tell it who the contact is, how values are encoded,
// and what is removed so that clients cannot forge or delete these headers. The placeholders of messenger_auth are here as
// well, and the check that an address names one messenger only.
//
// It does not know how contacts are verified (authn), or whether a request is refused (auth).
//
// Begin reading with [Contract.Clean] and [Contract.Set].
package upstream

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// The defaults of the header names, and the values of identity_encoding.
const (
	DefaultIdentityHeader  = "X-Contact-Identity"
	DefaultMessengerHeader = "X-Contact-Messenger"

	EncodingPercent = "percent"
	EncodingRaw     = "raw"

	// maxClaimHeader and maxClaimHeaders bound what claims add to a request, in bytes: many backends refuse requests
	// with more than 8 KiB of headers.
	maxClaimHeader  = 1 << 10
	maxClaimHeaders = 4 << 10
)

// Contract is the contract with the upstream: the headers that only the gateway sets.
type Contract struct {
	identity, messenger string
	Claims              []string // the claims that are sent upstream
	Selection           *authn.ClaimSelection
	claimHeaders        []string // their headers, in the same order
	always              []string // the headers that are set for every contact
	raw                 bool
	Folded              []string           // all of these headers, folded
	Others              *[]string          // those of every handler of the configuration, folded
	tokens              []tokenHeader      // the headers with tokens that have other spellings
	sources             []string           // all headers with tokens
	Dropped             func(claim string) // called for each claim that is skipped
}

// Names say which headers the gateway sets.
type Names struct {
	Identity, Messenger string
	Raw                 bool          // values are written as they are, and not percent-encoded
	Claims              []string      // that have headers of their own
	ClaimHeaders        []string      // in the same order
	Sources             authn.Sources // the configured sources of tokens
}

// NewContract makes the contract for these names.
func NewContract(names Names) Contract {
	c := Contract{
		identity:  textproto.CanonicalMIMEHeaderKey(names.Identity),
		messenger: textproto.CanonicalMIMEHeaderKey(names.Messenger),
		raw:       names.Raw,
		Dropped:   func(string) {},
	}
	c.Folded = []string{Fold(c.identity), Fold(c.messenger)}
	for i, claim := range names.Claims {
		c.Claims = append(c.Claims, claim)
		c.claimHeaders = append(c.claimHeaders, textproto.CanonicalMIMEHeaderKey(names.ClaimHeaders[i]))
		c.Folded = append(c.Folded, Fold(names.ClaimHeaders[i]))
	}
	c.Selection = authn.NewClaimSelection(c.Claims)
	c.always = []string{c.identity, c.messenger}
	c.tokens = tokenHeaders(names.Sources)
	for _, source := range names.Sources {
		if source.Kind == authn.Header {
			c.sources = append(c.sources, source.Name)
		}
	}
	return c
}

// Clean removes everything with which a client could pretend to be the gateway. It changes r in place, so that error routes
// with a proxy are covered as well. It must run before anything can fail.
func (c *Contract) Clean(r *http.Request, o *Outcome) *authn.Rejection {
	for key := range r.Header {
		if c.Guards(key) && !slices.Contains(o.set, key) || c.Removes(key) {
			delete(r.Header, key)
		}
	}
	cleanConnection(r.Header) // first, because the others read the short list that it leaves
	CleanUpgrade(r)
	cleanUnnamedUpgrade(r)
	// Caddy forwards request trailers, declared and undeclared ones, as soon as this map exists.
	r.Trailer = nil
	if r.Method == http.MethodConnect && !isExtendedWebSocket(r) {
		return &authn.Rejection{Code: authn.ProtocolNotAllowed, Reason: "a CONNECT that is not for a WebSocket would be a tunnel past the gateway"}
	}
	return nil
}

// CleanUpgrade removes every upgrade except that to a WebSocket. Caddy would tunnel others as well, and inside such a tunnel
// (h2c smuggling) requests would pass without a check. The request continues as plain HTTP.
func CleanUpgrade(r *http.Request) {
	values, found := r.Header["Upgrade"]
	if !found || len(values) == 1 && ascii.EqualFold(values[0], "websocket") && r.Method == http.MethodGet && r.ProtoMajor == 1 {
		return
	}
	delete(r.Header, "Upgrade")
	if connection := r.Header["Connection"]; len(connection) > 0 {
		kept := slices.DeleteFunc(ConnectionOptions(connection), func(option string) bool { return option == "upgrade" })
		setOrDelete(r.Header, "Connection", kept)
	}
}

// cleanUnnamedUpgrade removes an Upgrade that Connection does not name. The next proxy would ignore it (RFC 9110 section 7.8),
// so that a request that we took for a handshake would arrive as an ordinary one, with a token that only a handshake may have.
func cleanUnnamedUpgrade(r *http.Request) {
	if len(r.Header["Upgrade"]) > 0 && !slices.Contains(ConnectionOptions(r.Header["Connection"]), "upgrade") {
		delete(r.Header, "Upgrade")
	}
}

// cleanConnection removes the headers that Connection names, and the names from it. A proxy removes the headers that are named
// there (RFC 9110 section 7.6.1): if a client could name our headers, the verified identity would be removed.
func cleanConnection(header http.Header) {
	values := header["Connection"]
	if len(values) == 0 {
		return
	}
	var kept []string
	named := named{header: header}
	for _, value := range values {
		eachOption(value, func(option string) {
			switch lower := keptOption(option); {
			case lower == "":
				named.remove(option)
			case !slices.Contains(kept, lower):
				kept = append(kept, lower)
			}
		})
	}
	setOrDelete(header, "Connection", kept)
}

// ConnectionOptions returns the options of all lines of a Connection header, in lower case.
func ConnectionOptions(values []string) []string {
	var options []string
	for _, value := range values {
		for option := range strings.SplitSeq(value, ",") {
			if option = ascii.Lower(strings.Trim(option, " \t")); option != "" {
				options = append(options, option)
			}
		}
	}
	return options
}

// setOrDelete sets a list header, or deletes it if the list is empty.
func setOrDelete(header http.Header, name string, list []string) {
	if len(list) == 0 {
		delete(header, name)
		return
	}
	header[name] = []string{strings.Join(list, ", ")}
}

// isExtendedWebSocket reports whether r opens a WebSocket over HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220). The servers of
// these versions give us the :protocol in different places.
func isExtendedWebSocket(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	if r.ProtoMajor == 3 {
		return r.Proto == "websocket"
	}
	return r.ProtoMajor == 2 && slices.Equal(r.Header[":protocol"], []string{"websocket"})
}

// IsHandshake reports whether r, which must have been cleaned, opens a WebSocket.
func IsHandshake(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || isExtendedWebSocket(r)
}

// Set tells the upstream, the placeholders and the access log who the contact is. All values were checked, or are
// encoded here; the placeholders carry the encoded form, so that none can be read out of an identity.
func (c *Contract) Set(r *http.Request, o *Outcome) {
	o.identity = percentEncode(o.Contact.Identity)
	identity := o.identity
	if c.raw {
		identity = o.Contact.Identity
	}
	if o.set == nil {
		o.set = slices.Clip(c.always) // shared by all requests; clipped, so that append makes a copy
	} else {
		o.set = append(o.set, c.always...)
	}
	// Later handlers may change values in place, so every request has its own.
	values := []string{identity, o.Messenger}
	o.sent = values
	r.Header[c.identity] = values[0:1:1]
	r.Header[c.messenger] = values[1:2:2]
	c.setClaims(r, o)
}

// setClaims sets the headers of the claims. It never refuses a request: a claim that cannot be a header is skipped and counted.
func (c *Contract) setClaims(r *http.Request, o *Outcome) {
	if len(c.Claims) == 0 {
		return
	}
	o.claims = c
	o.values = make([]string, len(c.Claims))
	values := make([]string, len(c.Claims))
	o.claimed = values
	total := 0
	for i, claim := range o.Contact.Claims {
		if !claim.Present {
			continue
		}
		encoded := percentEncode(claim.Text)
		value := encoded
		if c.raw {
			if !isFieldValue(claim.Text) {
				c.Dropped(c.Claims[i])
				continue
			}
			value = claim.Text
		}
		if len(value) > maxClaimHeader || total+len(value) > maxClaimHeaders {
			c.Dropped(c.Claims[i])
			continue
		}
		total += len(value)
		o.set = append(o.set, c.claimHeaders[i])
		values[i], o.values[i] = value, encoded
		r.Header[c.claimHeaders[i]] = values[i : i+1 : i+1]
	}
}

// isFieldValue reports whether a server that gets value in a header reads exactly value.
func isFieldValue(value string) bool {
	return httpguts.ValidHeaderFieldValue(value) && strings.Trim(value, " \t") == value
}

// percentEncode writes bytes that a header cannot carry faithfully as %XX: everything but visible ASCII and inner blanks, and
// the characters %, +, { and }. Percent-decoding gives back the exact value. So does form decoding, which would otherwise
// make a blank of "+", and so another contact.
func percentEncode(value string) string {
	const digits = "0123456789ABCDEF"
	extra := 0
	for i := range len(value) {
		if needsEncoding(value, i) {
			extra += 2
		}
	}
	if extra == 0 {
		return value
	}
	encoded := make([]byte, 0, len(value)+extra)
	for i := range len(value) {
		if c := value[i]; needsEncoding(value, i) {
			encoded = append(encoded, '%', digits[c>>4], digits[c&15])
		} else {
			encoded = append(encoded, c)
		}
	}
	return string(encoded)
}

// needsEncoding reports whether percentEncode escapes the i-th byte of value.
func needsEncoding(value string, i int) bool {
	switch c := value[i]; c {
	case '%', '+', '{', '}':
		return true
	case ' ':
		return i == 0 || i == len(value)-1
	default:
		return c < 0x21 || c > 0x7e
	}
}
