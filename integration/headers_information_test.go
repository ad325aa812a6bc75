package integration

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// What a site says about a contact is as hostile as the contact can make it: a name is what the contact has typed. It arrives as
// one JSON object, with the values that were signed, or not at all; and never as another header, another contact or a refusal.
func TestContactInformation(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	messengers := strings.ReplaceAll(m.messengers, "identity_key identity", "identity_key identity\n contact_claims name email vip \"odd \\\"name\\{}\" list")
	g := start(t, up, "metrics\n"+messengers, `
		handle /raw {
			messenger_auth support {
				identity_encoding raw
			}
			reverse_proxy UPSTREAM
		}
		handle {
			messenger_auth support
			reverse_proxy UPSTREAM
		}
	`)
	send := func(path, members string) (values []string) {
		t.Helper()
		token := forge(m.key.(string), `{"alg":"HS256"}`, `{"identity":"mark"`+members+`}`)
		for range 2 { // verified, and from the cache
			if a := g.get(path, bearer(token), "X-Contact-Claims: {\"vip\":true}", "X!Contact!Claims: {}"); a.status != 200 {
				t.Fatalf("%.80s: got %d %s", members, a.status, a.body)
			}
			h := up.one(t).header
			if got := ownHeaders(h); got["x-contact-identity"] != "mark" || got["x-contact-messenger"] != "support" || len(got) > 3 {
				t.Errorf("%s: the upstream reads %v", members, got)
			}
			if again := h["X-Contact-Claims"]; values != nil && fmt.Sprint(again) != fmt.Sprint(values) {
				t.Errorf("%s: from the cache it is %q, before it was %q", members, again, values)
			}
			values = h["X-Contact-Claims"]
		}
		return values
	}
	for members, want := range map[string]string{
		``:                      "",
		`,"other":1,"Name":"x"`: "",
		`,"name":null`:          "",
		`,"vip":true,"email":"mark@example.com","name":"Mark"`:         `{"name":"Mark","email":"mark@example.com","vip":true}`,
		`,"vip":9007199254740993`:                                      `{"vip":9007199254740993}`,
		`,"vip":1.50,"name":-0`:                                        `{"name":-0,"vip":1.50}`,
		`,"vip":1e400`:                                                 `{"vip":1e400}`,
		`,"name":""`:                                                   `{"name":""}`,
		`,"name":"Zoë+张%7B"`:                                           `{"name":"Zoë+张%7B"}`,
		`,"name":"\u005a\ud83d\ude00\/"`:                               `{"name":"\u005a\ud83d\ude00\/"}`,
		`,"name":"\r\nX-Contact-Identity: eve\u0000"`:                  `{"name":"\r\nX-Contact-Identity: eve\u0000"}`,
		`,"name":"{env.HOME} {http.auth.user.id}"`:                     `{"name":"{env.HOME} {http.auth.user.id}"}`,
		`,"name":"\"},\"identity\":\"eve"`:                             `{"name":"\"},\"identity\":\"eve"}`,
		`,"list":[ 1 , {"b" : [ ] , "a" : null} ]`:                     `{"list":[1,{"b":[],"a":null}]}`,
		`,"odd \"name{}":1`:                                            `{"odd \"name{}":1}`,
		`,"na\u006de":1`:                                               `{"name":1}`,
		`,"list":` + strings.Repeat("[", 31) + strings.Repeat("]", 31): `{"list":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`,
	} {
		values := send("/", members)
		if want == "" {
			if values != nil {
				t.Errorf("%s: the header is %q, want none", members, values)
			}
			continue
		}
		if len(values) != 1 || strings.ContainsAny(values[0], "{}+\r\n\x00") || !isASCII(values[0]) {
			t.Errorf("%s arrives as %q", members, values)
			continue
		}
		if got, err := url.PathUnescape(values[0]); err != nil || got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s is read as %s, %v, want %s", members, got, err, want)
		}
		if got := send("/raw", members); strings.ContainsRune(want, '\x7f') == (len(got) == 1 && got[0] == want) {
			t.Errorf("%s arrives raw as %q, want %s", members, got, want)
		}
	}
	for _, members := range []string{`,"name":"a","name":"b"`, `,"name":{"a":1,"a":2}`, `,"name":"\ud800"`, `,"list":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)} {
		if a := g.get("/", bearer(forge(m.key.(string), `{"alg":"HS256"}`, `{"identity":"mark"`+members+`}`))); a.status != 401 {
			t.Errorf("%s: got %d, want 401", members, a.status)
		}
		up.none(t)
	}

	dropped := g.metric(`caddy_messenger_auth_claims_dropped_total{claim="contact_claims"}`)
	large := strings.Repeat("ë", 683) // 4098 bytes when encoded
	got := send("/", `,"name":"`+large+`","email":"mark@example.com","vip":"`+strings.Repeat("x", 4200)+`","list":[1]`)
	if text, err := url.PathUnescape(strings.Join(got, "|")); err != nil || text != `{"email":"mark@example.com","list":[1]}` {
		t.Errorf("without what is too large the header is %q, %v", text, err)
	}
	if n := g.metric(`caddy_messenger_auth_claims_dropped_total{claim="contact_claims"}`) - dropped; n != 4 {
		t.Errorf("%v dropped claims were counted, want 2 for each of 2 requests", n)
	}
	fits := strings.Repeat("x", 4<<10-len(`%7B"name":""%7D`))
	if got := send("/", `,"name":"`+fits+`","vip":1`); len(got) != 1 || len(got[0]) != 4<<10 {
		t.Errorf("an object of 4 KiB arrives as %d values", len(got))
	}
	if got := send("/raw", `,"name":"a`+"\x7f"+`","vip":1`); len(got) != 1 || got[0] != `{"vip":1}` {
		t.Errorf("beside a character that no header can carry arrives %q", got)
	}
}

func isASCII(text string) bool {
	for _, c := range []byte(text) {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// A backend's developer copies these lines. In every language they read what the site has signed.
func TestDocsSamplesReadContactInformation(t *testing.T) {
	if !alone(t) {
		return
	}
	information := map[string]any{"name": "Zoë + 张 100%", "email": "zoe@example.com"}
	text, err := json.Marshal(information)
	if err != nil {
		t.Fatal(err)
	}
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, strings.ReplaceAll(m.messengers, "identity_key identity", "identity_key identity\n contact_claims name email"), "messenger_auth support\nreverse_proxy UPSTREAM")
	if a := g.get("/", bearer(forge(m.key.(string), `{"alg":"HS256"}`, `{"identity":"mark",`+string(text[1:])))); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	value := up.one(t).header.Get("X-Contact-Claims")
	for language, program := range map[string][2]string{
		"node":   {"read.js", "const value = require('node:fs').readFileSync(0, 'utf8')\nconst request = { headers: { 'x-contact-claims': value } }\nSAMPLE\nconsole.log(contact.name + '|' + contact.email)"},
		"python": {"read.py", "import sys\nvalue = sys.stdin.buffer.read().decode()\nclass request: headers = {'X-Contact-Claims': value}\nSAMPLE\nsys.stdout.buffer.write((contact['name'] + '|' + contact['email']).encode())"},
		"php":    {"read.php", "<?php\n$_SERVER['HTTP_X_CONTACT_CLAIMS'] = stream_get_contents(STDIN);\nSAMPLE\necho $contact['name'], '|', $contact['email'];"},
		"go":     {"read.go", "package main\nimport (\n\"encoding/json\"\n\"fmt\"\n\"io\"\n\"net/http\"\n\"net/url\"\n\"os\"\n)\nfunc main() {\nvalue, _ := io.ReadAll(os.Stdin)\nr := &http.Request{Header: http.Header{\"X-Contact-Claims\": {string(value)}}}\nif err := read(r); err != nil { panic(err) }\n}\nfunc read(r *http.Request) error {\nSAMPLE\nfmt.Print(contact.Name + \"|\" + contact.Email)\nreturn nil\n}\n"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, program[0])
			writeSample(t, file, strings.Replace(program[1], "SAMPLE", sample(t, language+" claims"), 1))
			cmd, err := interpreter(dir, language, file)
			if err != nil {
				lacks(t, language, err)
			}
			cmd.Stdin = strings.NewReader(value)
			if out, err := command(dir, cmd); err != nil || strings.TrimSpace(out) != "Zoë + 张 100%|zoe@example.com" {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
}
