package diagnose

import (
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A valid signature proves that the payload was not damaged on its way: to copy the token again does not help. What is not signed may
// be damaged.
func TestASignedPayloadIsNotCalledDamaged(t *testing.T) {
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
