// Package samples writes the programs that site developers copy: the endpoint /chat-token in several languages, which signs a token
// for the contact who is logged in, and what the web page does with it. A program is filled in with the settings of one messenger, so
// that its first token is accepted.
//
// The control panel and the documentation show what it writes. It knows settings, and does not know anything that runs.
//
// Begin reading with [For] and [Languages].
package samples

import (
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// defaultLife is how long the tokens of the programs are valid, unless the messenger requires a shorter time.
const defaultLife = 10 * time.Minute

// A Contract is what tokens of a messenger have to be, as a program needs to know it.
type Contract struct {
	Identity string   // the identity key, or the top-level member that has the identity inside
	Inside   []string // where it is in there; empty for an identity key

	Secret    bool   // it is signed with a shared token, otherwise with a private key
	Encoding  string // of the shared token: base64, base64url or hex; "" if its text is the secret
	Algorithm string // "" for settings without a method, which cannot be used but are shown
	KeyID     string
	Type      string // typ of the header
	Seconds   int    // from iat to exp

	Contact []string // further claims that say something about the contact: only the site knows their values
	Fixed   []Claim  // further claims that are the same in every token
}

// A Claim is a claim with the same value in every token.
type Claim struct{ Name, Value string }

// A Key is a key that verifies tokens of a messenger right now.
type Key struct{ Algorithm, ID string }

// For returns the contract of a messenger with these settings and keys.
func For(m *config.Messenger, keys []Key) *Contract {
	path := strictjson.Pointer{m.IdentityKey}
	if m.IdentityPath != "" {
		path, _ = config.ParseIdentityPath(m.IdentityPath) // it was checked when it was stored
	}
	if len(path) == 0 {
		path = strictjson.Pointer{""} // settings that cannot be used are shown as well
	}
	c := &Contract{Identity: path[0], Inside: path[1:], Secret: m.SharedToken != nil, Type: "JWT", Seconds: int(defaultLife / time.Second)}
	if m.TokenType != "" && authn.TypeOf(m.TokenType) != "jwt" {
		c.Type = m.TokenType
	}
	if limit := time.Duration(m.MaxLifetime); limit > 0 && limit < defaultLife {
		c.Seconds = int(max(limit, time.Second) / time.Second)
	}
	if c.Secret && m.SharedToken.Encoding != sharedtoken.Raw {
		c.Encoding = string(m.SharedToken.Encoding)
	}
	c.chooseKey(m.SigningAlgorithms().List(), keys)
	c.addClaims(m)
	return c
}

// chooseKey makes the site sign as the first key verifies: the others may be those of the method before. A shared token does not
// need a key ID.
func (c *Contract) chooseKey(algorithms []sigkey.Algorithm, keys []Key) {
	if len(algorithms) > 0 {
		c.Algorithm = algorithms[0].String()
	}
	if c.Secret {
		return
	}
	for _, key := range keys {
		if slices.ContainsFunc(algorithms, func(a sigkey.Algorithm) bool { return a.String() == key.Algorithm }) {
			c.Algorithm, c.KeyID = key.Algorithm, key.ID
			return
		}
	}
}

func (c *Contract) addClaims(m *config.Messenger) {
	taken := []string{c.Identity, "iat", "exp"}
	free := func(name string) bool {
		if slices.Contains(taken, name) {
			return false
		}
		taken = append(taken, name)
		return true
	}
	if issuers := m.Issuers(); len(issuers) > 0 && free("iss") {
		c.Fixed = append(c.Fixed, Claim{"iss", issuers[0]})
	}
	if len(m.Audience) > 0 && free("aud") {
		c.Fixed = append(c.Fixed, Claim{"aud", m.Audience[0]})
	}
	for _, name := range slices.Concat(m.ContactClaims, m.RequireClaims) {
		if name != "nbf" && free(name) { // nbf is a time, and no program needs it
			c.Contact = append(c.Contact, name)
		}
	}
}

// Family returns the kind of the algorithm: HS, RS, PS, ES or Ed.
func (c *Contract) Family() string { return c.Algorithm[:min(2, len(c.Algorithm))] }

// Bits returns the length of the hash, as the algorithm names it: 256, 384 or 512; "" for EdDSA.
func (c *Contract) Bits() string { return strings.TrimLeft(c.Algorithm, "HRPESdA") }

// Half returns the length in bytes of one of the two numbers of an ECDSA signature.
func (c *Contract) Half() int { return map[string]int{"256": 32, "384": 48, "512": 66}[c.Bits()] }

// Salt returns the length of the salt in bytes, which is that of the hash.
func (c *Contract) Salt() int { return map[string]int{"256": 32, "384": 48, "512": 64}[c.Bits()] }
