package caddymodule_test

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/configtest"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A sight is an input as it was seen in the world, or a negative neighbour of one: what is one step further, and stays out. A new
// one is a row of realWorld.
type sight struct {
	origin string // product and version
	kind   string // what it is given as; see the readers
	input  string // KEY is a public key in PEM, N and E are its numbers in base64url, B64 is the PEM in base64
	says   string // "" if it is accepted; otherwise a part of the error
	why    string
}

var realWorld = []sight{
	{".NET 8, JsonSerializer over JsonWebKey (Microsoft.IdentityModel 8)", "key", `{"alg":"RS256","crv":null,"d":null,"dp":null,"e":"E","k":null,"key_ops":[],"kid":"a","kty":"RSA","n":"N","oth":[],"use":"sig","x5c":[],"x5t":null}`, "", "null and an empty list say nothing"},
	{"negative: a private key of the same", "key", `{"d":"AQAB","e":"E","key_ops":[],"kty":"RSA","n":"N","oth":null}`, "private key", "a member with a value is not absent"},
	{"negative: further primes", "key", `{"e":"E","kty":"RSA","n":"N","oth":[{"r":"AQAB"}]}`, "private key", "a list with an entry is not absent"},
	{"negative: a key for encryption", "key", `{"e":"E","kty":"RSA","n":"N","use":"enc","key_ops":[]}`, "use", "a purpose that is named still counts"},
	{"Auth0, the answer of /.well-known/jwks.json pasted", "key", `{"keys":[{"kty":"RSA","use":"sig","n":"N","e":"E","kid":"a","x5c":["MII"],"alg":"RS256"}]}`, "", "the set has one usable key"},
	{"Keycloak 26, the same, with its key for encryption", "key", `{"keys":[{"kid":"b","kty":"RSA","alg":"RSA-OAEP","use":"enc","n":"N","e":"E"},{"kid":"a","kty":"RSA","alg":"RS256","use":"sig","n":"N","e":"E"}]}`, "", "one of the two signs"},
	{"negative: a set of two keys that sign", "key", `{"keys":[{"kid":"b","kty":"RSA","n":"N","e":"E"},{"kid":"a","kty":"RSA","n":"N","e":"E"}]}`, "more than one key", "which is meant is unknown"},
	{"negative: any discovery document", "key", `{"issuer":"https://login.example.com","jwks_uri":"https://login.example.com/jwks"}`, "jwks_uri", "the URL of the keys is in it"},
	{"docker compose, an environment variable", "key", `"KEY_ESCAPED"`, "", "dotenv files cannot have line breaks"},
	{"Terraform, jsonencode of such a variable", "key", "KEY_ESCAPED_TWICE", "", "the backslashes were escaped on the way"},
	{"negative: escaped once more", "key", "KEY_ESCAPED_THRICE", "damaged PEM", "a layer that nobody has asked for"},
	{"Node 22, export({type: 'spki', format: 'der'}).toString('base64url')", "key", "DER_BASE64URL", "", "the DER is the whole key"},
	{"negative: the same, one character short", "key", "DER_BASE64URL_CUT", "", "a part of a key is no key"},
	{"Kubernetes, data of a Secret", "key", `B64`, "", "Kubernetes shows values in base64"},
	{"negative: the same, encoded twice", "key", `B64B64`, "", "one layer is removed, never two"},
	{"Helm, a value in a block of YAML", "key", "KEY_INDENTED", "", "YAML indents blocks"},
	{"negative: PEM that is commented out", "key", "KEY_COMMENTED", "", "the operator has taken this key out"},
	{"Capacitor 6 on iOS", "origin", "capacitor://localhost", "", "the origin of its pages"},
	{"Ionic 4 with cordova-plugin-ionic-webview", "origin", "ionic://localhost", "", "the origin of its pages"},
	{"Tauri 2 on macOS", "origin", "tauri://localhost", "", "the origin of its pages"},
	{"Electron 30 with protocol.handle", "origin", "app://.", "", "the origin of its pages"},
	{"Chrome, an extension", "origin", "chrome-extension://abcdefghijklmnopabcdefghijklmnop", "", "the origin of its pages"},
	{"Firefox, an extension", "origin", "moz-extension://0e6b3b1a-53b0-4f5e-9c5e-2b5a7c1d2e3f", "", "the origin of its pages"},
	{"negative: a page from a file", "origin", "file://localhost", "origin of their own", "every file has the same one"},
	{"negative: a sandboxed frame", "origin", "null", "not an origin", "every sandboxed frame has the same one"},
	{"negative: all pages of an app", "origin", "capacitor://*", "wildcard", "each origin is listed"},
	{"ASP.NET Core 8 / Duende IdentityServer 7, an access token", "typ", `at+jwt`, "", "RFC 9068"},
	{"Spring Authorization Server 1.4", "typ", `application/at+jwt`, "", "the media type with its prefix"},
	{"nimbus-jose-jwt 9, JOSEObjectType.JOSE", "typ", `JOSE`, "", "it says what the compact form says"},
	{"negative: OpenID back-channel logout", "typ", `logout+jwt`, "typ", "signed with the same keys, for another purpose"},
	{"negative: DPoP", "typ", `dpop+jwt`, "typ", "a proof of a client, and not of a contact"},
	{"negative: shared signals", "typ", `secevent+jwt`, "typ", "an event about a contact, not from the contact"},
	{"PHP 8, substr of a name with an emoji", "claims", `{"identity":"mark","name":"Zo\ud83d"}`, "", "the name is not read"},
	{"negative: the same in the identity", "claims", `{"identity":"Zo\ud83d"}`, "surrogate", "two readers take it for different contacts"},
	{"openssl rand -base64 32, decoded, 1 of 256", "secret base64", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", 31) + "\x00")), "", "HMAC pads with NUL, and the key stays long"},
	{"negative: a secret of NUL alone", "secret base64", base64.StdEncoding.EncodeToString(make([]byte, 32)), "NUL", "HMAC takes it for the empty key"},
	{"negative: a public key as the secret", "secret raw", "B64", "public key", "all who know it could sign"},
}

// readers say what is wrong with an input, as the gateway reads inputs of that kind.
var readers = map[string]func(input string) error{
	"key": func(input string) error {
		_, err := sigkey.ParsePublic([]byte(input), "", sigkey.AlgorithmsOf(sigkey.RS256))
		return err
	},
	"origin": func(input string) error {
		_, err := config.ParseOrigin(input)
		return err
	},
	"typ":    func(input string) error { return accepts(`{"alg":"HS256","typ":"`+input+`"}`, `{"identity":"mark"}`) },
	"claims": func(input string) error { return accepts(`{"alg":"HS256"}`, input) },
	"secret base64": func(input string) error {
		return secretError(sharedtoken.Base64, input)
	},
	"secret raw": func(input string) error { return secretError(sharedtoken.Raw, input) },
}

func secretError(encoding sharedtoken.Encoding, input string) error {
	secret, err := encoding.Decode(input)
	if err == nil {
		_, err = sigkey.ParseShared(secret, "", sigkey.HS256)
	}
	return err
}

// accepts says why a token with this header and these claims is refused.
func accepts(header, payload string) error {
	secret := strings.Repeat("s", 32)
	key, err := sigkey.ParseShared([]byte(secret), "", sigkey.HS256)
	if err != nil {
		return err
	}
	set, err := authn.NewKeySet(key)
	if err != nil {
		return err
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	token := signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	if _, rej := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, set).Verify(context.Background(), token); rej != nil {
		return fmt.Errorf("%s: %s", rej.Code, rej.Reason)
	}
	return nil
}

// What people really send is understood, and what is one step further stays out.
func TestRealWorldInputs(t *testing.T) {
	key := configtest.ValidText("key")
	block, _ := pem.Decode([]byte(key))
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	n := base64.RawURLEncoding.EncodeToString(parsed.(*rsa.PublicKey).N.Bytes())
	b64 := base64.StdEncoding.EncodeToString([]byte(key))
	forms := map[string]string{
		`"KEY_ESCAPED"`: `"` + strings.ReplaceAll(key, "\n", `\n`) + `"`, "KEY_INDENTED": "\n    " + strings.ReplaceAll(key, "\n", "\n    "), "KEY_COMMENTED": "# " + strings.ReplaceAll(key, "\n", "\n# "),
		"KEY_ESCAPED_TWICE": strings.ReplaceAll(key, "\n", `\\n`), "KEY_ESCAPED_THRICE": strings.ReplaceAll(key, "\n", `\\\\n`),
		"DER_BASE64URL": base64.RawURLEncoding.EncodeToString(block.Bytes), "DER_BASE64URL_CUT": base64.RawURLEncoding.EncodeToString(block.Bytes)[1:],
		"B64": b64, "B64B64": base64.StdEncoding.EncodeToString([]byte(b64)),
	}
	for _, row := range realWorld {
		t.Run(row.origin, func(t *testing.T) {
			input, form := forms[row.input]
			if !form {
				input = strings.NewReplacer(`"N"`, `"`+n+`"`, `"E"`, `"AQAB"`).Replace(row.input)
			}
			err := readers[row.kind](input)
			refused := row.says != "" || strings.HasPrefix(row.origin, "negative:")
			switch {
			case refused && err == nil:
				t.Errorf("it is accepted; it must not be: %s", row.why)
			case refused && !strings.Contains(err.Error(), row.says):
				t.Errorf("got %v, want an error that says %q", err, row.says)
			case !refused && err != nil:
				t.Errorf("got %v; it must be accepted: %s", err, row.why)
			}
		})
	}
}
