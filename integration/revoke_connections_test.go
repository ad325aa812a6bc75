package integration

import (
	"net/http"
	"net/url"
	"testing"
)

const echoSite = "messenger_auth {path.0} {\n logout_path /support/logout\n}\nreverse_proxy UPSTREAM {\n stream_close_delay 5m\n}"

// openEcho opens a WebSocket with a token.
func (g *gateway) openEcho(name, token string) *socket {
	g.t.Helper()
	s, status := protocols[0].open(g, "/"+name+"/echo", bearer(token))
	if status != http.StatusSwitchingProtocols {
		g.t.Fatalf("the handshake was answered with %d", status)
	}
	return s
}

// lives checks that messages still pass through the socket.
func (s *socket) lives(t *testing.T, whose string) {
	t.Helper()
	s.send(1, "hello")
	if f := s.next(); string(f.payload) != "hello" {
		t.Errorf("the connection of %s: got %q %s", whose, f.payload, f.closing())
	}
}

// A revocation closes the connections that were opened with the revoked tokens, and no others: by jti, by contact, by messenger, and
// when the contact logs out.
func TestRevocationClosesExactlyItsConnections(t *testing.T) {
	secret := newSecret()
	key := write(t, "secret", []byte(secret))
	global := "messenger support {\n identity_key identity\n shared_token {file." + key + "}\n}\n" +
		"messenger sales {\n identity_key identity\n audience sales\n shared_token {file." + key + "}\n}"
	token := func(identity, jti string) string {
		return sign(secret, with(valid(identity), claims{"jti": jti, "aud": "sales"}))
	}
	for name, test := range map[string]struct {
		revoke func(g *gateway)
		ended  []string
	}{
		"one token": {func(g *gateway) { g.operator().want(200, "POST", revocationsPath, `{"jti": "a"}`) }, []string{"mark, a"}},
		"a contact": {func(g *gateway) {
			g.operator().want(200, "POST", revocationsPath, `{"identity": "mark", "issued_before": "2100-01-01T00:00:00Z"}`)
		}, []string{"mark, a", "mark, b"}},
		"the messenger": {func(g *gateway) {
			g.operator().want(200, "POST", revocationsPath, `{"all": true, "issued_before": "2100-01-01T00:00:00Z"}`)
		}, []string{"mark, a", "mark, b", "zoe"}},
		"a logout": {func(g *gateway) {
			if a := g.do("POST", "/support/logout", bearer(token("mark", "b"))); a.status != 204 {
				t.Errorf("the logout: got %d %s", a.status, a.body)
			}
		}, []string{"mark, b"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, newChat(t).upstream, global, echoSite)
			sockets := map[string]*socket{
				"mark, a":       g.openEcho("support", token("mark", "a")),
				"mark, b":       g.openEcho("support", token("mark", "b")),
				"zoe":           g.openEcho("support", token("zoe", "c")),
				"mark of sales": g.openEcho("sales", token("mark", "a")),
			}
			test.revoke(g)
			for _, whose := range test.ended {
				if got := sockets[whose].ended(); got != "4403 token_revoked" {
					t.Errorf("%s was told %q", whose, got)
				}
				delete(sockets, whose)
			}
			for whose, s := range sockets {
				s.lives(t, whose)
			}
		})
	}
}

// Revoking a shared token does not end chats by itself. For a stolen secret, close_connections ends the chats that were opened with
// it. Deleting a messenger ends all of its chats.
func TestConnectionsOfAStolenTokenAndOfADeletedMessengerAreClosed(t *testing.T) {
	g := start(t, newChat(t).upstream, "", echoSite)
	o := g.operator()
	o.put("support", generated)
	first := o.generate("support")
	old := g.openEcho("support", first.signed())
	second := o.makeToken("rotate", "support", map[string]any{"overlap": "0s"})
	old.lives(t, "the token that was rotated out")
	current := g.openEcho("support", second.signed())
	third := o.generate("support")
	kept := g.openEcho("support", third.signed())
	o.want(200, "POST", "messengers/support/tokens/revoke", map[string]any{"kid": second.KID, "close_connections": true})
	for whose, s := range map[string]*socket{"the token before": old, "the revoked token": current} {
		if got := s.ended(); got != "4403 token_revoked" {
			t.Errorf("%s: told %q", whose, got)
		}
	}
	kept.lives(t, "another token")
	o.want(200, "DELETE", "messengers/support", nil)
	if got := kept.ended(); got != "4403 token_revoked" {
		t.Errorf("of a deleted messenger: told %q", got)
	}
	o.refused(400, "POST", "messengers/support/tokens/rotate", map[string]any{"close_connections": true})
}

// Two nodes share a storage. What is revoked on the one is refused on the other within its poll interval, and closed there
// within a second more.
func TestRevocationReachesOtherNodes(t *testing.T) {
	if !alone(t) {
		return
	}
	binary := caddyBinary(t)
	up := newChat(t)
	secret := newSecret()
	shared := t.TempDir()
	global := "storage file_system " + shared + "\nmessenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\nmessenger {\n poll_interval 200ms\n}"
	a, b := newNode(t, binary, up.upstream, global, echoSite), newNode(t, binary, up.upstream, global, echoSite)
	a.run()
	b.run()
	token, other := sign(secret, with(valid("mark"), claims{"jti": "a"})), sign(secret, valid("zoe"))
	gone, stays := b.openEcho("support", token), b.openEcho("support", other)
	a.operator.want(200, "POST", revocationsPath, `{"jti": "a"}`)
	if got := gone.ended(); got != "4403 token_revoked" {
		t.Errorf("on the other node: told %q", got)
	}
	accepted := func() bool { // of a new connection
		_, status := protocols[0].open(b.gateway, "/support/echo", bearer(token))
		return status == http.StatusSwitchingProtocols
	}
	if accepted() {
		t.Error("the other node accepts the token")
	}
	stays.lives(t, "zoe")
	a.operator.want(200, "DELETE", revocationsPath, `{"jti": "a"}`)
	eventually(t, "the revocation is undone on the other node as well", accepted)
	// A node that was stopped knows of the revocation after its start.
	b.kill()
	a.operator.want(200, "POST", revocationsPath, `{"jti": "a"}`)
	b.run()
	if accepted() {
		t.Error("after a restart the other node accepts the token")
	}
}

// A site owner whose shared token leaked ends the chats that were opened with it from the control panel.
func TestPanelClosesConnectionsOfAResetToken(t *testing.T) {
	g := startPanel(t, newChat(t).upstream, "")
	u := g.panelOperator()
	token := u.create("acme")
	chat := g.openEcho("acme", sign(token, valid("mark")))
	reset := func(fields url.Values) {
		fields.Set("action", "reset")
		fields.Set("confirm", "yes")
		fields.Set("revision", u.get("?page=keys&messenger=acme").revision(t))
		token = u.post("?page=keys&messenger=acme", fields).secret(t)
	}
	reset(url.Values{})
	chat.lives(t, "a token that was reset")
	reset(url.Values{"close": {"yes"}})
	if got := chat.ended(); got != "4403 token_revoked" {
		t.Errorf("told %q", got)
	}
}
