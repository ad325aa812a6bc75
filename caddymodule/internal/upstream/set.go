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
	if c.Raw {
		identity = o.Contact.Identity
	}
	for _, name := range o.headers {
		delete(r.Header, name) // a request has one contact, and its headers are those of the last handler that verified it
	}
	o.assertionHeader, o.hidden, o.replaced = "", false, nil
	o.headers = slices.Clip(c.always) // shared by all requests; clipped, so that append makes a copy
	// Later handlers may change values in place, so every request has its own.
	o.base = [2]string{identity, o.Messenger}
	r.Header[c.Identity] = o.base[0:1:1]
	r.Header[c.Messenger] = o.base[1:2:2]
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
		value = Part(o.Contact.Information, maxInformation, c.written, func() { c.Dropped("contact_claims") })
	}
	if value != "" {
		o.information[0] = value
		o.headers = append(o.headers, c.Information)
		r.Header[c.Information] = o.information[:]
	}
}

// SetAssertion adds an assertion to the headers of Set. A request has only one: that of an earlier handler is for another backend.
func (c *Contract) SetAssertion(r *http.Request, o *Outcome, assertion string) {
	for _, name := range []string{o.assertionHeader, c.Assertion} {
		if slices.Contains(o.headers, name) {
			delete(r.Header, name)
			delete(o.replaced, name)
			o.headers = without(o.headers, name)
		}
	}
	o.assertion[0], o.assertionHeader = assertion, c.Assertion
	o.headers = append(o.headers, c.Assertion)
	r.Header[c.Assertion] = o.assertion[:]
}

// written returns the form of text in a header, and whether it can be in one.
func (c *Contract) written(text string) (string, bool) {
	if c.Raw {
		return text, isFieldValue(text)
	}
	return percentEncode(text), true
}

// Part returns an object with the members of object that fit into size bytes together, in their order and in the form of written, or ""
// if no member fits. It calls dropped for each of the others. Each member is encoded once, so that the cost of large claims is linear.
func Part(object string, size int, written func(string) (string, bool), dropped func()) string {
	begin, _ := written("{")
	end, _ := written("}")
	var members []string
	size -= len(begin) + len(end)
	_ = strictjson.Object([]byte(object), func(name, value []byte) {
		quoted, _ := json.Marshal(string(name)) // a string always has a form
		member, ok := written(string(quoted) + ":" + string(value))
		if !ok || len(member) > size {
			dropped()
			return
		}
		size -= len(member) + len(",")
		members = append(members, member)
	})
	if len(members) == 0 {
		return ""
	}
	return begin + strings.Join(members, ",") + end
}

// setClaims sets the headers of the claims. It never refuses a request: a claim that cannot be a header is skipped and counted.
func (c *Contract) setClaims(r *http.Request, o *Outcome) {
	o.contract = c
	if len(c.Claims) == 0 {
		return
	}
	o.claimTexts = make([]string, len(c.Claims))
	values := make([]string, len(c.Claims))
	o.claimHeaders = values
	total := 0
	for i, claim := range o.Contact.Claims {
		if !claim.Present {
			continue
		}
		value, ok := c.written(claim.Text)
		if !ok || len(value) > maxClaimHeader || total+len(value) > maxClaimHeaders {
			c.Dropped(c.Claims[i])
			continue
		}
		encoded := value
		if c.Raw {
			encoded = percentEncode(claim.Text)
		}
		total += len(value)
		o.headers = append(o.headers, c.ClaimHeaders[i])
		values[i], o.claimTexts[i] = value, encoded
		r.Header[c.ClaimHeaders[i]] = values[i : i+1 : i+1]
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
		if isEncoded[value[i]] {
			extra += 2
		}
	}
	last := len(value) - 1
	if extra == 0 && (last < 0 || value[0] != ' ' && value[last] != ' ') {
		return value
	}
	encoded := make([]byte, 0, len(value)+extra+2*len("20"))
	for i := range len(value) {
		if c := value[i]; isEncoded[c] || c == ' ' && (i == 0 || i == last) {
			encoded = append(encoded, '%', digits[c>>4], digits[c&15])
		} else {
			encoded = append(encoded, c)
		}
	}
	return string(encoded)
}

// isEncoded has the bytes that percentEncode escapes wherever they are. It is a table, because every byte of the contact information
// is looked up for every request.
var isEncoded = func() (table [256]bool) {
	for c := range table {
		table[c] = c < ' ' || c > '~' || c == '%' || c == '+' || c == '{' || c == '}'
	}
	return table
}()
