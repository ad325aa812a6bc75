package integration

import (
	"maps"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// The owner of one messenger tries to see and to change the revocations, connections and history of another: on a mount that takes
// its messenger from the user, and on one that takes it from the host, with the other's name in every place in which a name, a
// contact, a token or a key of a list can be written.
func TestScopeAppliesToRevocationsConnectionsAndHistory(t *testing.T) {
	_, port, _ := net.SplitHostPort(freeAddr(t))
	g := start(t, newChat(t).upstream, "", strings.ReplaceAll(`
	handle_path /panel* {
		basic_auth bcrypt {
			operator HASH
		}
		messenger_panel
	}
	handle /own/* {
		basic_auth bcrypt {
			acme HASH
			other HASH
		}
		messenger_panel {http.auth.user.id}
	}
	handle {
		messenger_auth {path.0} {
			token_from header Authorization Bearer
		}
		reverse_proxy UPSTREAM
	}
}
http://:`+port+` {
	basic_auth bcrypt {
		acme HASH
		other HASH
	}
	messenger_panel {labels.1}`, "HASH", panelHash))
	byHost := &gateway{t: t, url: "http://127.0.0.1:" + port} // every name leads there
	operator := g.panelOperator()
	operator.create("acme")
	secret := operator.create("other")
	token := func(identity, jti string) string { return sign(secret, with(valid(identity), claims{"jti": jti})) }
	s := g.openEcho("other", token("mark", "a"))
	operator.revoke("other", url.Values{"what": {"contact"}, "contact": {"zoe"}}, "0 of 1 open")
	undo := regexp.MustCompile(`name="key" value="([^"]+)"`).FindStringSubmatch(operator.get("?messenger=other&page=revocations").body)[1]
	history := operator.get("?messenger=other&page=history").text()
	foreign := operator.post("?messenger=other&page=revocations", url.Values{"what": {"all"}, "action": {"look"}}).revision(t)

	mounts := map[string]panelUser{"by the user": {g, "/own/", "acme"}, "by the host": {byHost, "/", "acme"}}
	hosts := map[string][]string{"by the host": {"Host: acme.localhost"}}
	for mount, owner := range mounts {
		headers := hosts[mount]
		owner.get("", headers...).says(t, 200, "acme")
		for _, page := range []string{"revocations", "history"} {
			owner.get("?messenger=acme&page="+page, headers...).says(t, 200)
			for _, query := range []string{
				"?messenger=other&page=" + page, "?page=" + page + "&messenger=other&messenger=acme", "?messenger=OTHER&page=" + page,
				"?messenger=acme%2f..%2fother&page=" + page, "?messenger=other%00&page=" + page, "?messenger=+other&page=" + page, "?page=" + page,
			} {
				owner.get(query, headers...).says(t, 404, "This page does not exist, or you have no access to it.")
			}
		}
		// A name beside the one that counts is not read.
		for _, query := range []string{"?messenger=acme&messenger=other", "?messenger=acme&name=other", "?messenger=acme&actor=other&by=other"} {
			if a := owner.get(query+"&page=history", headers...); strings.Contains(a.text(), "Tokens of contacts revoked") {
				t.Errorf("%s, %s shows another history: %s", mount, query, a.text())
			}
			owner.get(query+"&page=revocations", headers...).says(t, 200, "No connection of this messenger is open", "No token is revoked.")
		}
	}
	for mount, owner := range mounts {
		headers := hosts[mount]
		targets := []url.Values{
			{"what": {"all"}}, {"what": {"contact"}, "contact": {"mark"}}, {"what": {"token"}, "token": {"a"}}, {"what": {"token"}, "token": {token("mark", "a")}},
			{"what": {"hash"}, "hash": {strings.Repeat("0", 64)}},
		}
		for _, form := range targets {
			for _, action := range []string{"look", "revoke", "close", "undo"} {
				form.Set("action", action)
				form.Set("messenger", "other")
				form.Set("name", "other")
				form.Set("confirm", "yes")
				form.Set("key", undo)
				form.Set("revision", foreign)
				for _, query := range []string{"?messenger=other&page=revocations", "?page=revocations&messenger=other&messenger=acme", "?page=revocations"} {
					owner.post(query, form, headers...).says(t, 404)
				}
				// At the own messenger the same form reaches no connection, token or revocation of the other.
				if !strings.HasPrefix(form.Get("token"), "eyJ") {
					asked := maps.Clone(form)
					asked.Set("action", "look")
					form.Set("revision", owner.post("?messenger=acme&page=revocations", asked, headers...).revision(t))
				}
				a := owner.post("?messenger=acme&page=revocations&messenger=other", form, headers...)
				switch {
				case action == "undo":
					a.says(t, 409, "was undone already, or it has expired")
				case strings.HasPrefix(form.Get("token"), "eyJ"):
					a.says(t, 422, "This token is refused already")
				case action == "look":
					a.says(t, 200, "0 of 0 open on this gateway")
				case a.status != 303 || !strings.Contains(a.header.Get("Location"), "ended=0&messenger=acme"):
					t.Errorf("%s, %v: %d %v", mount, form, a.status, a.header)
				}
			}
		}
		for _, page := range []string{"keys", "enforce", "delete", ""} {
			owner.post("?messenger=other&page="+page, url.Values{"action": {"reset"}, "confirm": {"yes"}, "typed": {"other"}, "messenger": {"acme"},
				"revision": {operator.get("?messenger=other").revision(t)}}, headers...).says(t, 404)
		}
	}
	// The user acme under the host of another is what the mount says: the host names the messenger, and the operator has decided who
	// may log in there. Under a host without that label there is none.
	panelUser{byHost, "/", "acme"}.get("?messenger=acme", "Host: other.localhost").says(t, 404)
	for _, host := range []string{"localhost", "127.0.0.1", "ACME..localhost", "%61cme.localhost"} {
		if a := (panelUser{byHost, "/", "acme"}).get("?messenger=other&page=history", "Host: "+host); a.status < 400 {
			t.Errorf("under the host %q: %d %s", host, a.status, a.text())
		}
	}
	s.lives(t, "of the other messenger")
	for _, identity := range []string{"mark", "zoe"} {
		g.wantRevoked(t, token(identity, "n"), identity == "zoe")
	}
	if now := operator.get("?messenger=other&page=history").text(); now != history && strings.Count(now, "Tokens of contacts revoked") != strings.Count(history, "Tokens of contacts revoked") {
		t.Errorf("the history has changed: %s", now)
	}
	// What the owner did is in the own history, and names the owner.
	panelUser{g, "/own/", "acme"}.get("?messenger=acme&page=history").says(t, 200, "Tokens of contacts revoked", "by panel, acme")
}
