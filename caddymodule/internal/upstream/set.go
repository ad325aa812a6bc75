package upstream

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// These bound what claims add to a request, in bytes: many backends refuse requests with more than 8 KiB of headers.
const (
	maxClaimHeader  = 1 << 10
	maxClaimHeaders = 4 << 10
	maxInformation  = 4 << 10
)

// Set tells the upstream and the placeholders who the contact is. All values were checked, or are encoded here; the
// placeholders carry the encoded form, so that Caddy finds no placeholder in an identity and replaces it.
func (c *Contract) Set(r *http.Request, o *Outcome) {
	o.identity = percentEncode(o.Contact.Identity)
	identity := o.identity
	if c.raw {
		identity = o.Contact.Identity
	}
	for _, name := range o.set {
		delete(r.Header, name) // a request has one contact, and its headers are those of the last handler that verified it
	}
	o.set = slices.Clip(c.always) // shared by all requests; clipped, so that append makes a copy
	// Later handlers may change values in place, so every request has its own.
	o.sent = [2]string{identity, o.Messenger}
	r.Header[c.identity] = o.sent[0:1:1]
	r.Header[c.messenger] = o.sent[1:2:2]
	if o.Contact.Information != "" {
		c.setInformation(r, o)
	}
	c.setClaims(r, o)
}

// setInformation sets the header of the contact information. Like a claim, it never refuses a request: a member for which there
// is no room, or that cannot be written, is left out and counted.
func (c *Contract) setInformation(r *http.Request, o *Outcome) {
	value, ok := c.written(o.Contact.Information)
	if !ok || len(value) > maxInformation {
		value = c.partOf(o.Contact.Information)
	}
	if value != "" {
		o.informed[0] = value
		o.set = append(o.set, c.information)
		r.Header[c.information] = o.informed[:]
	}
}

// SetAssertion adds an assertion to what Set has set.
func (c *Contract) SetAssertion(r *http.Request, o *Outcome, assertion string) {
	o.asserted[0] = assertion
	o.set = append(o.set, c.assertion)
	r.Header[c.assertion] = o.asserted[:]
}

// written returns text as it is written into a header, and whether it can be.
func (c *Contract) written(text string) (string, bool) {
	if c.raw {
		return text, isFieldValue(text)
	}
	return percentEncode(text), true
}

// partOf returns what the header has for an object of which it cannot have everything: the members that fit, in their order.
// Each member is written once, so that a contact with large claims costs no more than their length.
func (c *Contract) partOf(object string) string {
	begin, _ := c.written("{")
	end, _ := c.written("}")
	var members []string
	size := len(begin) + len(end)
	_ = strictjson.Object([]byte(object), func(name, value []byte) {
		quoted, _ := json.Marshal(string(name)) // a string always has a form
		member, ok := c.written(string(quoted) + ":" + string(value))
		if !ok || size+len(member) > maxInformation {
			c.Dropped("contact_claims")
			return
		}
		size += len(member) + len(",")
		members = append(members, member)
	})
	if len(members) == 0 {
		return ""
	}
	return begin + strings.Join(members, ",") + end
}

// setClaims sets the headers of the claims. It never refuses a request: a claim that cannot be a header is skipped and counted.
func (c *Contract) setClaims(r *http.Request, o *Outcome) {
	o.claims = c
	if len(c.Claims) == 0 {
		return
	}
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
