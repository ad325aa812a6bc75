package integration

import (
	"maps"
	"testing"
)

// Two routes lead to one backend, which believes all headers that the gateway sets on either. What one route says of a contact,
// a contact of the other cannot say of themselves.
func TestHeadersSetByOtherRoutesAreRemoved(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := newGateway(t, up, "http://")
	g.unlogged = true // Caddy would log the token of /token/
	g.load(m.messengers, `
		handle /named/* {
			messenger_auth support {
				claim_header name X-Contact-Name
				claim_header role X-Contact-Role
			}
			reverse_proxy UPSTREAM
		}
		handle /old/* {
			messenger_auth support {
				identity_header X-Old-User
				messenger_header X-Old-Chat
			}
			reverse_proxy UPSTREAM
		}
		handle /token/* {
			messenger_auth support {
				token_from header X-Old-User
			}
			reverse_proxy UPSTREAM
		}
		handle /scheme/* {
			messenger_auth support {
				token_from header X-Old-User Bearer
				token_from header Authorization Bearer
				forward_token
			}
			reverse_proxy UPSTREAM
		}
		handle /off/* {
			messenger_auth support {
				mode off
				token_from header X-Old-User
			}
			reverse_proxy UPSTREAM
		}
		handle /report/* {
			messenger_auth support {
				mode report
				token_from header X-Old-User
				forward_token
			}
			reverse_proxy UPSTREAM
		}
		handle /some/* {
			@api path /some/api/*
			messenger_auth @api support {
				token_from header X-Old-User
			}
			reverse_proxy UPSTREAM
		}
		handle /open/* {
			messenger_auth support {
				mode optional
			}
			reverse_proxy UPSTREAM
		}
		handle /plain/* {
			reverse_proxy UPSTREAM
		}
	`)
	who := valid("mark")
	who["name"] = "Mark"
	token := bearer(sign(m.key, who))
	forged := []string{"X-Contact-Name: admin", "x-contact!role: admin", "X-Old!User: eve", "X-Contact-Identity: eve"}
	contact := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support"}
	for _, test := range []struct {
		path    string
		headers []string
		want    map[string]string
	}{
		{"/named/a", []string{token, "X-Old-User: eve"}, map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support", "x-contact-name": "Mark"}},
		{"/old/a", []string{token, "X-Old-User: eve"}, map[string]string{"x-old-user": "mark", "x-old-chat": "support"}},
		{"/token/a", []string{"X-Old-User: " + sign(m.key, who)}, contact},
		{"/scheme/a", []string{token, "X-Old-User: eve"}, contact},
		{"/scheme/a", []string{"X-Old-User: Bearer " + sign(m.key, who)}, contact},
		{"/off/a", []string{"X-Old-User: eve"}, map[string]string{}},
		{"/report/a", []string{"X-Old-User: eve"}, map[string]string{}},
		{"/report/a", []string{"X-Old-User: " + sign(m.key, who)}, contact},
		{"/some/a", []string{"X-Old-User: eve"}, map[string]string{}},
		{"/some/api/a", []string{"X-Old-User: " + sign(m.key, who)}, contact},
		{"/open/a", []string{token, "X-Old-User: eve"}, contact},
		{"/open/a", []string{"X-Old-User: eve"}, map[string]string{}},
	} {
		a := g.get(test.path, append(forged, test.headers...)...)
		r := up.one(t)
		got := map[string]string{}
		for name, values := range r.header {
			folded := foldedName(name)
			switch folded {
			case "x-contact-identity", "x-contact-messenger", "x-contact-name", "x-contact-role", "x-old-user", "x-old-chat":
				got[folded] += values[0]
			}
		}
		if a.status != 200 || !maps.Equal(got, test.want) {
			t.Errorf("%s: got %d, and the backend saw %v, want %v", test.path, a.status, got, test.want)
		}
	}
	if g.get("/plain/a", "X-Old-User: anything"); up.one(t).header.Get("X-Old-User") == "" {
		t.Error("where no messenger_auth stands, a header was removed")
	}
}
