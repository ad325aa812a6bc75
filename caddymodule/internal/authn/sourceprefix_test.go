package authn

import (
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"
)

// A token inside one subprotocol is found only in its exact form: similar texts are not tokens, or are refused.
func TestTokenInsideASubprotocol(t *testing.T) {
	plain := Source{Kind: WebSocketProtocol, Name: "bearer.", Prefix: true}
	phoenix := Source{Kind: WebSocketProtocol, Name: "base64url.bearer.phx.", Prefix: true, Encoded: true}
	b64 := base64.RawURLEncoding.EncodeToString
	for _, tt := range []struct {
		name   string
		source Source
		offers string
		token  string // that is found
		code   Code
		left   string // what the backend gets
	}{
		{"Phoenix 1.8", phoenix, "phoenix, base64url.bearer.phx." + b64([]byte("a.b.c")), "a.b.c", "", "phoenix"},
		{"a bare token behind the prefix of encoded ones", phoenix, "phoenix, base64url.bearer.phx.a.b.c", notEncoded, "", "phoenix"},
		{"padding", phoenix, "base64url.bearer.phx." + base64.URLEncoding.EncodeToString([]byte("a.b.cd")) + "=", notEncoded, "", ""},
		{"base64 whose last bits are not zero", phoenix, "base64url.bearer.phx.YR", notEncoded, "", ""},
		{"encoded twice", phoenix, "base64url.bearer.phx." + b64([]byte(b64([]byte("a.b.c")))), b64([]byte("a.b.c")), "", ""},
		{"the prefix in another case", phoenix, "phoenix, Base64url.bearer.phx.YQ", "", TokenMissing, "phoenix, Base64url.bearer.phx.YQ"},
		{"the prefix of something else", phoenix, "base64url.bearer.authorization.k8s.io.YQ", "", TokenMissing, "base64url.bearer.authorization.k8s.io.YQ"},
		{"the prefix inside", phoenix, "xbase64url.bearer.phx.YQ", "", TokenMissing, "xbase64url.bearer.phx.YQ"},
		{"nothing behind the prefix", phoenix, "phoenix, base64url.bearer.phx.", "", TokenMissing, "phoenix"},
		{"two tokens", phoenix, "base64url.bearer.phx.YQ, base64url.bearer.phx.Yg", "", TokenAmbiguous, ""},
		{"one token twice", phoenix, "base64url.bearer.phx.YQ, chat, base64url.bearer.phx.YQ", "a", "", "chat"},
		{"an empty one beside it", phoenix, "base64url.bearer.phx., base64url.bearer.phx.YQ", "", TokenAmbiguous, ""},
		{"the word undefined, encoded", phoenix, "base64url.bearer.phx." + b64([]byte("undefined")), "", TokenMalformed, ""},
		{"a bare token", plain, "chat,bearer.a.b.c", "a.b.c", "", "chat"},
		{"the marker's way of writing it", plain, "bearer, a.b.c", "", TokenMissing, "bearer, a.b.c"},
		{"an encoded token behind the prefix of bare ones", plain, "bearer." + b64([]byte("a.b.c")), b64([]byte("a.b.c")), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Sec-WebSocket-Protocol", tt.offers)
			sources := Sources{tt.source}
			found, rej := sources.Find(r, Look{Handshake: true})
			switch {
			case tt.code == "" && (rej != nil || found.Token != tt.token):
				t.Errorf("got %+v %+v, want the token %q", found, rej, tt.token)
			case tt.code != "" && (rej == nil || rej.Code != tt.code):
				t.Errorf("got %+v %+v, want %s", found, rej, tt.code)
			case found.Marker != "":
				t.Errorf("the answer would repeat %q", found.Marker)
			}
			sources.Remove(r, nil)
			if left := strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ", "); left != tt.left {
				t.Errorf("the backend gets %q, want %q", left, tt.left)
			}
		})
	}
	marker := Source{Kind: WebSocketProtocol, Name: "jwt"}
	for offers, want := range map[string]bool{"JWT, x": true, "jwt, x": false, "jwts": false, "chat": false, "chat, Jwt": true, "": false} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Sec-WebSocket-Protocol", offers)
		if got := marker.HasOtherCase(r); got != want {
			t.Errorf("%q has the marker in another case: %v, want %v", offers, got, want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Sec-WebSocket-Protocol", "phoenix, BASE64URL.bearer.phx.YQ")
	if !phoenix.HasOtherCase(r) || plain.HasOtherCase(r) {
		t.Error("the prefix in another case is not seen")
	}
}
