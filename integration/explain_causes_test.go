package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a request has done wrong is in the log, with the fix, and not in the answer. Each route has a sampler of its own, so that
// none of the lines is left out.
func TestLogNamesTheCause(t *testing.T) {
	secret, up := newSecret(), newUpstream(t)
	file := write(t, "secret", []byte(secret))
	quoted := write(t, "quoted", []byte(`"`+secret+`"`))
	token := sign(secret, valid("mark"))
	requests := []struct {
		cause, messenger, mode, header string
		code                           string // of the answer; "" passes
	}{
		{"scheme_other", "support", "required", "Authorization: JWT " + token, "token_missing"},
		{"scheme_missing", "support", "required", "Authorization: " + token, "token_missing"},
		{"scheme_basic", "support", "required", "Authorization: Basic bWFyazptYXJr", "token_missing"},
		{"scheme_other", "support", "optional", "Authorization: Token " + token, ""},
		{"scheme_alone", "support", "optional", "Authorization: Bearer", ""},
		{"word_for_nothing", "support", "required", "Authorization: Bearer undefined", "token_malformed"},
		{"scheme_colon", "support", "required", "Authorization: Bearer:" + token, "token_malformed"},
		{"scheme_twice", "support", "required", bearer("Bearer " + token), "token_malformed"},
		{"text_quoted", "support", "report", bearer(`"` + token + `"`), ""},
		{"secret_without_quotes", "quoted", "required", bearer(token), "signature_invalid"},
		{"identity_fraction", "support", "required", bearer(sign(secret, claims{"identity": json.RawMessage("42.0")})), "identity_invalid"},
		{"identity_boolean", "support", "required", bearer(sign(secret, claims{"identity": true})), "identity_invalid"},
		{"identity_array", "support", "required", bearer(sign(secret, claims{"identity": []string{"mark"}})), "identity_invalid"},
		{"time_passed", "support", "required", bearer(sign(secret, claims{"identity": "mark", "exp": 1})), "token_expired"},
		{"time_milliseconds", "support", "required", bearer(sign(secret, claims{"identity": "mark", "exp": time.Now().UnixMilli()})), "claim_invalid"},
		{"type_missing", "typed", "required", bearer(forge(secret, `{"alg":"HS256"}`, `{"identity":"mark"}`)), "token_malformed"},
		{"type_other", "typed", "report", bearer(token), ""},
		{"kind_other", "support", "required", bearer(forge(secret, `{"alg":"HS256","typ":"logout+jwt"}`, `{"identity":"mark"}`)), "token_malformed"},
		{"alg_other", "support", "required", bearer(sign(rsaKey(0), valid("mark"))), "algorithm_not_allowed"},
	}
	site := ""
	for i, r := range requests {
		site += fmt.Sprintf("handle /%d/* {\n messenger_auth %s {\n mode %s\n }\n reverse_proxy UPSTREAM\n}\n", i, r.messenger, r.mode)
	}
	site += "handle /stripped/* {\n route {\n uri strip_prefix /stripped\n messenger_auth {path.0}\n reverse_proxy UPSTREAM\n }\n}\n"
	g := start(t, up, `messenger support {
	identity_key identity
	shared_token {file.`+file+`}
}
messenger typed {
	identity_key identity
	shared_token {file.`+file+`}
	token_type at+jwt
}
messenger quoted {
	identity_key identity
	shared_token {file.`+quoted+`}
}`, site)
	for i, r := range requests {
		a := g.get(fmt.Sprintf("/%d/", i), r.header)
		if r.code == "" && a.status != 200 || r.code != "" && a.code(t) != r.code {
			t.Errorf("%s: got %d %s, want %q", r.cause, a.status, a.body, r.code)
		}
		if strings.Contains(a.body, r.cause) {
			t.Errorf("the answer names the cause: %s", a.body)
		}
		named := func(l line) bool { return strings.Contains(l.text, `"cause":"`+r.cause+`"`) }
		eventually(t, r.cause+" is in the log", func() bool { return slices.ContainsFunc(g.lines(ours), named) })
	}
	for _, l := range g.lines(ours) {
		if strings.Contains(l.text, `"cause":`) && (l.Reason == "" || l.Advice == "" || l.Level != "info") {
			t.Errorf("a line without what an operator needs: %s", l.text)
		}
	}
	g.get("/stripped/other/", bearer(token))
	g.waitForLog(`"looked_for":"other"`)
	g.waitForLog(`"cause":"path_prefix_gone"`)
}

// Secrets that are probably not meant as they are get a warning at every load, without a word of them.
func TestSuspiciousSecretsAreWarnedAbout(t *testing.T) {
	secret := newSecret()
	hexed := strings.Repeat("0123456789abcdef", 4)
	search.secret(hexed)
	messengers := ""
	for name, text := range map[string]string{"quoted": "'" + secret + "'", "broken": secret[:20] + "\n" + secret[20:], "plain": secret, "stated": secret, "hexed": hexed} {
		encoding := map[string]string{"stated": "raw"}[name]
		messengers += "messenger " + name + " {\n identity_key identity\n require_claims exp\n audience " + name + "\n shared_token {file." + write(t, name, []byte(text)) + "} " + encoding + "\n}\n"
	}
	g := start(t, nil, messengers, "messenger_auth plain\nrespond ok")
	g.waitForLog("the secret has quotes around it")
	g.waitForLog("the secret has a line break in it")
	g.waitForLog("the secret looks like base64")
	g.waitForLog("the secret looks like hexadecimal")
	if warned := g.lines(func(l line) bool {
		return strings.HasPrefix(l.Msg, "the secret ") && strings.Contains(l.text, "stated")
	}); len(warned) > 0 {
		t.Errorf("an encoding that is stated is warned about: %s", warned[0].text)
	}
}
