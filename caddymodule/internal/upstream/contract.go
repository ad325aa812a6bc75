// Package upstream is the contract with the chat backend: which headers tell it who the contact is, how values are encoded,
// and what is removed so that clients cannot forge or delete these headers. It also has the placeholders of messenger_auth,
// and the check that the address of a request names one messenger only.
//
// It does not know how contacts are verified (authn), or whether a request is refused (auth).
//
// Begin reading with [Contract.Clean] and [Contract.Set]. Which names are spellings of one header is in headername.go, how a
// path can be read in pathreading.go.
package upstream

import (
	"net/http"
	"net/textproto"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// The defaults of the header names, and the values of identity_encoding.
const (
	DefaultIdentityHeader  = "X-Contact-Identity"
	DefaultMessengerHeader = "X-Contact-Messenger"
	DefaultClaimsHeader    = "X-Contact-Claims"
	DefaultAssertionHeader = "X-Contact-Assertion"

	EncodingPercent = "percent"
	EncodingRaw     = "raw"
)

// Contract is the contract with the upstream: the headers that only the gateway sets.
type Contract struct {
	Names
	Selection *authn.ClaimSelection // the claims with headers of their own, for the verification
	Own       NameSet               // all headers that this contract sets
	Others    *NameSet              // those of every handler of the configuration; complete before the first request
	Dropped   func(claim string)    // called for each claim that is skipped

	always       []string      // the headers that are set for every contact
	tokens       []tokenHeader // the headers with tokens that have other spellings
	tokenLengths lengths       // of these
}

// Names say which headers the gateway sets. Those of a contract are in canonical form.
type Names struct {
	Identity, Messenger string
	Information         string               // the header of all contact_claims
	Assertion           string               // the header of the assertion, which is removed whether or not there is one
	Raw                 bool                 // values are written as they are, and not percent-encoded
	Claims              []string             // that have headers of their own; the pointer of one that is inside another
	Paths               []strictjson.Pointer // of the claims that are not top-level members, in the same order
	ClaimHeaders        []string             // in the same order
	Sources             authn.Sources        // the configured sources of tokens
}

// NewContract makes the contract for these names.
func NewContract(names Names) Contract {
	names.ClaimHeaders = slices.Clone(names.ClaimHeaders)
	for i := range names.ClaimHeaders {
		names.ClaimHeaders[i] = textproto.CanonicalMIMEHeaderKey(names.ClaimHeaders[i])
	}
	for _, header := range []*string{&names.Identity, &names.Messenger, &names.Information, &names.Assertion} {
		*header = textproto.CanonicalMIMEHeaderKey(*header)
	}
	c := Contract{
		Names:     names,
		Selection: authn.NewClaimSelection(names.Claims, names.Paths...),
		Own:       NewNameSet(names.Identity, names.Messenger, names.Information, names.Assertion),
		Others:    new(NameSet),
		Dropped:   func(string) {},
		always:    []string{names.Identity, names.Messenger},
		tokens:    tokenHeaders(names.Sources),
	}
	c.Own.Add(names.ClaimHeaders...)
	for _, token := range c.tokens {
		c.tokenLengths.add(token.name)
	}
	return c
}

// Equal reports whether c and other set the same headers from the same claims.
func (c Contract) Equal(other Contract) bool {
	return c.Raw == other.Raw && slices.Equal(c.Own.folded, other.Own.folded) && c.Selection.Equal(other.Selection)
}

// A Header is a header as it is shown in explanations.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Preview returns the headers that Set sets for contact.
func (c Contract) Preview(messenger string, contact *authn.Contact) []Header {
	r := &http.Request{Header: make(http.Header)}
	o := &Outcome{Messenger: messenger, Contact: contact}
	c.Set(r, o)
	var list []Header
	for _, name := range o.headers {
		list = append(list, Header{Name: name, Value: r.Header.Get(name)})
	}
	return list
}
