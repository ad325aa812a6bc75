package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// A generated shared token is text: a prefix by which secret scanners find it, 256 random bits, and a checksum by which a
// lost or mistyped character is found before the first contact is refused. The HMAC key is the whole text, so that any
// JWT library takes it as it is.
const (
	sharedTokenPrefix   = "mst_"
	sharedTokenRandom   = 32 // bytes, 43 characters of base64url
	sharedTokenChecksum = 6  // characters
	sharedTokenLength   = len(sharedTokenPrefix) + 43 + sharedTokenChecksum
)

// GenerateSharedToken returns a new shared token.
func GenerateSharedToken() string {
	random := make([]byte, sharedTokenRandom)
	_, _ = rand.Read(random) // never fails: the program ends instead
	text := sharedTokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	return text + sharedTokenSum(text)
}

func sharedTokenSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:sharedTokenChecksum]
}

// checkGenerated returns an error if secret was a generated shared token and is damaged. Other secrets pass.
func checkGenerated(secret string) error {
	if !strings.HasPrefix(secret, sharedTokenPrefix) {
		return nil
	}
	body := len(secret) - sharedTokenChecksum
	if len(secret) != sharedTokenLength || sharedTokenSum(secret[:body]) != secret[body:] {
		return errors.New("is a generated shared token (mst_…) that was damaged on the way: a character is missing or wrong; copy it again as a whole")
	}
	return nil
}
