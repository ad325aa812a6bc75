package authn

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzToken gives the verifier any text. There is no identity without a signature, which is checked here a second time by
// other means; and a refusal has a code and a reason of ours, with nothing of the text in it.
func FuzzToken(f *testing.F) {
	verifiers, tokens := bothMethods(f)
	valid := tokens[0]
	parts := strings.Split(valid, ".")
	for _, text := range append(tokens, "", "..", "...", valid+".", valid[:len(valid)-1], "Bearer "+valid,
		macWith("", segment(`{"alg":"none"}`)+"."+parts[1]), segment(`{"alg":"HS256","crit":["b64"],"b64":false}`)+".{}."+parts[2],
		`{"payload":"`+parts[1]+`","protected":"`+parts[0]+`","signature":"`+parts[2]+`","identity":"eve"}`, valid+"=", valid+"\x00",
	) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, v := range verifiers {
			contact, rej := v.verify(context.Background(), text, NewClaimSelection([]string{"exp"}), nil)
			if (contact == nil) == (rej == nil) {
				t.Fatalf("%q: got %+v and %+v", text, contact, rej)
			}
			if rej != nil {
				if rej.Code == "" || rej.Reason == "" || len(text) > 16 && strings.Contains(rej.Reason, text[:16]) {
					t.Errorf("%q: got %+v", text, rej)
				}
				continue
			}
			if i == 1 && text != tokens[1] {
				t.Fatalf("%q: identity %q without a signature of the private key", text, contact.Identity)
			}
			if i == 0 && !signedWith(testSecret, text) {
				t.Fatalf("%q: identity %q without a signature", text, contact.Identity)
			}
		}
	})
}

func signedWith(secret, text string) bool {
	last := strings.LastIndexByte(text, '.')
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text[:last]))
	return text[last+1:] == base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// FuzzChangedToken changes a valid token anywhere and in any way: every change is refused.
func FuzzChangedToken(f *testing.F) {
	verifiers, tokens := bothMethods(f)
	f.Add(uint16(0), uint16(0), "x")
	f.Add(uint16(30), uint16(1), "")
	f.Add(uint16(1000), uint16(1), "=")
	f.Add(uint16(20), uint16(0), ".")
	f.Fuzz(func(t *testing.T, at, removed uint16, added string) {
		for i, valid := range tokens {
			start := int(at) % (len(valid) + 1)
			end := min(len(valid), start+int(removed))
			text := valid[:start] + added + valid[end:]
			if contact, rej := verifiers[i].Verify(context.Background(), text); rej == nil && text != valid {
				t.Fatalf("%q passes as %q", text, contact.Identity)
			}
		}
	})
}

// FuzzHeader signs any header. What is accepted, that another parser reads as the pinned algorithm, with none of the
// members that would change what the signature means.
func FuzzHeader(f *testing.F) {
	v := sharedTokenVerifier(f, Policy{})
	for _, header := range []string{
		`{"alg":"HS256"}`, `{"alg":"HS256","typ":"JWT","kid":"a"}`, `{"alg":"none"}`, `{"alg":"HS256","alg":"none"}`, `{"\u0061lg":"HS256","typ":"at+jwt"}`,
		`{"alg":"HS256","crit":["b64"],"b64":false}`, `{"alg":"HS256","zip":"DEF"}`, `{"alg":"HS256","jwk":{"kty":"oct","k":""}}`, `{"ALG":"HS256"}`, `[]`, ``,
	} {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, rej := v.Verify(context.Background(), forgeHS256(string(text), `{"identity":"mark"}`))
		if rej != nil {
			if rej.Code != TokenMalformed && rej.Code != TokenTooLarge && rej.Code != AlgorithmNotAllowed {
				t.Errorf("%q: got %+v", text, rej)
			}
			return
		}
		var members map[string]any
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatalf("%q: accepted, and encoding/json does not read it: %v", text, err)
		}
		if members["alg"] != "HS256" {
			t.Errorf("%q: accepted with alg %v", text, members["alg"])
		}
		for _, name := range []string{"crit", "b64", "zip", "enc"} {
			if _, found := members[name]; found {
				t.Errorf("%q: accepted with %s", text, name)
			}
		}
		if kid, found := members["kid"]; found {
			if _, ok := kid.(string); !ok {
				t.Errorf("%q: accepted with kid %v", text, kid)
			}
		}
		if typ, found := members["typ"]; found && !slices.Contains([]any{"jwt", "at+jwt", "application/jwt", "application/at+jwt", "jose"}, any(strings.ToLower(typ.(string)))) {
			t.Errorf("%q: accepted with typ %v", text, typ)
		}
	})
}

// FuzzPayload signs any payload. The identity and the claims that are accepted are those that another parser reads with
// exact numbers, and the identity keeps the rules by which no two readers can take it for different ones.
func FuzzPayload(f *testing.F) {
	v := sharedTokenVerifier(f, Policy{MaxLifetime: 0})
	for _, payload := range []string{
		`{"identity":"mark"}`, `{"identity":9007199254740993,"x":[1, 2]}`, `{"identity":"Zo\u00eb \ud83d\ude00","x":{"a" : null}}`, `{"identity":-0}`,
		`{"identity":"mark","identity":"eve"}`, `{"identity":" mark"}`, `{"identity":"a\u0000"}`, `{"identity":1e3}`, `{"identity":"\ud800"}`, `{"identity":"mark","x":"\ud800"}`, `{"identity":"mark","y":["\ud800x"]}`,
		`{"identity":"mark","exp":4102444800.5,"nbf":0,"iat":-1}`, `{"identity":"mark","exp":"never"}`, `{"identity":"mark","exp":1e400}`, `["identity"]`,
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		contact, rej := v.verify(context.Background(), signHS256(string(text)), NewClaimSelection([]string{"x"}), nil)
		if rej != nil {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var members map[string]any
		if err := decoder.Decode(&members); err != nil {
			t.Fatalf("%q: accepted, and encoding/json does not read it: %v", text, err)
		}
		want := members["identity"]
		if number, ok := want.(json.Number); ok {
			want = string(number)
		}
		if contact.Identity != want {
			t.Errorf("%q: identity %q, want %q", text, contact.Identity, want)
		}
		checkIdentityRules(t, contact.Identity)
		x, found := members["x"]
		if contact.Claims[0].Present != (found && x != nil) {
			t.Errorf("%q: the claim x is there: %v", text, contact.Claims[0].Present)
		}
		if s, ok := x.(string); ok && contact.Claims[0].Text != s {
			t.Errorf("%q: the claim x: got %q, want %q", text, contact.Claims[0].Text, s)
		}
		for _, name := range []string{"exp", "nbf", "iat"} {
			if value, found := members[name]; found {
				if _, ok := value.(json.Number); !ok {
					t.Errorf("%q: accepted with %s %v", text, name, value)
				}
			}
		}
	})
}

func checkIdentityRules(t *testing.T, identity string) {
	t.Helper()
	if identity == "" || len(identity) > 255 || !utf8.ValidString(identity) || strings.TrimSpace(identity) != identity || strings.ContainsFunc(identity, unicode.IsControl) {
		t.Errorf("the identity %q was accepted", identity)
	}
}
