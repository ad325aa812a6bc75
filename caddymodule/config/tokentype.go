package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// maxTokenType is the longest name of a media type (RFC 6838 section 4.2).
const maxTokenType = 127

// otherPurposes are types of tokens that login servers sign with the same keys, and that are not made for a contact to show.
var otherPurposes = []string{"logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "oauth-authz-req+jwt"}

// checkTokenType returns an error for what cannot be the type of a contact's token. It goes on after the option's name.
func checkTokenType(values []string) error {
	const usual = "name one such as at+jwt or JWT"
	for _, value := range values {
		typ := authn.TypeOf(value)
		switch {
		case len(value) > maxTokenType, strings.Trim(typ, "abcdefghijklmnopqrstuvwxyz0123456789!#$&-^_.+") != "", typ == "":
			return errors.New("is not a type; " + usual)
		case slices.Contains(otherPurposes, typ):
			return fmt.Errorf("%q is a type of tokens for another purpose, which a contact does not show; %s", value, usual)
		}
	}
	return nil
}
