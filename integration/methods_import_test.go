package integration

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"
)

// imported is what is told of a ring with an imported secret.
type imported struct {
	Tokens []struct {
		KID, Fingerprint, Origin, State string
		End                             *time.Time
	}
}

func (o *operator) rings(name string) (r imported) {
	o.t.Helper()
	decode(o.t, o.want(200, "GET", "messengers/"+name+"/tokens", nil).body, &r)
	return r
}

// A text that others may know is not imported as a secret. No answer and no log contains a part of it: TestMain searches them.
func TestPublicTextsAreNotImportedAsSecrets(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	o.put("strong", map[string]any{"identity_key": "identity", "shared_token": map[string]any{"alg": "HS512"}})
	der, err := x509.MarshalPKIXPublicKey(&rsaKey(0).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	short := "31 bytes are not enough for one"
	search.secret(short)
	for name, tt := range map[string]struct {
		to, says string
		body     map[string]any
	}{
		"nothing":                   {"acme", "the secret is missing", map[string]any{}},
		"too short":                 {"acme", "has 31 bytes; HS256 needs at least 32", map[string]any{"secret": short}},
		"too short for HS512":       {"strong", "has 53 bytes; HS512 needs at least 64", map[string]any{"secret": strings.Repeat("x", 53)}},
		"a public key":              {"acme", "is PEM", map[string]any{"secret": strings.TrimSpace(string(publicPEM(rsaKey(0))))}},
		"a public key in base64":    {"acme", "is a public key", map[string]any{"secret": base64.StdEncoding.EncodeToString(der)}},
		"the bytes of a public key": {"acme", "is a public key", map[string]any{"secret": base64.StdEncoding.EncodeToString(der), "encoding": "base64"}},
		"a JWK":                     {"acme", "is a JSON object", map[string]any{"secret": `{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}`}},
		"a damaged shared token":    {"acme", "was damaged", map[string]any{"secret": "mst_" + strings.Repeat("A", 49)}},
		"not base64":                {"acme", "is not base64", map[string]any{"secret": strings.Repeat("!", 44), "encoding": "base64"}},
		"another encoding":          {"acme", "not one of: raw, base64", map[string]any{"secret": strings.Repeat("x", 44), "encoding": "rot13"}},
		"a blank at the end":        {"acme", "white space", map[string]any{"secret": strings.Repeat("x", 44) + " "}},
		"NUL bytes at the end":      {"acme", "NUL", map[string]any{"secret": base64.StdEncoding.EncodeToString(append([]byte(strings.Repeat("x", 40)), 0, 0, 0)), "encoding": "base64"}},
		"a long kid":                {"acme", "255 bytes", map[string]any{"secret": strings.Repeat("x", 44), "kid": strings.Repeat("k", 256)}},
		"an overlap":                {"acme", "overlap", map[string]any{"secret": strings.Repeat("x", 44), "overlap": "1h"}},
	} {
		if said := o.refused(400, "POST", "messengers/"+tt.to+"/tokens/import", tt.body); !strings.Contains(said, tt.says) {
			t.Errorf("%s: %s, want %q", name, said, tt.says)
		}
	}
	for _, name := range []string{"acme", "strong"} {
		if r := o.rings(name); len(r.Tokens) != 0 {
			t.Errorf("%s has %d shared tokens", name, len(r.Tokens))
		}
	}
	// An attacker cannot sign with the public key.
	g.expect("503 keys_unavailable", "/m/acme/x", sign(base64.StdEncoding.EncodeToString(der), valid("mark")))
}

// A site moves in with its secret: its tokens are valid from then on, whatever kid they have, and the secret is rotated, revoked and
// listed like any other, and never shown. A revoked one is not taken a second time, in any spelling.
func TestImportedSecretVerifiesExistingTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	g, o := startLive(t, newUpstream(t))
	a := &administrator{newShell(t), []string{"--address", "unix/" + g.sock}}
	o.put("acme", generated)
	secret := newSecret()
	g.expect("503 keys_unavailable", "/m/acme/x", sign(secret, valid("mark")))
	ran := a.want(0, "the secret is shared token", secret+"\n", "tokens", "import", "acme")
	if holds([]byte(ran.out+ran.err), secret) {
		t.Error("the command shows the secret")
	}
	for _, kid := range []string{"", "of the site", "another one"} {
		g.expect("200", "/m/acme/x", signWithKID(secret, kid, valid("mark")))
	}
	for _, body := range []map[string]any{{"secret": secret}, {"secret": hex.EncodeToString([]byte(secret)), "encoding": "hex"}, {"secret": base64.StdEncoding.EncodeToString(append([]byte(secret), 0)), "encoding": "base64"}} {
		if said := o.refused(409, "POST", "messengers/acme/tokens/import", body); !strings.Contains(said, "already") {
			t.Errorf("the same secret once more: %s", said)
		}
	}
	ring := o.rings("acme")
	if len(ring.Tokens) != 1 || ring.Tokens[0].Origin != "imported" || ring.Tokens[0].Fingerprint != "" || ring.Tokens[0].State != "active" {
		t.Errorf("the ring is %+v", ring)
	}
	if said := a.want(0, "imported", "", "tokens", "list", "acme").out; holds([]byte(said), secret) {
		t.Error("the list shows the secret")
	}

	// With the kid of the site's tokens it verifies these alone.
	named := newSecret()
	a.want(0, "shared token k1", base64.StdEncoding.EncodeToString([]byte(named)), "tokens", "import", "acme", "--encoding", "base64", "--kid", "k1")
	g.expect("200", "/m/acme/x", signWithKID(named, "k1", valid("mark")))
	g.expect("401 signature_invalid", "/m/acme/x", signWithKID(named, "k2", valid("mark")))
	a.want(4, "kid already", newSecret()+"\n", "tokens", "import", "acme", "--kid", "k1")

	// A rotation lets both expire, an extension puts that off, and nothing shortens it.
	fresh := o.makeToken("rotate", "acme", map[string]any{"overlap": "1h"})
	a.want(0, "valid for another 48h", "", "tokens", "extend", "acme", "--kid", "k1", "--overlap", "48h")
	for _, token := range o.rings("acme").Tokens {
		if token.KID == "k1" && (token.End == nil || time.Until(*token.End) < 47*time.Hour) {
			t.Errorf("k1 expires at %v", token.End)
		}
	}
	for _, tt := range []struct {
		kid, overlap, says string
		status             int
	}{
		{"k1", "1h", "which is later", 409}, {fresh.KID, "1h", "does not expire", 409}, {"k1", "0s", "not above 0", 400},
		{"k1", "9000h", "at most 365 days", 400}, {"k", "1h", "no shared token with this kid", 404},
	} {
		if said := o.refused(tt.status, "POST", "messengers/acme/tokens/extend", map[string]any{"kid": tt.kid, "overlap": tt.overlap}); !strings.Contains(said, tt.says) {
			t.Errorf("%s for another %s: %s, want %q", tt.kid, tt.overlap, said, tt.says)
		}
	}
	if said := o.refused(428, "POST", "messengers/acme/tokens/rotate", map[string]any{"overlap": "0s"}); !strings.Contains(said, "3 shared tokens") || !strings.Contains(said, "confirm the number 3") {
		t.Errorf("a rotation without an overlap was answered with %q", said)
	}
	for confirm, status := range map[int]int{-1: 400, 2: 428, 4: 428} { // a number that is not the one in the question confirms nothing
		o.refused(status, "POST", "messengers/acme/tokens/rotate", map[string]any{"overlap": "0s", "confirm": confirm})
	}
	g.expect("200", "/m/acme/x", sign(secret, valid("mark")))

	// Revoked is revoked, also for the same secret in another spelling.
	o.want(200, "POST", "messengers/acme/tokens/revoke", map[string]any{"kid": ring.Tokens[0].KID})
	g.expect("401 signature_invalid", "/m/acme/x", sign(secret, valid("mark")))
	a.want(4, "is not accepted again", secret, "tokens", "import", "acme")
	o.refused(409, "POST", "messengers/acme/tokens/import", map[string]any{"secret": base64.StdEncoding.EncodeToString(append([]byte(secret), 0, 0)), "encoding": "base64"})
	g.expect("401 signature_invalid", "/m/acme/x", sign(secret, valid("mark")))
	g.expect("200", "/m/acme/x", signWithKID(named, "k1", valid("mark")))
	if said := fmt.Sprint(a.want(0, "acme", "", "export")); holds([]byte(said), named) {
		t.Error("the export has the secret")
	}
}

// A chat that is opened while its token is about to expire ends when that was planned, as its page was told; extending the token lets
// the page open it again at once. One that was opened before the rotation goes on.
func TestExtendedTokenCanOpenConnectionsAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newChat(t)
	g, o := startLive(t, up.upstream)
	o.put("acme", generated)
	old := o.generate("acme")
	open := func() *socket {
		s, status := protocols[0].open(g, "/m/acme/echo", bearer(old.signed()))
		if status != 101 {
			t.Fatalf("got %d", status)
		}
		return s
	}
	before := open()
	o.makeToken("rotate", "acme", map[string]any{"overlap": "2s"})
	during := open()
	o.want(200, "POST", "messengers/acme/tokens/extend", map[string]any{"kid": old.KID, "overlap": "48h"})
	if end := during.ended(); end != "4403 token_revoked" {
		t.Errorf("the chat of the overlap ended with %q", end)
	}
	if again := open(); !again.answers("here again") || !before.answers("still here") {
		t.Error("a chat does not answer after its token was extended")
	}
}
