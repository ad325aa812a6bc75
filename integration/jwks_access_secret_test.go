package integration

import (
	"strings"
	"testing"
)

// A key server wants a key in the query, which the configuration takes from a file. It is in no log line, and in nothing that commands
// and the admin API print, whether the key server answers or not.
func TestSecretInAKeySetURLIsNeverShown(t *testing.T) {
	secret := newSecret()
	search.secret(secret)
	file := write(t, "query", []byte(secret))
	server := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g := start(t, nil, "messenger up {\n identity_key identity\n jwks "+server.url+"?key={file."+file+"}&v=1\n}\nmessenger down {\n identity_key identity\n jwks http://127.0.0.1:1/keys?key={file."+file+"}\n}",
		"messenger_auth /up/* up\nmessenger_auth /down/* down\nrespond ok")
	g.waitForLog("key set not fetched")
	for _, name := range []string{"up", "down"} {
		for _, path := range []string{"messengers/" + name + "/keys", "messengers/" + name} {
			status, text := g.admin("GET", path, "")
			if status != 200 || strings.Contains(text, secret) {
				t.Errorf("%s: got %d %s", path, status, text)
			}
		}
		if status, text := g.admin("GET", "messengers/"+name+"/keys", ""); status != 200 || !strings.Contains(text, "?key=…") {
			t.Errorf("the keys of %s: got %d %s", name, status, text)
		}
	}
	if logs := g.logs(); strings.Contains(logs, secret) || !strings.Contains(logs, "?key=…") {
		t.Error("the log has the secret, or not the URL")
	}
}
