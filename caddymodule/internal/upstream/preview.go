package upstream

import (
	"net/http"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A Header is a header as it is shown in explanations.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Equal reports whether c and other set the same headers from the same claims.
func (c Contract) Equal(other Contract) bool {
	return c.raw == other.raw && slices.Equal(c.Folded, other.Folded) && slices.Equal(c.Claims, other.Claims)
}

// Preview returns the headers that Set sets for contact.
func (c Contract) Preview(messenger string, contact *authn.Contact) []Header {
	r := &http.Request{Header: make(http.Header)}
	o := &Outcome{Messenger: messenger, Contact: contact}
	c.Set(r, o)
	var list []Header
	for _, name := range o.set {
		list = append(list, Header{Name: name, Value: r.Header.Get(name)})
	}
	return list
}
