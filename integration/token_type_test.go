package integration

import (
	"strings"
	"testing"
)

// One login server signs ID tokens, access tokens of other applications and logout tokens with the same key. A messenger that names
// the type of its tokens accepts none of the others, whatever they say beside it (RFC 8725 section 3.11, RFC 9068).
func TestTokenTypeIsPinned(t *testing.T) {
	secret := newSecret()
	t.Setenv("CHAT_TYPE", "chat+jwt")
	messengers := ""
	for name, option := range map[string]string{"any": "", "access": "token_type at+jwt", "plain": "token_type application/JWT", "own": "token_type {env.CHAT_TYPE}"} {
		messengers += "messenger " + name + " {\n identity_key identity\n shared_token {file." + write(t, name, []byte(secret)) + "}\n audience " + name + "\n " + option + "\n}\n"
	}
	up := newUpstream(t)
	g := start(t, up, messengers, "messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	for header, accepting := range map[string]string{
		`{"alg":"HS256"}`:                                     "any",
		`{"alg":"HS256","typ":"JWT"}`:                         "any plain",
		`{"alg":"HS256","typ":"application/jwt"}`:             "any plain",
		`{"typ":"AT+JWT","alg":"HS256"}`:                      "any access",
		`{"alg":"HS256","typ":"Application/at+jwt"}`:          "any access",
		`{"alg":"HS256","typ":"a\u0074+jwt"}`:                 "any access",
		`{"alg":"HS256","typ":"JOSE"}`:                        "any",
		`{"alg":"HS256","typ":"chat+jwt"}`:                    "own",
		`{"alg":"HS256","typ":"application/CHAT+JWT"}`:        "own",
		`{"alg":"HS256","typ":"logout+jwt"}`:                  "",
		`{"alg":"HS256","typ":"at+jwt;charset=utf-8"}`:        "",
		`{"alg":"HS256","typ":"text/at+jwt"}`:                 "",
		`{"alg":"HS256","typ":" at+jwt"}`:                     "",
		`{"alg":"HS256","typ":""}`:                            "",
		`{"alg":"HS256","typ":["at+jwt"]}`:                    "",
		`{"alg":"HS256","typ":null}`:                          "",
		`{"alg":"HS256","Typ":"at+jwt"}`:                      "any",
		`{"alg":"HS256","typ":"at+jwt","typ":"at+jwt"}`:       "",
		`{"alg":"HS256","typ":"application/application/jwt"}`: "",
	} {
		for _, name := range []string{"any", "access", "plain", "own"} {
			token := forge(secret, header, mustJSON(claims{"identity": "mark", "aud": name}))
			search.secret(token)
			a := g.get("/"+name+"/", bearer(token))
			switch want := strings.Contains(accepting, name); {
			case want && a.status != 200:
				t.Errorf("%s at %s: got %d %s", header, name, a.status, a.body)
			case !want && (a.status != 401 || a.code(t) != "token_malformed"):
				t.Errorf("%s at %s: got %d %s, want token_malformed", header, name, a.status, a.body)
			}
		}
	}
	for header, cause := range map[string]string{
		`{"alg":"HS256"}`: "does not have a typ, and the messenger has a token_type: it is \"at+jwt\"", `{"alg":"HS256","typ":"jwt"}`: "not the messenger's token_type",
	} {
		e := g.explain("access", forge(secret, header, `{"identity":"mark","aud":"access"}`))
		if e.Code != "token_malformed" || len(e.Findings) != 1 || !strings.Contains(e.Findings[0].Cause, cause) || e.Findings[0].Fix == "" {
			t.Errorf("%s: got %+v", header, e)
		}
	}
}

// A page offers the marker in another case. Its author pastes what the page sends into explain.
func TestExplainNamesAMarkerInAnotherCase(t *testing.T) {
	secret := newSecret()
	g := start(t, newUpstream(t), "messenger support {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}",
		"messenger_auth support {\n token_from websocket_protocol chat.token\n token_from websocket_protocol prefix base64url.bearer.phx. base64url\n token_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM")
	token := sign(secret, valid("mark"))
	for text, cause := range map[string]string{
		"Chat.Token, " + token:                                  "in another case",
		"Sec-WebSocket-Protocol: chat.v1, CHAT.TOKEN, " + token: "in another case",
		"BASE64URL.bearer.phx." + b64(token):                    "in another case",
		"Sec-WebSocket-Protocol: chat.token, " + token:          "begins with a header's name or a scheme",
		"JWT " + token:                   "a scheme that token_from does not name",
		"Authorization: " + token:        "a token without a scheme",
		"Authorization: Bearer:" + token: "followed by a colon",
	} {
		e := g.explain("support", text)
		if e.Code != "token_malformed" || len(e.Findings) == 0 || !strings.Contains(e.Findings[0].Cause, cause) || e.Findings[0].Fix == "" {
			t.Errorf("%.30s: got %+v, want %s", text, e, cause)
		}
	}
}
