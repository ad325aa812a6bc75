package integration

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const assertionSite = `
	messenger_jwks /.well-known/jwks.json
	handle /other/* {
		messenger_auth support {
			assertion {
				audience other-backend
			}
		}
		reverse_proxy UPSTREAM
	}
	handle /several/* {
		messenger_auth support {
			assertion {
				audience other-backend third-backend
			}
		}
		reverse_proxy UPSTREAM
	}
	handle /optional/* {
		messenger_auth support {
			mode optional
			assertion {
				audience chat-backend
			}
		}
		reverse_proxy UPSTREAM
	}
	handle /report/* {
		messenger_auth support {
			mode report
			assertion {
				audience chat-backend
			}
		}
		reverse_proxy UPSTREAM
	}
	handle /off/* {
		messenger_auth support {
			mode off
			assertion {
				audience chat-backend
			}
		}
		reverse_proxy UPSTREAM
	}
	handle /named/* {
		messenger_auth support {
			assertion {
				audience chat-backend
				header X-Proof
			}
		}
		reverse_proxy UPSTREAM
	}
	handle /without/* {
		messenger_auth support
		reverse_proxy UPSTREAM
	}
	handle {
		messenger_auth support {
			assertion {
				audience chat-backend
			}
		}
		reverse_proxy UPSTREAM
	}
`

// startAsserting starts a gateway that sends assertions, and returns a function that gets one for a token.
func startAsserting(t *testing.T) (m method, g *gateway, up *upstream, asserted func(path string, c claims) string) {
	t.Helper()
	m = methods(t)[0]
	up = newUpstream(t)
	issuer := write(t, "issuer", []byte("https://chat.example.com"))
	g = start(t, up, "messenger {\n assertion_issuer {file."+issuer+"}\n}\n"+strings.ReplaceAll(m.messengers, "identity_key identity", "identity_key identity\n contact_claims name n aud"), assertionSite)
	return m, g, up, func(path string, c claims) string {
		t.Helper()
		if a := g.get(path, bearer(sign(m.key, c))); a.status != 200 {
			t.Fatalf("%s: got %d %s", path, a.status, a.body)
		}
		return up.one(t).header.Get("X-Contact-Assertion")
	}
}

// payloadOf reads an assertion without checking it.
func payloadOf(t *testing.T, assertion string) (payload map[string]any) {
	t.Helper()
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no assertion", assertion)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &payload) != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return payload
}

// Whatever a client sends in the header of the assertion, in any spelling, the backend gets the gateway's own word there, or none.
func TestClientsCannotSetAssertions(t *testing.T) {
	m, g, up, asserted := startAsserting(t)
	said := payloadOf(t, asserted("/", with(valid("mark"), claims{"name": "Zoë", "n": 1})))
	if got := fmt.Sprint(said["iss"], " ", said["aud"], " ", said["sub"], " ", said["messenger"], " ", said["claims"]); got != "https://chat.example.com chat-backend mark support map[n:1 name:Zoë]" {
		t.Errorf("got %s", got)
	}
	forged, token := "forged", bearer(sign(m.key, valid("mark")))
	var lines []string
	for _, name := range []string{"X-Contact-Assertion", "x-contact-assertion", "X_Contact_Assertion", "X.Contact.Assertion", "X!Contact!Assertion", "x~contact-ASSERTION", "X-Contact_Assertion", "X-Proof", "x!proof", "X_PROOF"} {
		lines = append(lines, name+": "+forged)
	}
	open := map[string]bool{"/": false, "/other/": false, "/without/": false, "/named/": false, "/optional/": true, "/report/": true, "/off/": true}
	for path, passes := range open {
		a := g.get(path, lines...)
		if reached := up.take(); (a.status == 200) != passes || len(reached) > 0 && strings.Contains(fmt.Sprint(reached[0].header), forged) {
			t.Errorf("%s: without a token got %d, and the backend %v", path, a.status, reached)
		}
	}
	for path := range open {
		a := g.get(path, append(lines, token)...)
		h := up.one(t).header
		want := map[string]string{"/without/": "00", "/off/": "00", "/named/": "01"}[path]
		if got := fmt.Sprint(len(h["X-Contact-Assertion"]), len(h["X-Proof"])); a.status != 200 || strings.ReplaceAll(got, " ", "") != cmp.Or(want, "10") || strings.Contains(fmt.Sprint(h), forged) {
			t.Errorf("%s: got %d, and the backend %v", path, a.status, h)
		}
	}
	g.raw("GET /echo HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: Upgrade, X-Contact-Assertion\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		token + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
	if h := up.one(t).header; h.Get("Upgrade") == "" || payloadOf(t, h.Get("X-Contact-Assertion"))["sub"] != "mark" || strings.Contains(fmt.Sprint(h), forged) {
		t.Errorf("with a handshake the backend gets %v", h)
	}
	if a := g.get("/", token, "Connection: close, X-Contact-Assertion"); a.status != 200 || up.one(t).header.Get("X-Contact-Assertion") == "" {
		t.Error("a client can have the assertion removed")
	}
	if a, b := asserted("/", valid("mark")), asserted("/", valid("mark")); a != b {
		t.Error("the same contact has a new assertion at once")
	}
	if a, b := asserted("/", valid("mark")), asserted("/other/", valid("mark")); payloadOf(t, a)["aud"] == payloadOf(t, b)["aud"] {
		t.Error("two backends have the same assertion")
	}
	end := time.Now().Add(20 * time.Second).Unix()
	if got := payloadOf(t, asserted("/", with(valid("eve"), claims{"exp": end})))["exp"]; got != float64(end) {
		t.Errorf("an assertion ends at %v, and its token at %d", got, end)
	}

	// A claim for which there is no room is left out, and the others are not.
	said = payloadOf(t, asserted("/", with(valid("large"), claims{"name": strings.Repeat("x", 5000), "n": 1})))
	if got := fmt.Sprint(said["claims"]); got != "map[n:1]" {
		t.Errorf("beside a claim that is too large the assertion has %.80s", got)
	}

	a := g.get("/.well-known/jwks.json")
	if a.status != 200 || a.header.Get("Content-Type") != "application/jwk-set+json" || a.header.Get("Cache-Control") != "public, max-age=600" || strings.Contains(a.body, `"d"`) {
		t.Errorf("the set: got %d %v %s", a.status, a.header, a.body)
	}
	if b := g.get("/.well-known/jwks.json", "If-None-Match: "+a.header.Get("Etag")); b.status != 304 {
		t.Errorf("the same set again: got %d", b.status)
	}
	if b := g.do(http.MethodPost, "/.well-known/jwks.json"); b.status != 405 {
		t.Errorf("a POST got %d", b.status)
	}
	// After a restart the keys are the same.
	g.load("messenger {\n assertion_issuer https://chat.example.com\n}\n"+m.messengers, assertionSite+"\nheader X-Reloaded 1")
	if b := g.get("/.well-known/jwks.json"); b.body != a.body {
		t.Errorf("after a reload the set is %s, before it was %s", b.body, a.body)
	}
}

// Caddy's proxy logs the request that it sends, with the headers of the gateway. The documented filter takes the assertion, which is a
// token for the backend, and the claims of the contact out of these lines.
func TestDocsLogFilterCoversAssertions(t *testing.T) {
	m, g, _, asserted := startAsserting(t)
	g.waitForLog("Caddy's proxy writes assertions into its log")
	contact := with(valid("mark"), claims{"name": "unlogged"})
	assertion := asserted("/", contact)
	g.waitForLog(`"X-Contact-Assertion":"REDACTED"`)
	g.load("messenger {\n assertion_issuer https://chat.example.com\n}\n"+strings.ReplaceAll(m.messengers, "identity_key identity", "identity_key identity\n contact_claims name"),
		"messenger_auth support {\n assertion {\n audience chat-backend\n}\n}\nreverse_proxy 127.0.0.1:1 {\n transport fastcgi\n}")
	g.get("/", bearer(sign(m.key, contact)))
	g.waitForLog(`"HTTP_X_CONTACT_ASSERTION":"REDACTED"`)
	header, _, _ := strings.Cut(assertion, ".") // that of every assertion with this key
	log := g.logs()
	for _, text := range []string{header, "unlogged"} {
		if strings.Contains(log, text) {
			t.Errorf("%q is in the log", text)
		}
	}
}

// Keys on a storage that others may read have to be sealed. Without a store key there is no assertion, and the load says so.
func TestAssertionsNeedAStoreKey(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	_, storage := newMemory(t)
	g := start(t, up, storage+"\nmessenger {\n assertion_issuer https://chat.example.com\n}\n"+m.messengers, assertionSite)
	if !strings.Contains(g.logs(), "no assertion is sent to the backend, because the key that signs it cannot be stored") {
		t.Error("the log does not say that there is no assertion")
	}
	if a := g.get("/", bearer(sign(m.key, valid("mark")))); a.status != 200 || len(up.one(t).header["X-Contact-Assertion"]) > 0 {
		t.Errorf("got %d", a.status)
	}
	if a := g.get("/.well-known/jwks.json"); a.status != 503 || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the set: got %d %v", a.status, a.header)
	}
	if text := loadError(t, m.messengers, assertionSite); !strings.Contains(text, "assertion needs assertion_issuer") {
		t.Errorf("without an issuer: %s", text)
	}
	if text := loadError(t, "messenger {\n assertion_issuer {env.MESSENGER_NOT_SET}\n}\n"+m.messengers, assertionSite); !strings.Contains(text, "assertion_issuer") || !strings.Contains(text, "MESSENGER_NOT_SET") {
		t.Errorf("with an issuer that is not set: %s", text)
	}
	if text := loadError(t, m.messengers, "messenger_auth support {\n assertion {\n audience {http.request.host}\n }\n}"); !strings.Contains(text, "would be signed as it is written") {
		t.Errorf("with a placeholder in an audience: %s", text)
	}
}

// Backends in five languages verify an assertion as documented, and refuse what is not theirs.
func TestDocsSamplesVerifyAssertions(t *testing.T) {
	if !alone(t) {
		return
	}
	_, g, _, asserted := startAsserting(t)
	own, other := asserted("/", valid("mark")), asserted("/other/", valid("mark"))
	const odd = `M"<&>\u0041\`
	several := asserted("/several/", with(valid("mark"), claims{"aud": "chat-backend"})) // the site's word, in a member of its own
	if got := fmt.Sprint(payloadOf(t, several)["claims"]); got != "map[aud:chat-backend]" {
		t.Fatalf("the claims are %s", got)
	}
	ended := asserted("/", with(valid("mark"), claims{"exp": time.Now().Unix() + 1}))
	parts := strings.Split(own, ".")
	swapped := strings.Replace(string(mustDecode(t, parts[1])), `"messenger":"support"`, `"messenger":"sales"`, 1)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	strange := parts[0] + "." + b64(swapped)
	lines := []string{
		own,
		asserted("/", valid(odd)),
		several,
		other, // of this gateway, and for another backend
		parts[0] + "." + b64(swapped) + "." + parts[2],
		strange + "." + b64(string(ed25519.Sign(private, []byte(strange)))), // by a stranger, with the key's name
		b64(`{"alg":"none"}`) + "." + parts[1] + ".",
		b64(`{"alg":"HS256","kid":"x"}`) + "." + parts[1] + "." + parts[2],
		own[:len(own)-8] + "AAAAAAAA",
		ended,
	}
	patiently(t, "the token of one has expired", func() bool { return float64(time.Now().Unix()) > payloadOf(t, ended)["exp"].(float64) })
	want := "mark support\n" + odd + " support" + strings.Repeat("\nno", len(lines)-2)
	for language, program := range map[string][2]string{
		"node":   {"verify.js", "SAMPLE\n;(async () => { for (const line of require('node:fs').readFileSync(0, 'utf8').trim().split('\\n')) { try { const c = await contactOf(line); console.log(c.sub + ' ' + c.messenger) } catch { console.log('no') } } })()"},
		"python": {"verify.py", "SAMPLE\nimport sys\nfor line in sys.stdin.read().split():\n    try:\n        c = contact_of(line)\n        print(c['sub'], c['messenger'])\n    except jwt.PyJWTError:\n        print('no')\n"},
		"php":    {"verify.php", "<?php\nSAMPLE\nforeach (explode(\"\\n\", trim(stream_get_contents(STDIN))) as $line) { try { $c = contact_of($line); echo $c['sub'], ' ', $c['messenger'], \"\\n\"; } catch (Exception) { echo \"no\\n\"; } }"},
		"java":   {"Backend.java", "SAMPLE"},
		"go":     {"verify.go", "package main\nSAMPLE\nfunc main() {\nin, _ := io.ReadAll(os.Stdin)\nfor _, line := range strings.Fields(string(in)) {\nif c, err := contactOf(line); err != nil { fmt.Println(\"no\") } else { fmt.Println(c.Subject, c.Messenger) }\n}\n}\n"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, program[0])
			text := strings.Replace(program[1], "SAMPLE", sample(t, language+" assertion"), 1)
			writeSample(t, file, strings.ReplaceAll(text, "https://chat.example.com/.well-known/jwks.json", g.url+"/.well-known/jwks.json"))
			cmd, err := verifier(dir, language, file)
			if err != nil {
				lacks(t, language, err)
			}
			cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
			if out, err := command(dir, cmd); err != nil || strings.TrimSpace(out) != want {
				t.Errorf("got %q, %v, want %q", out, err, want)
			}
		})
	}
}

func mustDecode(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
