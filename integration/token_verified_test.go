package integration

import (
	"testing"
)

// The main job: a token that a common JWT library signed reaches the upstream as an identity.
func TestValidTokenReachesTheUpstreamAsAnIdentity(t *testing.T) {
	for _, m := range methods(t) {
		t.Run(m.name, func(t *testing.T) {
			up := newUpstream(t)
			g := start(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
			if a := g.get("/chat?x=1", bearer(sign(m.key, valid("mark")))); a.status != 200 {
				t.Fatalf("got %d %s, want 200", a.status, a.body)
			}
			r := up.one(t)
			for name, want := range map[string]string{"X-Contact-Identity": "mark", "X-Contact-Messenger": "support", "Authorization": ""} {
				if got := r.header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		})
	}
}

// A stranger without a key gets nothing but an answer that says why.
func TestForgedTokenIsRefusedWithAReason(t *testing.T) {
	for _, m := range methods(t) {
		t.Run(m.name, func(t *testing.T) {
			up := newUpstream(t)
			g := start(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
			var key any = newSecret()
			if m.name == "public_key" {
				key = rsaKey(1)
			}
			a := g.get("/", bearer(sign(key, valid("mark"))))
			if a.status != 401 || a.code(t) != "signature_invalid" {
				t.Errorf("got %d %s, want 401 signature_invalid", a.status, a.body)
			}
			if got := a.header.Get("Www-Authenticate"); got != `Bearer realm="support", error="invalid_token", error_description="Invalid signature"` {
				t.Errorf("WWW-Authenticate: %s", got)
			}
			up.none(t)
		})
	}
}
