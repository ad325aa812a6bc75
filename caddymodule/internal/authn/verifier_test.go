package authn

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// An attacker with a valid token and without the key can change nothing in it: not the identity, not a bit of the signature, not
// even the way it is written.
func TestEveryChangedByteOfAValidTokenIsRefused(t *testing.T) {
	verifiers, tokens := bothMethods(t)
	for i, method := range []string{"shared_token", "public_key"} {
		t.Run(method, func(t *testing.T) {
			v, valid := verifiers[i], tokens[i]
			if _, rej := v.Verify(context.Background(), valid); rej != nil {
				t.Fatalf("the valid token: %+v", rej)
			}
			refused := func(text string) {
				t.Helper()
				if contact, rej := v.Verify(context.Background(), text); rej == nil {
					t.Fatalf("%s: identity %q", text, contact.Identity)
				}
			}
			for at := range len(valid) {
				for c := range 256 {
					if byte(c) != valid[at] && (i == 0 || c%4 == at%4) { // RSA takes its time
						refused(valid[:at] + string([]byte{byte(c)}) + valid[at+1:])
					}
				}
				refused(valid[:at] + valid[at+1:])                // one byte lost
				refused(valid[:at] + valid[at:at+1] + valid[at:]) // one byte twice
				refused(valid[:at])                               // cut off
				refused(valid[at+1:])
			}
		})
	}
}

// bothMethods returns a verifier of each method with a valid token for it.
func bothMethods(t testing.TB) (verifiers []*Verifier, tokens []string) {
	t.Helper()
	public := publicKey(t, &privateKey().PublicKey, "")
	rs256 := signWith(t, privateKey(), "k1", map[string]any{"identity": "mark"})
	return []*Verifier{sharedTokenVerifier(t, Policy{}), verifierOf(t, Policy{}, public)}, []string{signHS256(`{"identity":"mark"}`), rs256}
}

// RFC 8725 section 3.1: a messenger of one method refuses the tokens of the other, whatever their header says.
func TestTheTokenDoesNotChooseTheAlgorithm(t *testing.T) {
	verifiers, tokens := bothMethods(t)
	for i, v := range verifiers {
		if _, rej := v.Verify(context.Background(), tokens[1-i]); outcomeText(rej) != "algorithm_not_allowed" {
			t.Errorf("verifier %d: got %s, want algorithm_not_allowed", i, outcomeText(rej))
		}
	}
	for _, alg := range []string{`"none"`, `"None"`, `"hs256"`, `"HS256 "`, `"HS384"`, `"RS256"`, `""`, `null`, `256`, `["HS256"]`, `{"alg":"HS256"}`} {
		token := forgeHS256(`{"alg":`+alg+`}`, `{"identity":"mark"}`)
		if _, rej := verifiers[0].Verify(context.Background(), token); outcomeText(rej) != "algorithm_not_allowed" {
			t.Errorf("alg %s: got %s, want algorithm_not_allowed", alg, outcomeText(rej))
		}
	}
}

// A tool that explains a token runs the very checks of the gateway, and lists them up to the first that fails.
func TestTraceListsTheChecksUpToTheFirstThatFails(t *testing.T) {
	v := sharedTokenVerifier(t, Policy{Issuers: []string{"https://a.example"}})
	for _, tt := range []struct {
		name, token string
		want        string
	}{
		{"a valid token", signHS256(`{"identity":"mark","iss":"https://a.example"}`),
			"form, algorithm, key, signature, payload, times, issuer, audience, required claims, identity, revocation"},
		{"no token", "x", "form token_malformed"},
		{"no claims", signHS256(`[]`), "form, algorithm, key, signature, payload token_malformed"},
		{"another algorithm", forgeHS256(`{"alg":"none"}`, `{}`), "form, algorithm algorithm_not_allowed"},
		{"a wrong signature", macWith("another secret", segment(`{"alg":"HS256"}`)+"."+segment(`{}`)), "form, algorithm, key, signature signature_invalid"},
		{"an expired token", signHS256(`{"exp":0}`), "form, algorithm, key, signature, payload, times token_expired"},
		{"another issuer", signHS256(`{}`), "form, algorithm, key, signature, payload, times, issuer issuer_not_allowed"},
		{"no identity", signHS256(`{"iss":"https://a.example"}`),
			"form, algorithm, key, signature, payload, times, issuer, audience, required claims, identity identity_missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var tr trace
			_, _ = v.verify(context.Background(), tt.token, new(ClaimSelection), &tr)
			var got []string
			for _, check := range tr.checks {
				name := check.Step.String()
				if check.Rejection != nil {
					name += " " + string(check.Rejection.Code)
				}
				got = append(got, name)
			}
			if !slices.Equal(got, strings.Split(tt.want, ", ")) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	keyed := verifierOf(t, Policy{}, secretKey(t, testSecret, "k1"))
	var tr trace
	_, _ = keyed.verify(context.Background(), forgeHS256(`{"alg":"HS256","kid":"k2"}`, `{}`), nil, &tr)
	if last := tr.checks[len(tr.checks)-1]; last.Step != CheckKey || last.Rejection.Code != KeyUnknown {
		t.Errorf("an unknown kid: got %s %+v, want %s", last.Step, last.Rejection, CheckKey)
	}
}

// Where the store cannot be read, a key or a setting may have been added that this node does not know. Refusing a token by what was
// known before would blame it: clients would fetch other tokens, and fail_limit would count them. Only what can be no token is refused.
func TestTokensAreUndecidedWhileTheStoreIsUnreadable(t *testing.T) {
	revoked := new(Revocations)
	v := sharedTokenVerifier(t, Policy{Issuers: []string{"https://a.example"}, TokenType: "at+jwt", Revoked: revoked})
	const issued = `{"identity":"mark","iss":"https://a.example"}`
	const typed = `{"alg":"HS256","typ":"at+jwt"}`
	tokens := map[string]string{
		"ok":                    forgeHS256(typed, issued),
		"token_malformed":       "x",
		"algorithm_not_allowed": forgeHS256(`{"alg":"RS256","typ":"at+jwt"}`, issued),
		"signature_invalid":     macWith("the key that was added", segment(typed)+"."+segment(issued)),
		"token_expired":         forgeHS256(typed, `{"identity":"mark","iss":"https://a.example","exp":1}`),
		"issuer_not_allowed":    forgeHS256(typed, `{"identity":"mark"}`),
		"identity_missing":      forgeHS256(typed, `{"iss":"https://a.example"}`),
	}
	cache := NewCache(10)
	check := func(want func(known string) string) {
		t.Helper()
		for known, token := range tokens {
			for range 2 { // the second time from the cache, if it is valid
				_, _, rej := cache.Verify(context.Background(), time.Now(), v, token, new(ClaimSelection), nil)
				if got := outcomeText(rej); got != want(known) {
					t.Errorf("%s: got %s, want %s", known, got, want(known))
				}
			}
		}
	}
	asKnown := func(known string) string { return known }
	check(asKnown)
	revoked.SetUnknown()
	check(func(known string) string {
		if known == "token_malformed" {
			return known
		}
		return "keys_unavailable"
	})
	if _, rej := v.Verify(context.Background(), forgeHS256(`{"alg":"HS256"}`, issued)); outcomeText(rej) != "keys_unavailable" {
		t.Errorf("another type than the setting was: got %s", outcomeText(rej))
	}
	revoked.Set(nil)
	check(asKnown)
}
