package diagnose

import (
	"slices"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A line with another name, or none, is not the value of the Authorization header: what was found about the text stays.
func TestOtherHeaderLinesKeepTheirFinding(t *testing.T) {
	v := gateway(t)["raw"]
	token := hs(payload(""))
	header := authn.Source{Kind: authn.Header, Name: "Authorization", Scheme: "Bearer"}
	all := []authn.Sources{{header}, {header, {Kind: authn.WebSocketProtocol, Name: "jwt"}}, {{Kind: authn.Header, Name: "X-Token"}}, {{Kind: authn.Header, Name: "Authorization"}}}
	wanted := map[string]cause.Cause{
		": " + token: cause.SchemeColon, "session=x; token=" + token: cause.TextAround, "access_token : " + token: cause.TextAround,
		"X-Token: JWT " + token: cause.TextWrapped, "token= " + token: cause.TextAround, `"token": "` + token + `"`: cause.TextAround,
		"user@example.com " + token: cause.TextWrapped, "jwts, " + token: cause.TextWrapped,
	}
	for _, name := range []string{"Cookie", "X-Token", "X-Authorization", "Proxy-Authorization", "access_token", "id_token", "JWT", "token", "https", ""} {
		for _, value := range []string{"token=" + token, " token=" + token, " " + token, "\t" + token, ` "` + token + `"`} {
			want := cause.TextAround
			if name == "" {
				want = cause.SchemeColon
			}
			wanted[name+":"+value] = want
		}
	}
	for text, want := range wanted {
		_, rej := v.Verify(t.Context(), text)
		findings := Find(v, text, rej, nil)
		if len(findings) != 1 || findings[0].Name != want.String() {
			t.Errorf("%s: found %+v, want %s", text, findings, want)
		}
		for i, sources := range all {
			if got := WithPasted(findings, sources, text); !slices.Equal(got, findings) {
				t.Errorf("%s, with sources %d: got %s in place of %+v", text, i, got[0].Name, findings)
			}
		}
	}
	for _, text := range []string{" ", "Authorization:", "Authorization: "} {
		if got := WithPasted(nil, all[0], text); len(got) > 0 && got[0].Name == cause.SchemeAlone.String() {
			t.Errorf("%q has no scheme: got %+v", text, got)
		}
	}
	// Where no route takes a token from a subprotocol, a list of them is not a header's value with a scheme.
	for _, text := range []string{"jwt, " + token, "JWT, " + token} {
		if got := WithPasted(nil, all[0], text); got != nil {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}
