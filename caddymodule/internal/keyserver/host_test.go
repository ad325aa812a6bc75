package keyserver

import "testing"

func TestIsHost(t *testing.T) {
	for text, want := range map[string]bool{
		"keys.internal": true, "keys.internal:8443": true, "127.0.0.1": true, "127.0.0.1:80": true, "::1": true, "[::1]": true, "[::1]:443": true, "localhost": true,
		"": false, "http://a.b": false, "a.b/": false, "a.b/jwks": false, "*.a.b": false, "user@a.b": false, "a.b?x": false, "a b": false, ":443": false, "a.b:port": false,
	} {
		if got := IsHost(text); got != want {
			t.Errorf("%q: got %t", text, got)
		}
	}
}
