package ledger

import (
	"encoding/json"
	"errors"
	"regexp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// maxShownTokenID is the longest jti, in bytes, that is stored as it is, so that the list of revocations can show it. Longer
// ones are stored as hashes: otherwise 10,000 revocations with long ones would fill the record.
const maxShownTokenID = 255

// A TokenID is a jti as an operator writes it: a JSON string, or an integer, which means the string of its digits.
type TokenID string

var integer = regexp.MustCompile(`^-?[0-9]+$`)

// UnmarshalJSON implements json.Unmarshaler.
func (id *TokenID) UnmarshalJSON(text []byte) error {
	if integer.Match(text) && string(text) != "-0" {
		*id = TokenID(text)
		return nil
	}
	if text[0] != '"' {
		return errors.New("a jti is a string or an integer")
	}
	return json.Unmarshal(text, (*string)(id))
}

// IsToken reports whether v revokes a single token.
func (v *Revocation) IsToken() bool { return v.TokenID != "" || v.TokenHash != "" }

// token returns the ID of the single token that v revokes, or "".
func (v *Revocation) token() authn.TokenID {
	if v.TokenHash != "" {
		return v.TokenHash
	}
	return authn.NewTokenID(string(v.TokenID))
}

// shorten replaces a long jti by its hash.
func (v *Revocation) shorten() {
	if len(v.TokenID) > maxShownTokenID {
		v.TokenHash, v.TokenID = v.token(), ""
	}
}

// Value returns what v revokes, for display.
func (v *Revocation) Value() string {
	if v.TokenHash != "" {
		return "SHA-256 " + v.TokenHash.String()
	}
	return string(v.TokenID) + v.Identity
}
