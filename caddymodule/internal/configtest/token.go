package configtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Token returns a token for the contact mark, signed as a site does that has the shared token. It has a kid unless that is "".
func Token(secret, kid string) string {
	header := `{"alg":"HS256"}`
	if kid != "" {
		header = fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(`{"identity":"mark"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}
