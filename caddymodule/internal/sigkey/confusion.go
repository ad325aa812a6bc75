package sigkey

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// Confusion looks for a reading of the secret k that made this signature, where the secret itself did not: people confuse the text of
// a secret with the bytes that it encodes, and files and variables add what does not belong to it. encoding is the one that was
// confused, or "". It returns [cause.None] if no reading fits, and for public keys. A token that only such a reading verifies stays
// refused.
func (k *Key) Confusion(signed, signature []byte) (c cause.Cause, encoding string) {
	secret, symmetric := k.material.([]byte)
	if !symmetric {
		return cause.None, ""
	}
	fits := func(other []byte) bool {
		return len(other) > 0 && newSecretKey(other, "", k.alg).Verify(signed, signature)
	}
	for _, e := range []sharedtoken.Encoding{sharedtoken.Base64, sharedtoken.Base64URL, sharedtoken.Hex} {
		if decoded, err := e.Decode(string(secret)); err == nil && fits(decoded) {
			return cause.SecretDecodedBySite, string(e)
		}
	}
	texts := map[string][]string{
		"base64":    {base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret)},
		"base64url": {base64.URLEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret)},
		"hex":       {hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret))},
	}
	for _, encoding := range slices.Sorted(maps.Keys(texts)) {
		if slices.ContainsFunc(texts[encoding], func(text string) bool { return fits([]byte(text)) }) {
			return cause.SecretDecodedHere, encoding
		}
	}
	for _, suffix := range []string{"\n", "\r\n", " "} {
		if fits(append(slices.Clone(secret), suffix...)) {
			return cause.SecretWithBlank, ""
		}
	}
	if text := string(secret); sharedtoken.Unquoted(text) != text && fits([]byte(sharedtoken.Unquoted(text))) {
		return cause.SecretWithoutQuotes, ""
	} else if joined := sharedtoken.Joined(text); joined != text && fits([]byte(joined)) {
		return cause.SecretWithoutBreak, ""
	}
	return cause.None, ""
}

// Reveals reports whether value has a piece of the secret k in it, in any writing of [sharedtoken.Reveals]. Values of tokens are shown
// to people who explain one, and someone may have put a secret into a claim or a kid.
func (k *Key) Reveals(value string) bool {
	secret, symmetric := k.material.([]byte)
	return symmetric && sharedtoken.Reveals(value, string(secret))
}
