package diagnose

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// hostileTokens are texts that an attacker sends, or that people send by mistake with a secret in the wrong place.
func hostileTokens(secret string) map[string]string {
	deep := strings.Repeat(`{"a":`, 30) + "1" + strings.Repeat("}", 30)
	texts := map[string]string{
		"huge":                  strings.Repeat("A", 9<<10),
		"huge, with dots":       strings.Repeat("A.", 4<<10),
		"huge, with blanks":     strings.Repeat("eyJ ", 2<<10),
		"nothing but dots":      strings.Repeat(".", 8<<10),
		"control characters":    "\x00\x1b[31m\r\n\u202e" + secret,
		"invalid UTF-8":         "\xff\xfe\xc0" + secret,
		"the secret":            secret,
		"the secret and a dot":  secret + "." + secret,
		"the secret in a line":  "Authorization: Bearer " + secret,
		"a key":                 "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----",
		"the claims":            `{"identity":"` + secret + `"}`,
		"quotes":                `"` + secret + `"`,
		"percent-encoded":       "%22" + secret + "%22",
		"a wide payload":        hs(`{` + strings.Repeat(`"x":1,`, 1) + `"identity":{` + wide(300) + `}}`),
		"a deep payload":        hs(`{"identity":` + deep + `}`),
		"a name of 4 KiB":       hs(`{"` + strings.Repeat("n", 4<<10) + `":1}`),
		"control in a name":     hs(`{"\u001b]0;x\u0007":1,"\u202e":2}`),
		"a long number":         hs(`{"identity":` + strings.Repeat("9", 3<<10) + `.5}`),
		"a huge exponent":       hs(`{"identity":1e999999}`),
		"a huge time":           hs(`{"identity":"mark","exp":1e400}`),
		"a negative time":       hs(`{"identity":"mark","exp":-1e14}`),
		"an issuer with a port": hs(payload(`,"iss":"https://login.example.com:99999999/"`)),
	}
	for name, more := range map[string]string{"alg": `"alg":"SECRET"`, "kid": `"alg":"RS256","kid":"SECRET"`, "typ": `"alg":"RS256","typ":"SECRET+jwt"`, "nonce": `"alg":"RS256","nonce":"SECRET"`} {
		texts["the secret as "+name] = unsigned("{"+strings.ReplaceAll(more, "SECRET", secret)+"}", payload(""))
	}
	for _, claim := range []string{"iss", "aud", "exp", "jti", "identity", "sub", "email", "department", "client_id", "token_use", "scope"} {
		for form, value := range map[string]string{"a string": `"` + secret + `"`, "a list": `["x","` + secret + `"]`, "an object": `{"` + secret + `":"` + secret + `"}`} {
			texts["the secret in "+claim+" as "+form] = hs(`{"` + claim + `":` + value + `}`)
			texts["the secret in "+claim+" as "+form+", with an invalid signature"] = unsigned(`{"alg":"RS256","kid":"x"}`, `{"`+claim+`":`+value+`}`)
		}
	}
	texts["the secret as a name"] = hs(`{"` + secret + `":1}`)
	texts["half of the secret as a name"] = hs(`{"` + secret[:len(secret)/2] + `":1}`)
	texts["the secret around the identity key"] = hs(`{"` + secret + `":{"identity":1}}`)
	token := hs(payload(""))
	texts["a token in a token"] = hs(`{"iss":"` + token + `","sub":"x"}`)
	texts["a part of itself"] = hs(`{"iss":"` + token[:80] + `"}`)
	return texts
}

func wide(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"n%d":%d,`, i, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// Whatever a token contains, and wherever people put a secret: nothing that names a cause contains six bytes in a row of the token
// or of a secret. The secrets are random text, so that none of them is in the texts of the table by chance.
func TestFindingsDoNotQuoteTokensOrSecrets(t *testing.T) {
	all := gateway(t)
	secrets := map[string]string{
		"the messenger's own":  rawSecret,
		"another messenger's":  key64,
		"an unknown generated": "mst_Q7x2vK9pLm4TnR8wZc6YbHsJd3FgA5eUiOqXrVt1NyWkPz0",
		"an unknown base64":    "Zq8sT1vYb4nK7pXw2MdR5gHj9LcUf3EaQx6ZyBoViWs=",
		"an unknown hex":       "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}
	for kind, secret := range secrets {
		for name, text := range hostileTokens(secret) {
			for messenger, v := range all {
				if messenger == "jwks" {
					continue // it would ask its key server each time
				}
				_, rej := v.Verify(t.Context(), text)
				if rej == nil {
					continue
				}
				others := map[string]*authn.Verifier{"raw": all["raw"], "text": all["text"]}
				findings := Find(v, text, rej, others)
				findings = append(findings, Finding{Cause: rej.Reason, Fix: Cause(v, text, rej).Info().Fix})
				for _, f := range findings {
					said := f.Cause + "\n" + f.Fix
					if !utf8.ValidString(said) || len(said) > 4<<10 {
						t.Errorf("%s, %s: %d bytes are said", kind, name, len(said))
					}
					for _, segment := range append(strings.Split(tokenIn(text), "."), secret, rawSecret, key64) {
						if len(segment) >= 6 && sharedtoken.SharesPiece(segment, said) {
							t.Errorf("%s, %s, at %s: a piece of the token or a secret is said: %s", kind, name, messenger, said)
						}
					}
				}
			}
		}
	}
}

// A secret that is configured as base64 is 40 bytes to the gateway, and people put it into a token as they have it: as base64 or in
// another writing, whole or a half of it. Neither this messenger's nor another's is shown.
func TestSecretsAreHiddenInEveryEncoding(t *testing.T) {
	secret := strings.Repeat("\x00\xff~s3cr3t.", 4)
	policy := authn.Policy{Issuers: []string{"https://login.example.com"}, Audiences: []string{"chat"}}
	own, other := secretVerifier(t, secret, policy), secretVerifier(t, rawSecret, policy)
	for name, text := range map[string]string{
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"hex": hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))),
	} {
		for _, sent := range []string{text, text[:len(text)/2], text[len(text)/2:]} {
			for member, token := range map[string]string{
				"alg": unsigned(`{"alg":"`+sent+`"}`, payload("")), "kid": unsigned(`{"alg":"HS256","kid":"`+sent+`"}`, payload("")),
				"iss": sign(`{"alg":"HS256"}`, payload(`,"iss":"`+sent+`"`), secret), "aud": sign(`{"alg":"HS256"}`, payload(`,"iss":"https://login.example.com","aud":["x","`+sent+`"]`), secret),
				"a name": sign(`{"alg":"HS256"}`, `{"iss":"https://login.example.com","aud":"chat","`+sent+`":1}`, secret),
			} {
				_, rej := own.Verify(t.Context(), token)
				_, rejOther := other.Verify(t.Context(), token)
				if rej == nil || rejOther == nil {
					t.Fatalf("%s in %s: the token is accepted", name, member)
				}
				for _, f := range append(Find(own, token, rej, nil), Find(other, token, rejOther, map[string]*authn.Verifier{"own": own})...) {
					if sharedtoken.SharesPiece(sent, f.Cause) {
						t.Errorf("%s in %s: the secret is shown: %s", name, member, f.Cause)
					}
				}
			}
		}
	}
}

// tokenIn returns text if it is a token, and not what an explanation calls by name.
func tokenIn(text string) string {
	if strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2 {
		return text
	}
	return ""
}

// A diagnosis of any text ends, and finds only causes of the table.
func FuzzFind(f *testing.F) {
	for _, text := range hostileTokens(rawSecret) {
		f.Add(text)
	}
	for _, m := range mistakes() {
		f.Add(m.text)
	}
	known := make(map[string]bool)
	for c := cause.None + 1; c <= cause.PathPrefixGone; c++ { // the last one
		known[c.String()] = true
	}
	all := gateway(f)
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"raw", "strict", "rsa", "email", "broken"} {
			_, rej := all[name].Verify(t.Context(), text)
			if rej == nil {
				continue
			}
			for _, found := range Find(all[name], text, rej, nil) {
				if !known[found.Name] || found.Cause == "" || found.Fix == "" {
					t.Errorf("got %+v", found)
				}
			}
			Cause(all[name], text, rej)
		}
	})
}
