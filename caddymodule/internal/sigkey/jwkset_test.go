package sigkey

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// set returns the text of a key set with these entries.
func set(entries ...string) string { return `{"keys":[` + strings.Join(entries, ",") + `]}` }

// entry returns the JWK of privateKey with some members changed; a nil member is left out.
func entry(change map[string]any) string {
	k := map[string]any{}
	_ = json.Unmarshal([]byte(jwkText(&privateKey().PublicKey, `,"kid":"a"`)), &k)
	for name, value := range change {
		if k[name] = value; value == nil {
			delete(k, name)
		}
	}
	text, _ := json.Marshal(k)
	return string(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Key servers publish keys for all kinds of purposes. What is not for our signatures, or cannot be trusted with them, is left out;
// the rest of the set is used.
func TestUnusableEntriesAreSkipped(t *testing.T) {
	wide := append([]byte{1, 0, 0, 0, 0, 0}, 1, 0, 1) // 2^64 + 65537: an int would take it for 65537
	for name, tt := range map[string]struct{ entry, reason string }{
		"an elliptic curve key":             {`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"x"}`, "elliptic curve"},
		"an Ed25519 key":                    {`{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"x"}`, "elliptic curve"},
		"a symmetric key":                   {`{"kty":"oct","k":"c2VjcmV0","kid":"x"}`, "symmetric"},
		"an unknown type":                   {`{"kty":"XYZ","kid":"x"}`, "unknown kty"},
		"no type":                           {`{"kid":"x"}`, "no kty"},
		"no object":                         {`"x"`, "not a JSON object"},
		"null":                              {`null`, "not a JSON object"},
		"a private key":                     {entry(map[string]any{"d": "AA"}), "private key"},
		"a prime of a private key":          {entry(map[string]any{"p": "AA"}), "private key"},
		"a key for encryption":              {entry(map[string]any{"use": "enc"}), "use"},
		"a use that is not a string":        {entry(map[string]any{"use": 1}), "use"},
		"a key for RS512":                   {entry(map[string]any{"alg": "RS512"}), "alg"},
		"a key for PS256":                   {entry(map[string]any{"alg": "PS256"}), "alg"},
		"key_ops for encryption":            {entry(map[string]any{"key_ops": []string{"encrypt"}}), "key_ops"},
		"key_ops for signing":               {entry(map[string]any{"key_ops": []string{"sign"}}), "key_ops"},
		"key_ops that are not a list":       {entry(map[string]any{"key_ops": "verify"}), "key_ops"},
		"an exponent that would be cut":     {entry(map[string]any{"e": b64(wide)}), "more than 32 bits"},
		"an even exponent":                  {entry(map[string]any{"e": b64([]byte{4})}), "exponent"},
		"the exponent 1":                    {entry(map[string]any{"e": b64([]byte{1})}), "exponent"},
		"an exponent over 2^31":             {entry(map[string]any{"e": b64([]byte{0x80, 0, 0, 1})}), "exponent"},
		"no exponent":                       {entry(map[string]any{"e": nil}), "no e"},
		"no modulus":                        {entry(map[string]any{"n": nil}), "n or e"},
		"an even modulus":                   {entry(map[string]any{"n": b64(append(modulus(2040).Bytes(), 2))}), "even modulus"},
		"a short modulus":                   {entry(map[string]any{"n": b64(modulus(1024).Bytes())}), "1024 bits"},
		"a huge modulus":                    {entry(map[string]any{"n": b64(modulus(16384).Bytes())}), "16384 bits"},
		"a kid that is not a string":        {entry(map[string]any{"kid": 1}), "kid"},
		"one member twice":                  {strings.Replace(entry(nil), `"kty"`, `"kid":"b","kty"`, 1), "two members"},
		"one member twice, once in escapes": {strings.Replace(entry(nil), `"kty"`, `"\u006bid":"b","kty"`, 1), "two members"},
	} {
		t.Run(name, func(t *testing.T) {
			valid := entry(map[string]any{"kid": "valid"})
			keys, omitted, err := ParseSet([]byte(set(tt.entry, valid)), rs256, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) != 1 || keys[0].kid != "valid" {
				t.Errorf("%d keys are used, want the valid one", len(keys))
			}
			if len(omitted) != 1 || omitted[0].Index != 0 || !strings.Contains(omitted[0].Reason, tt.reason) {
				t.Errorf("left out: %+v, want entry 0 for %q", omitted, tt.reason)
			}
			if _, _, err := ParseSet([]byte(set(tt.entry)), rs256, false); !errors.Is(err, errNoKey) {
				t.Errorf("alone: got %v, want %v", err, errNoKey)
			}
		})
	}
}

func TestSuitableEntriesAreUsed(t *testing.T) {
	for name, e := range map[string]string{
		"a bare key":            entry(map[string]any{"kid": nil}),
		"for signatures":        entry(map[string]any{"use": "sig"}),
		"for RS256":             entry(map[string]any{"alg": "RS256"}),
		"to verify":             entry(map[string]any{"key_ops": []string{"verify"}}),
		"with a certificate":    entry(map[string]any{"x5c": []string{"MII"}, "x5t": "x"}),
		"with unknown members":  entry(map[string]any{"ext": true, "nested": map[string]any{"a": 1}}),
		"with a padded modulus": entry(map[string]any{"n": b64(append([]byte{0}, privateKey().N.Bytes()...))}),
	} {
		if keys, omitted, err := ParseSet([]byte(set(e)), rs256, false); err != nil || len(keys) != 1 || len(omitted) != 0 {
			t.Errorf("%s: %v, left out %+v", name, err, omitted)
		}
	}
}

// Two keys that differ under one kid: an attacker who can add an entry to the set could otherwise replace a key.
func TestKeysWithADuplicateKIDAreSkipped(t *testing.T) {
	second := jwkText(&rsa.PublicKey{N: modulus(2050), E: 65537}, `,"kid":"a"`)
	third := jwkText(&rsa.PublicKey{N: modulus(2051), E: 65537}, `,"kid":"c"`)
	keys, omitted, err := ParseSet([]byte(set(entry(nil), second, third)), rs256, false)
	if err != nil || len(keys) != 1 || keys[0].kid != "c" || len(omitted) != 2 {
		t.Errorf("keys %+v, left out %+v, error %v", keys, omitted, err)
	}
	keys, omitted, err = ParseSet([]byte(set(entry(nil), entry(nil))), rs256, false)
	if err != nil || len(keys) != 1 || len(omitted) != 0 {
		t.Errorf("one key listed twice: %+v, left out %+v, error %v", keys, omitted, err)
	}
}

func TestResponsesWithoutAKeySetAreErrors(t *testing.T) {
	many := make([]string, maxKeySetEntries+1)
	for i := range many {
		many[i] = fmt.Sprintf(`{"kty":"EC","kid":"%d"}`, i)
	}
	for name, tt := range map[string]struct {
		body string
		want error
	}{
		"nothing":               {"", ErrNoSet},
		"HTML":                  {"<!doctype html><title>Login</title>", ErrWebPage},
		"null":                  {"null", ErrNoSet},
		"a list":                {"[]", ErrNoSet},
		"an empty object":       {"{}", ErrNoSet},
		"keys null":             {`{"keys":null}`, ErrNoSet},
		"keys an object":        {`{"keys":{}}`, ErrNoSet},
		"Keys":                  {`{"Keys":[` + entry(nil) + `]}`, ErrNoSet},
		"keys twice":            {`{"keys":[` + entry(nil) + `],"keys":[]}`, ErrNoSet},
		"a bare key":            {entry(nil), ErrNoSet},
		"a discovery document":  {`{"issuer":"https://login.example.com","jwks_uri":"https://login.example.com/jwks"}`, errDiscovery},
		"a map of certificates": {`{"3f1a":"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"}`, errCertificateMap},
		"keys as a certificate": {`{"keys":"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"}`, errCertificateMap},
		"both":                  {`{"jwks_uri":"https://login.example.com/jwks","3f1a":"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"}`, errDiscovery},
		"cut off":               {set(entry(nil))[:100], ErrNoSet},
		"something behind":      {set(entry(nil)) + "x", ErrNoSet},
		"an empty set":          {set(), errNoKey},
		"too many entries":      {set(many...), errTooManyEntries},
		"not UTF-8":             {set(entry(nil), "\"\xff\""), ErrNoSet},
		"nested ever so deep":   {`{"keys":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`, ErrNoSet},
	} {
		if _, _, err := ParseSet([]byte(tt.body), rs256, false); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

// FuzzKeySet reads any answer of a key server: the result is sound keys or an error, and never a panic.
func FuzzKeySet(f *testing.F) {
	f.Add(set(entry(nil)))
	f.Add(set(entry(map[string]any{"use": "enc"}), `null`, `{"kty":"oct"}`))
	f.Add(`{"keys":[{}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		keys, _, err := ParseSet([]byte(body), rs256, false)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("keys %v with error %v", keys, err)
		}
		if err != nil {
			return
		}
		for _, k := range keys {
			if info := k.Info(); info.Algorithm != "RS256" || info.Bits < minRSABits || info.Bits > maxRSABits {
				t.Errorf("unsound key %+v", info)
			}
		}
	})
}
