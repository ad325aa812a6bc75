package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// checkIdentity returns an error unless exactly one option says where the identity is.
func (m *Messenger) checkIdentity() error {
	switch {
	case m.IdentityKey == "" && m.IdentityPath == "":
		return errors.New("identity_key is missing; add the name of the claim that holds the contact identity, such as \"identity_key sub\"")
	case m.IdentityKey != "" && m.IdentityPath != "":
		return errors.New("identity_path and identity_key are both set; keep the one that says where the identity is")
	case m.IdentityPath != "":
		if _, err := ParseIdentityPath(m.IdentityPath); err != nil {
			return fmt.Errorf("identity_path %q %w", m.IdentityPath, err)
		}
		return nil
	}
	if err := CheckIdentityKey(m.IdentityKey); err != nil {
		return fmt.Errorf("identity_key %q %w", m.IdentityKey, err)
	}
	return nil
}

// ParseIdentityPath reads the place of an identity inside a token.
func ParseIdentityPath(text string) (strictjson.Pointer, error) {
	path, err := strictjson.ParsePointer(text)
	if err != nil {
		return nil, err
	}
	if authn.IsTimeClaim(path[0]) {
		return nil, errors.New("begins with a time claim, which does not hold an identity")
	}
	return path, nil
}

// IdentityName names where the identity is, for people: the identity key or the path.
func (m *Messenger) IdentityName() string {
	return cmp.Or(m.IdentityPath, m.IdentityKey)
}

// Issuers returns the accepted values of iss, or none if any is.
func (m *Messenger) Issuers() []string {
	if m.JWKS != nil && m.JWKS.Discovery != "" {
		return []string{m.JWKS.Discovery}
	}
	return m.Issuer
}

// CheckIdentityKey returns an error if claim cannot be an identity key. Any string of letters can; digits and _ - . : /
// are accepted too. The names of the time claims cannot: they do not hold an identity.
func CheckIdentityKey(claim string) error {
	if claim == "" {
		return errors.New("is empty; it is the name of the claim that holds the contact identity")
	}
	if authn.IsTimeClaim(claim) {
		return errors.New("is a time claim, which does not hold an identity")
	}
	if !utf8.ValidString(claim) {
		return errors.New("is not valid UTF-8")
	}
	for _, r := range claim {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.:/", r) {
			return errors.New("has a character other than letters, digits and _ - . : /")
		}
	}
	return nil
}
