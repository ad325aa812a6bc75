package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// liveOptions are the global options of gateways with live messengers: a configured one whose tokens are generated, and
// a storage of the test's own.
const liveOptions = `storage file_system DIR/store
	messenger {
		poll_interval 50ms
	}
	messenger support {
		identity_key identity
		shared_token
	}`

// liveSite takes the messenger from the path: /m/<messenger>/… is a stored one, /support/… the configured one.
const liveSite = `
	handle /m/* {
		messenger_auth {path.1}
		reverse_proxy UPSTREAM
	}
	handle {
		messenger_auth support
		reverse_proxy UPSTREAM
	}`

func startLive(t testing.TB, up *upstream) (*gateway, *operator) {
	t.Helper()
	g := start(t, up, liveOptions, liveSite)
	return g, g.operator()
}

// expect asks for path with a token for mark, and compares the status and the code of the answer: "200", or
// "401 signature_invalid".
func (g *gateway) expect(want, path, token string) {
	g.t.Helper()
	if got := g.verdict(path, token); got != want {
		g.t.Errorf("%s: got %s, want %s", path, got, want)
	}
}

func (g *gateway) verdict(path, token string) string {
	g.t.Helper()
	a := g.get(path, bearer(token))
	if a.status == http.StatusOK {
		return "200"
	}
	return fmt.Sprintf("%d %s", a.status, a.code(g.t))
}

// signed returns a token for mark, as a site signs it that names the key, or does not.
func (s sharedToken) signed() string        { return sign(s.Token, valid("mark")) }
func (s sharedToken) signedWithKID() string { return signWithKID(s.Token, s.KID, valid("mark")) }

// A messenger is configured before its token exists. It answers that it cannot decide, and the log says how to go on.
func TestMessengerWithoutATokenCannotDecide(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	a := g.get("/", bearer(sign(newSecret(), valid("mark"))))
	if a.status != 503 || a.code(t) != "keys_unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %v %s, want 503 keys_unavailable with Retry-After", a.status, a.header, a.body)
	}
	g.waitForLog("caddy messenger tokens generate support")
	if r := o.ring("support"); len(r.Tokens) != 0 {
		t.Errorf("there are tokens that nobody made: %+v", r)
	}
	g.expect("200", "/", o.generate("support").signed())
	g.load(liveOptions, liveSite+"\nheader X 1")
	if n := strings.Count(g.logs(), "caddy messenger tokens generate support"); n != 1 {
		t.Errorf("the log names the command %d times, want once: the second configuration has a token", n)
	}
}

// The site begins to sign with the new token while chats that the old one opened go on; then the old one stops.
func TestRotationWithAnOverlap(t *testing.T) {
	if !alone(t) {
		return
	}
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	for name, path := range map[string]string{"support": "/", "acme": "/m/acme/x"} {
		t.Run(name, func(t *testing.T) {
			old := o.generate(name)
			g.expect("200", path, old.signed())
			rotated := time.Now()
			renewed := o.makeToken("rotate", name, map[string]any{"overlap": "3s"})
			for _, token := range []string{old.signed(), old.signedWithKID(), renewed.signed(), renewed.signedWithKID()} {
				if got := g.verdict(path, token); got != "200" && time.Since(rotated) < 3*time.Second {
					t.Errorf("in the overlap: got %s", got)
				}
			}
			r := o.ring(name)
			if len(r.Tokens) != 2 && time.Since(rotated) < 3*time.Second {
				t.Fatalf("the ring has %+v", r)
			}
			if len(r.Tokens) == 2 && (r.Tokens[0].State != "active" || r.Tokens[1].State != "ending" || r.Tokens[1].KID != old.KID || r.Tokens[1].End == nil) {
				t.Errorf("the ring has %+v", r)
			}
			eventually(t, "the old token stops", func() bool { return g.verdict(path, old.signed()) == "401 signature_invalid" })
			if passed := time.Since(rotated); passed < 3*time.Second {
				t.Errorf("it stopped after %s", passed)
			}
			g.expect("401 key_unknown", path, old.signedWithKID())
			g.expect("200", path, renewed.signed())
			if r := o.ring(name); len(r.Tokens) != 1 || r.Tokens[0].KID != renewed.KID {
				t.Errorf("afterwards the ring has %+v", r)
			}
		})
	}
}

// Reset and revoke are for tokens that somebody has seen. They take effect before they are answered.
func TestResetAndRevokeTakeEffectAtOnce(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	for name, path := range map[string]string{"support": "/", "acme": "/m/acme/x"} {
		t.Run(name, func(t *testing.T) {
			first, second := o.generate(name), o.generate(name)
			for _, made := range []sharedToken{first, second} {
				g.expect("200", path, made.signed())
			}
			third := o.makeToken("reset", name, map[string]any{})
			for _, made := range []sharedToken{first, second} {
				g.expect("401 signature_invalid", path, made.signed())
				g.expect("401 key_unknown", path, made.signedWithKID())
			}
			g.expect("200", path, third.signed())
			fourth := o.generate(name)
			o.want(200, "POST", "messengers/"+name+"/tokens/revoke", map[string]any{"kid": third.KID})
			g.expect("401 signature_invalid", path, third.signed())
			g.expect("200", path, fourth.signed())
			o.want(200, "POST", "messengers/"+name+"/tokens/revoke", map[string]any{"kid": fourth.KID})
			g.expect("503 keys_unavailable", path, fourth.signed())
			at := o.makeToken("generate", name, map[string]any{})
			g.expect("200", path, at.signed())
			o.makeToken("rotate", name, map[string]any{"overlap": 0})
			g.expect("401 signature_invalid", path, at.signed())
		})
	}
}

// Every active token is one more HMAC for a token without kid, so there are ten at most. What is refused changes nothing.
func TestRingHasAtMostTenTokens(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	var made []sharedToken
	for range 10 {
		made = append(made, o.generate("support"))
	}
	before := o.ring("support")
	for _, action := range []string{"generate", "rotate"} {
		if said := o.refused(409, "POST", "messengers/support/tokens/"+action, map[string]any{}); !strings.Contains(said, "revoke") {
			t.Errorf("%s: the error does not say what to do: %s", action, said)
		}
	}
	if after := o.ring("support"); after.Revision != before.Revision || len(after.Tokens) != 10 {
		t.Errorf("a refused call changed the ring: %+v", after)
	}
	for _, m := range made {
		g.expect("200", "/", m.signed())
	}
	o.want(200, "POST", "messengers/support/tokens/revoke", map[string]any{"kid": made[0].KID})
	g.expect("200", "/", o.generate("support").signed())
	seen := make(map[string]bool)
	for _, token := range o.ring("support").Tokens {
		if seen[token.KID] || seen[token.Fingerprint] {
			t.Errorf("two tokens share a kid or a fingerprint: %+v", token)
		}
		seen[token.KID], seen[token.Fingerprint] = true, true
	}
}
