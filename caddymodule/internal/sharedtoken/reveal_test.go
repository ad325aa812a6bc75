package sharedtoken

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// People put a secret into a claim in the writing in which they have it, which may be another than the gateway's. No half of any
// writing is shown, whatever is around it, whether the secret is text or bytes.
func TestPartialSecretsAreHiddenInEveryEncoding(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		secret := randomSecret(random)
		encodings := map[string]string{
			"raw": string(secret), "hex": hex.EncodeToString(secret), "HEX": strings.ToUpper(hex.EncodeToString(secret)),
			"base64": base64.StdEncoding.EncodeToString(secret), "unpadded base64": base64.RawStdEncoding.EncodeToString(secret),
			"base64url": base64.URLEncoding.EncodeToString(secret), "unpadded base64url": base64.RawURLEncoding.EncodeToString(secret),
			"Basic": base64.StdEncoding.EncodeToString([]byte("chat"[:random.IntN(5)] + string(secret))),
		}
		for name, text := range encodings {
			half := (len(text) + 1) / 2
			start := random.IntN(len(text) - half + 1)
			for _, value := range []string{text, "key:" + text + "!", text[start : start+half], text[start:] + text[:start]} {
				if !Reveals(value, string(secret)) {
					t.Errorf("%s of %d bytes: %q is shown of %q", name, len(secret), value, text)
				}
			}
			if name == "raw" {
				continue
			}
			if decoded := string(secret); !Reveals(decoded, text) && name != "Basic" {
				t.Errorf("what the secret decodes to is shown where the secret is the text in %s", name)
			}
		}
	}
}

// randomSecret returns 32 to 80 bytes, or that many characters of text.
func randomSecret(random *rand.Rand) []byte {
	secret := make([]byte, 32+random.IntN(49))
	first, size := 0, 256
	if random.IntN(2) == 0 {
		first, size = ' ', '~'-' '
	}
	for i := range secret {
		secret[i] = byte(first + random.IntN(size))
	}
	return secret
}

// Values that have nothing to do with a secret are what people need for finding their mistake.
func TestUnrelatedValuesAreShown(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		secret := string(randomSecret(random))
		for _, value := range []string{
			"", "https://login.example.com/realms/chat", "RS256", "facade-decade", "2026-11", fmt.Sprint(random.Uint64()),
			"00000003-0000-0000-c000-000000000000", "nOo3ZDrODXEK1jKWhXslHR_KXEg",
		} {
			if Reveals(value, secret) {
				t.Errorf("%q is not shown, for the secret %q", value, secret)
			}
		}
	}
}
