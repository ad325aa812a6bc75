package upstream

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Whatever handlers make of the headers of a contact, a request that was hidden has none of them, and gets back what it had.
func TestShowRestoresHiddenHeaders(t *testing.T) {
	c := NewContract(Names{Identity: "X-Id", Messenger: "X-Messenger", Information: "X-Claims", Assertion: "X-Proof", Claims: []string{"name"}, ClaimHeaders: []string{"X-Name"}})
	second := NewContract(Names{Identity: "X-Id", Messenger: "X-Messenger", Information: "X-Claims", Assertion: "X-Id"})
	names := []string{"X-Id", "X-Messenger", "X-Claims", "X-Proof", "X-Name"}
	random := rand.New(rand.NewPCG(1, 2))
	for run := range 2000 {
		r := &http.Request{Header: http.Header{"Accept": {"*/*"}}}
		o := &Outcome{Messenger: "support", Contact: &authn.Contact{Identity: "mark", Information: `{"vip":true}`, Claims: []authn.Claim{{Present: true, Text: "Mark"}}}}
		c.Set(r, o)
		steps := ""
		for range 12 {
			name := names[random.IntN(len(names))]
			step := random.IntN(7)
			steps += fmt.Sprint(" ", step, name)
			switch step {
			case 0:
				r.Header.Set(name, fmt.Sprint("set ", run))
			case 1:
				if len(r.Header[name]) > 0 {
					r.Header.Add(name, "added")
				}
			case 2:
				if len(r.Header[name]) > 0 {
					r.Header[name][0] = "replaced"
				}
			case 3:
				delete(r.Header, name)
			case 4:
				c.SetAssertion(r, o, "first")
			case 5:
				second.SetAssertion(r, o, "second")
			default:
				before := r.Header.Clone()
				o.Hide(r)
				for _, name := range o.headers {
					if r.Header[name] != nil {
						t.Fatalf("%s: hidden, and has %s", steps, name)
					}
				}
				r.Header["X-Id"] = []string{"forged"} // by Clean it is known that this was not there
				if o.Wrote(r.Header["X-Id"]) {
					t.Fatalf("%s: takes a forged header for its own", steps)
				}
				delete(r.Header, "X-Id")
				for name := range r.Header {
					if slices.Contains(names, name) && slices.Contains(o.headers, name) {
						t.Fatalf("%s: hidden, and has %s", steps, name)
					}
				}
				o.Show(r)
				for name, values := range before {
					if c.Guards(name) && !slices.Contains(o.headers, name) {
						delete(before, name) // a handler has set it without the gateway
						delete(r.Header, name)
					} else if !slices.Equal(values, r.Header[name]) || c.Guards(name) && len(values) > 0 && !o.Wrote(r.Header[name]) {
						t.Fatalf("%s: %s was %q and is %q", steps, name, values, r.Header[name])
					}
				}
				if !maps.EqualFunc(before, r.Header, slices.Equal) {
					t.Fatalf("%s: had %v, has %v", steps, before, r.Header)
				}
			}
		}
	}
}
