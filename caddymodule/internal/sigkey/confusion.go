package sigkey

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// Confusion looks for the reading of the secret of k with which the signature was made instead: people confuse the text of a secret
// and the bytes that it encodes. cause and fix are sentences for them, without the secret.
func (k *Key) Confusion(signed, signature []byte) (cause, fix string, ok bool) {
	secret, symmetric := k.material.([]byte)
	if !symmetric {
		return "", "", false
	}
	fits := func(other []byte) bool {
		return len(other) > 0 && newSecretKey(other, "").Verify(signed, signature)
	}
	for _, e := range []sharedtoken.Encoding{sharedtoken.Base64, sharedtoken.Base64URL, sharedtoken.Hex} {
		if decoded, err := e.Decode(string(secret)); err == nil && fits(decoded) {
			return "The site decodes the secret as " + string(e) + " before it signs; the gateway uses its text as it is.", "Configure shared_token with the encoding " + string(e) + ", or sign with the text itself.", true
		}
	}
	texts := map[string][]string{
		"base64":    {base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret)},
		"base64url": {base64.URLEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret)},
		"hex":       {hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret))},
	}
	for _, encoding := range slices.Sorted(maps.Keys(texts)) {
		for _, text := range texts[encoding] {
			if fits([]byte(text)) {
				return "The site signs with the text of the secret as it is; the gateway decodes it as " + encoding + " first.", "Configure shared_token with the encoding raw, or decode the secret before signing.", true
			}
		}
	}
	for _, suffix := range []string{"\n", "\r\n", " "} {
		if fits(append(slices.Clone(secret), suffix...)) {
			return "The site signs with the secret followed by a line break or blank.", "Trim the secret where the site reads it from its file or environment.", true
		}
	}
	return "", "", false
}
