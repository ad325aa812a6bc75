package sigkey

import (
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Sign returns the payload as a compact JWS (RFC 7515 section 7.1), as a site makes its tokens. key is a private key, or the bytes of a
// secret. The header has typ and kid, unless they are "". The command "sign" is all that needs it: the gateway only verifies.
func (a Algorithm) Sign(key any, typ, kid string, payload []byte) (string, error) {
	header := jws.NewHeaders()
	for name, value := range map[string]string{jws.TypeKey: typ, jws.KeyIDKey: kid} {
		if value == "" {
			continue
		}
		if err := header.Set(name, value); err != nil {
			return "", err
		}
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.SignatureAlgorithm(a.String()), key, jws.WithProtectedHeaders(header)))
	return string(signed), err
}
