package diagnose

import (
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A valid signature proves that the payload was not damaged on its way: to copy the token again does not help. What is not signed may
// be damaged.
func TestSignedPayloadIsNotReportedAsDamaged(t *testing.T) {
	all := gateway(t)
	for payload, want := range map[string]cause.Cause{
		`{"identity":"m","x":NaN}`: cause.PayloadNotJSON, `{"identity":"m",}`: cause.PayloadNotJSON, `{'identity':'m'}`: cause.PayloadNotJSON,
		"\xef\xbb\xbf" + `{"identity":"m"}`: cause.PayloadNotJSON, `{"identity":"m"`: cause.PayloadNotJSON, "identity=m": cause.PayloadNotJSON,
		`{"identity":"m"}{}`: cause.PayloadNotJSON,
		// These are JSON, and the reason of the refusal says what is wrong.
		`["m"]`: cause.None, `{"identity":"m","identity":"n"}`: cause.None, `{"identity":"\ud800"}`: cause.None, "{\"identity\":\"\xe9\"}": cause.None,
	} {
		rej, findings := examine(t, all, "raw", hs(payload))
		if rej == nil || findings != nil != (want != cause.None) || len(findings) > 0 && findings[0].Name != want.String() {
			t.Errorf("%q, signed: got %+v, want %s", payload, findings, want)
		}
		if got := Cause(all["raw"], hs(payload), rej); got != want {
			t.Errorf("%q, signed, in the log: got %s, want %s", payload, got, want)
		}
		if _, findings := examine(t, all, "raw", sign(`{"alg":"HS256"}`, payload, "another secret of at least 32 bytes")); len(findings) != 1 || findings[0].Name != cause.KeyOther.String() {
			t.Errorf("%q, signed with another key: got %+v", payload, findings)
		}
	}
	for name, text := range map[string]string{
		"header": sign(`{"alg":"HS256",}`, `{"identity":"m"}`, rawSecret), "both": sign(`{"alg":"HS256",}`, `{"identity":"m",}`, rawSecret), "signature": hs(`{"identity":"m",}`)[1:],
	} {
		if _, findings := examine(t, all, "raw", text); len(findings) != 1 || findings[0].Name != cause.CharacterLost.String() {
			t.Errorf("%s: got %+v", name, findings)
		}
	}
}

// Each text is called what it is: an address is not a token in another alphabet, two tokens are not an encrypted one, and a header with
// an alg does not lack it.
func TestFormsOfTextsAreRecognised(t *testing.T) {
	token := hs(payload(""))
	for text, want := range map[string]cause.Cause{
		"wss://x/ws": cause.TextIsAddress, "https://chat.example.com": cause.TextIsAddress, "HTTPS://X/%41": cause.TextIsAddress, "http://x?a=b": cause.TextIsAddress,
		"https://x/c/" + token: cause.TextAround, "wss://x/ws#" + token: cause.TextAround, "https://x/c?" + token: cause.TextAround, "/c/" + token: cause.TextAround, "chat.example.com/" + token: cause.TextAround,
		"//x/ws": cause.TokenCut, `{"iss":"https://login.example.com"}`: cause.TextIsJSON,
		strings.ReplaceAll(token, ".", "%2E"): cause.TextStandardBase64, "ew0K/w." + token[4:]: cause.TextStandardBase64, "chat/123": cause.TokenCut,
		token + "," + token: cause.TextSeveral, token + ", " + token + ", " + token: cause.TextSeveral, token + " " + token: cause.TextSeveral, token + "\n" + token: cause.TextSeveral,
		token + ",x": cause.CharacterLost, token + "," + token[:20]: cause.CharacterLost, "a.b.c.d.e": cause.None, token + token: cause.None,
		" ": cause.None, "\t\r\n": cause.None, "": cause.SchemeAlone, "Bearer ": cause.SchemeAlone, " Bearer": cause.SchemeAlone,
	} {
		if got := formOf(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for _, alg := range []string{"", `"alg":null,`, `"alg":1,`, `"alg":"",`, `"alg":["HS256"],`} {
		_, findings := examine(t, gateway(t), "raw", sign("{"+alg+`"typ":"JWT"}`, payload(""), rawSecret))
		if len(findings) != 1 || !strings.HasPrefix(findings[0].Cause, "The header's alg is absent, empty or not a string: ") {
			t.Errorf("a header with %q: got %+v", alg, findings)
		}
	}
}
