package authn

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// A TokenID identifies a token: the 32 bytes of the SHA-256 of its jti (RFC 7519 section 4.1.7), or "" if it does not have one. A
// site can make a jti of any length; its hash takes the same memory in the cache and for every connection.
type TokenID string

// NewTokenID returns the TokenID of this jti. An integer is the text of its digits.
func NewTokenID(jti string) TokenID { return newTokenID([]byte(jti)) }

func newTokenID(jti []byte) TokenID {
	if len(jti) == 0 {
		return ""
	}
	sum := sha256.Sum256(jti)
	return TokenID(sum[:])
}

// String returns the SHA-256 in hexadecimal.
func (id TokenID) String() string { return hex.EncodeToString([]byte(id)) }

// MarshalText implements encoding.TextMarshaler.
func (id TokenID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote, in either case.
func (id *TokenID) UnmarshalText(text []byte) error {
	sum, err := hex.DecodeString(string(text))
	if err != nil || len(sum) != sha256.Size {
		return errors.New("is not a SHA-256 in hexadecimal, 64 digits")
	}
	*id = TokenID(sum)
	return nil
}

// tokenID reads jti. A token with one that cannot be named in a revocation is refused: otherwise an operator could revoke it, be
// told that it is revoked, and it would still be valid.
func (c *claims) tokenID() (TokenID, *Rejection) {
	if c.jti == nil {
		return "", nil
	}
	if text, ok := strictjson.Bytes(c.jti); ok {
		return newTokenID(text), nil
	}
	if isInteger(c.jti) {
		return newTokenID(c.jti), nil
	}
	return "", reject(ClaimInvalid, reasonTokenID)
}

const reasonTokenID = "jti is neither a string nor an integer, so that the token could not be revoked by it"
