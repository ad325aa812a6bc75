package authn

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// A TokenID tells a token from others: the 32 bytes of the SHA-256 of its jti (RFC 7519 section 4.1.7), or "" where it has
// none. However long a site makes its jti, it takes no more room than that in the cache and at a connection.
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

// tokenID reads jti. A token with one that cannot be named in a revocation is not let in: whoever revoked it would be told
// that it is revoked, and it would stay valid.
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
