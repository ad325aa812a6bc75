package authn

import (
	"fmt"
	"testing"
	"time"
)

func TestRevocations(t *testing.T) {
	noon := time.Unix(1_800_000_000, 0)
	contact := func(identity, jti string, issued time.Time) *Contact {
		return &Contact{Identity: identity, TokenID: NewTokenID(jti), Issued: issued}
	}
	for name, test := range map[string]struct {
		list    []Revocation
		contact *Contact
		refused bool
	}{
		"nothing is revoked":                                {nil, contact("mark", "a", noon), false},
		"a jti takes its own token":                         {[]Revocation{{TokenID: NewTokenID("a")}}, contact("mark", "a", noon), true},
		"a jti takes no other token":                        {[]Revocation{{TokenID: NewTokenID("a")}}, contact("mark", "b", noon), false},
		"a jti takes no token without one":                  {[]Revocation{{TokenID: NewTokenID("a")}}, contact("mark", "", noon), false},
		"an identity takes what was issued before":          {[]Revocation{{Identity: "mark", Before: noon}}, contact("mark", "", noon.Add(-time.Second)), true},
		"an identity revokes nothing issued at that moment": {[]Revocation{{Identity: "mark", Before: noon}}, contact("mark", "", noon), false},
		"an identity revokes a token without iat":           {[]Revocation{{Identity: "mark", Before: noon}}, contact("mark", "", time.Time{}), true},
		"an identity revokes no other contact's":            {[]Revocation{{Identity: "mark", Before: noon}}, contact("Mark", "", time.Time{}), false},
		"the later of two rules holds":                      {[]Revocation{{Identity: "mark", Before: noon}, {Identity: "mark", Before: noon.Add(-time.Hour)}}, contact("mark", "", noon.Add(-time.Minute)), true},
		"the whole messenger takes everybody's":             {[]Revocation{{Before: noon}}, contact("zoe", "", noon.Add(-time.Second)), true},
		"the whole messenger leaves later tokens":           {[]Revocation{{Before: noon}, {Identity: "mark", Before: noon.Add(-time.Hour)}}, contact("mark", "", noon), false},
	} {
		t.Run(name, func(t *testing.T) {
			var r Revocations
			r.Set(test.list)
			rej := r.check(test.contact)
			if (rej != nil) != test.refused {
				t.Errorf("got %+v, want refused %t", rej, test.refused)
			}
			if rej != nil && rej.Code != TokenRevoked {
				t.Errorf("got %s", rej.Code)
			}
			if r.Covers(test.contact.Identity, test.contact.TokenID, test.contact.Issued) != test.refused {
				t.Errorf("Covers does not agree with check")
			}
			r.Set(nil)
			if r.check(test.contact) != nil {
				t.Error("revocations that were removed are still active")
			}
			r.Add(test.list) // as one adds what others have written
			if got := r.check(test.contact) != nil; got != test.refused {
				t.Errorf("added: refused %t, want %t", got, test.refused)
			}
		})
	}
}

// However revocations are added, in parts and in any number, they revoke the same tokens.
func TestRevocationsAddedInParts(t *testing.T) {
	issued := time.Unix(1_000_000, 0)
	var r Revocations
	for i := range 5 * maxRecent {
		r.Add([]Revocation{{TokenID: NewTokenID(fmt.Sprint("jti", i))}, {Identity: fmt.Sprint("contact", i), Before: issued}})
	}
	r.Add([]Revocation{{Before: issued.Add(-time.Hour)}})
	for i := range 5 * maxRecent {
		if !r.Covers("", NewTokenID(fmt.Sprint("jti", i)), issued) || !r.Covers(fmt.Sprint("contact", i), "", issued.Add(-1)) {
			t.Fatalf("number %d does not revoke", i)
		}
		if r.Covers(fmt.Sprint("contact", i), NewTokenID("another"), issued) {
			t.Fatalf("number %d revokes what was issued later", i)
		}
	}
	if !r.Covers("another", "", issued.Add(-2*time.Hour)) || r.Covers("another", "", issued.Add(-time.Hour)) {
		t.Error("the one of all tokens does not revoke those that were issued before, and only these")
	}
	r.SetUnknown()
	r.Add([]Revocation{{TokenID: NewTokenID("jti")}})
	if !r.Unknown() {
		t.Error("adding one revocation does not make the others known")
	}
}
