package sigkey

import (
	"slices"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// What people configure the URL of in place of a key set is named, and so is an entry without the key itself.
func TestResponsesThatAreNotKeySetsHaveACause(t *testing.T) {
	seen := []cause.Cause{cause.ServerCertificateOnly}
	for _, tt := range []struct {
		origin, body string
		want         cause.Cause
	}{
		{"a single sign-on page", " <!DOCTYPE html><title>Sign in</title>", cause.ServerHTML},
		{"OpenID: /.well-known/openid-configuration", `{"issuer":"https://login.example.com","jwks_uri":"https://login.example.com/keys"}`, cause.ServerDiscovery},
		{"Firebase: x509/securetoken@system.gserviceaccount.com", `{"a1":"-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n"}`, cause.ServerCertificateMap},
		{"an error in JSON", `{"error":"not found"}`, cause.ServerOther},
		{"a PEM file", "-----BEGIN PUBLIC KEY-----", cause.ServerOther},
	} {
		if _, _, err := ParseSet([]byte(tt.body), rs256, false); cause.Of(err) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.origin, err, tt.want)
		}
		seen = append(seen, tt.want)
	}
	_, omitted, _ := ParseSet([]byte(`{"keys":[{"kty":"RSA","kid":"a","x5c":["MIIC"]}]}`), rs256, false)
	if len(omitted) != 1 || omitted[0].Reason != cause.ServerCertificateOnly.Err().Error() {
		t.Errorf("an entry with a certificate alone: got %+v", omitted)
	}
	for c := cause.ServerHTML; c <= cause.ServerCertificateOnly; c++ { // those before are in the tests of package keyserver
		if !slices.Contains(seen, c) {
			t.Errorf("no answer of this test leads to %s", c)
		}
	}
}
