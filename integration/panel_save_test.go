package integration

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// browserForm returns the fields of the form with the settings, as a browser that changes nothing sends them.
func (a answer) browserForm(t testing.TB) url.Values {
	t.Helper()
	root, err := html.Parse(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	fields := url.Values{}
	var walk func(n *html.Node, inside bool)
	walk = func(n *html.Node, inside bool) {
		attr := map[string]string{}
		for _, at := range n.Attr {
			attr[at.Key] = at.Val
		}
		_, checked := attr["checked"]
		switch {
		case n.Data == "form":
			inside = strings.Contains(attr["class"], "settings")
		case !inside || attr["name"] == "":
		case n.Data == "input" && (attr["type"] == "radio" || attr["type"] == "checkbox"):
			if checked {
				fields.Add(attr["name"], attr["value"])
			}
		case n.Data == "input":
			fields.Add(attr["name"], attr["value"])
		case n.Data == "textarea":
			text := ""
			for c := n.FirstChild; c != nil; c = c.NextSibling {
				text += c.Data
			}
			fields.Add(attr["name"], strings.ReplaceAll(text, "\n", "\r\n"))
		case n.Data == "select":
			for c := range n.Descendants() {
				for _, at := range c.Attr {
					if at.Key == "selected" {
						for _, value := range c.Attr {
							if value.Key == "value" {
								fields.Add(attr["name"], value.Val)
							}
						}
					}
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, inside)
		}
	}
	walk(root, false)
	if fields.Get("revision") == "" {
		t.Fatalf("status %d: the page has no form with settings: %s", a.status, a.text())
	}
	return fields
}

// storedSettings are the settings of a messenger as the admin API tells them.
func (g *gateway) storedSettings(name string) map[string]any {
	g.t.Helper()
	var d struct{ Settings map[string]any }
	if err := json.Unmarshal([]byte(g.operator().want(200, http.MethodGet, "messengers/"+name, nil).body), &d); err != nil {
		g.t.Fatal(err)
	}
	return d.Settings
}

// save sends the form of the settings after change, and confirms what is asked.
func (u panelUser) save(name string, change func(url.Values)) {
	u.g.t.Helper()
	form := u.get("?messenger=" + name).browserForm(u.g.t)
	change(form)
	if a := u.confirmed(name, form); a.status != 303 {
		u.g.t.Fatalf("saving %s: %d %s", name, a.status, a.text())
	}
}

// everySetting returns a messenger of each method with a value for every setting that the method can have, which are not
// the defaults, and with texts that a form cannot show as they are.
func everySetting() map[string]map[string]any {
	every := map[string]map[string]any{
		"tokens": {"shared_token": map[string]any{}},
		"keys": {"public_key": []any{
			map[string]any{"key": "\r\n" + strings.ReplaceAll(string(publicPEM(rsaKey(0))), "\n", "\r\n"), "kid": "one"}, map[string]any{"key": string(publicPEM(rsaKey(1))), "kid": " two "}}},
		"set": {"jwks": map[string]any{"url": "https://login.example.com/keys", "refresh_interval": 120e9, "stale_if_error": 0, "timeout": 3e9}},
	}
	for _, settings := range every {
		maps.Copy(settings, map[string]any{
			"identity_key": "sub", "issuer": []any{"https://a.example/", " spaces ", "hidden\u202e", "line\nbreak"}, "audience": []any{"chat", "tab\there"},
			"require_claims": []any{"exp", "jti"}, "clock_skew": 0, "max_lifetime": 5400e9 + 1, "allowed_origin": []any{"https://www.example.com"},
			"max_session": 7200e9, "mode": "optional", "fail_limit": map[string]any{"attempts": 7, "window": 61e9},
		})
	}
	return every
}

// A save of a stored messenger's settings erased max_session and fail_limit, with nothing changed.
func TestSavingChangesOnlyEditedSettings(t *testing.T) {
	if !alone(t) {
		return
	}
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	for name, settings := range everySetting() {
		t.Run(name, func(t *testing.T) {
			g.operator().want(201, http.MethodPut, "messengers/"+name, settings)
			before := g.storedSettings(name)
			if len(before) != 11 {
				t.Fatalf("the messenger has %d settings, want 11: %v", len(before), before)
			}
			u.save(name, func(url.Values) {})
			if after := g.storedSettings(name); !reflect.DeepEqual(after, before) {
				t.Errorf("a save without a change\ngot  %v\nwant %v", after, before)
			}
			for field, change := range map[string]struct{ typed, setting, json string }{
				"identity_key":     {"customer", "identity_key", `"customer"`},
				"audience":         {"other\r\nchat", "audience", `["other","chat"]`},
				"issuer":           {"hidden\\u202e\r\nline\\u000abreak\r\nspaces", "issuer", `["hidden\u202e","line\nbreak"," spaces "]`},
				"require_claims":   {"", "require_claims", `null`},
				"allowed_origin":   {"", "allowed_origin", `null`},
				"clock_skew":       {"", "clock_skew", `null`},
				"max_lifetime":     {"1h", "max_lifetime", `3600000000000`},
				"mode":             {"required", "mode", `null`},
				"max_session":      {"0", "max_session", `0`},
				"fail_limit":       {"", "fail_limit", `null`},
				"refresh_interval": {"5m", "jwks", `{"url":"https://login.example.com/keys","refresh_interval":300000000000,"stale_if_error":0,"timeout":3000000000}`},
				"timeout":          {"", "jwks", `{"url":"https://login.example.com/keys","refresh_interval":120000000000,"stale_if_error":0}`},
				"url":              {"https://login.example.com/v2", "jwks", `{"url":"https://login.example.com/v2","refresh_interval":120000000000,"stale_if_error":0,"timeout":3000000000}`},
			} {
				if change.setting == "jwks" && name != "set" {
					continue
				}
				g.operator().put(name, settings)
				u.save(name, func(form url.Values) { form.Set(field, change.typed) })
				var value any
				if err := json.Unmarshal([]byte(change.json), &value); err != nil {
					t.Fatal(err)
				}
				want := make(map[string]any)
				for setting, stored := range before {
					want[setting] = stored
				}
				if want[change.setting] = value; value == nil {
					delete(want, change.setting)
				}
				if after := g.storedSettings(name); !reflect.DeepEqual(after, want) {
					t.Errorf("a change of %s\ngot  %v\nwant %v", field, after, want)
				}
			}
		})
	}
}

// The method is another, and everything that every method has stays.
func TestMethodChangeKeepsOtherSettings(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	g.operator().want(201, http.MethodPut, "messengers/tokens", everySetting()["tokens"])
	want := g.storedSettings("tokens")
	delete(want, "shared_token")
	for _, change := range []url.Values{
		{"method": {"public_key"}, "key": {string(publicPEM(rsaKey(0)))}, "kid": {"k"}},
		{"method": {"jwks"}, "url": {"https://login.example.com/keys"}},
		{"method": {"shared_token"}},
	} {
		u.save("tokens", func(form url.Values) {
			for field, values := range change {
				form[field] = values
			}
		})
		got := g.storedSettings("tokens")
		delete(got, "public_key")
		delete(got, "jwks")
		delete(got, "shared_token")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %v\ngot  %v\nwant %v", change, got, want)
		}
	}
}

// A newer version has written a setting that this one does not know. Saving would lose it, and is refused.
func TestUnknownSettingPreventsSaving(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string // in the settings, as a newer node saves them
		more     string // facts
	}{
		"a setting":                 {`"identity_key":"identity"`, `"identity_key":"identity","future":{"a":[1]}`, ""},
		"a member of a nested part": {`"shared_token":{}`, `"shared_token":{"future":1}`, ""},
		"a kind of fact":            {`"identity_key":"identity"`, `"identity_key":"customer"`, `,{"id":"newerfact","kind":"newer","at":"2026-01-01T00:00:00Z"}`},
	} {
		t.Run(name, func(t *testing.T) {
			g := startPanel(t, nil, "")
			u := g.panelOperator()
			if a := u.post("?page=new", fields("name", "acme")); a.status != 303 {
				t.Fatal(a.text())
			}
			form := u.get("?messenger=acme").browserForm(t)
			storage := filepath.Join(filepath.Dir(g.log), "storage")
			file, text := factFile(t, storage, "acme", `"settings":{`)
			var batch struct{ Facts []map[string]any }
			decode(t, text, &batch)
			made := batch.Facts[0]
			newer := maps.Clone(made)
			newer["id"], newer["parent"], newer["number"] = "newersettings", made["id"], 2
			changed := strings.Replace(mustJSON(newer), test.old, test.new, 1)
			if changed == mustJSON(newer) {
				t.Fatalf("the settings have no %s: %s", test.old, text)
			}
			changed = `{"format":1,"facts":[` + changed + `,{"id":"newerconfirmed","kind":"settings_confirmed","at":"2026-01-01T00:00:00Z","of":["newersettings"]}` + test.more + `]}`
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "newernodeswriter-1"), []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			before := files(t, storage)
			said := g.operator().refused(503, http.MethodPut, "messengers/acme", map[string]any{"identity_key": "x", "shared_token": map[string]any{}}, "If-Match: *")
			if !strings.Contains(said, "newer version") {
				t.Errorf("the API says %s", said)
			}
			if a := u.post("?messenger=acme", form); a.status < 400 {
				t.Errorf("the panel: %d %s", a.status, a.text())
			}
			g.expect("503 keys_unavailable", "/acme/", sign(newSecret(), valid("mark")))
			if after := files(t, storage); !slices.Equal(factKeys(after, "acme"), factKeys(before, "acme")) {
				t.Errorf("something was written: %q, before %q", factKeys(after, "acme"), factKeys(before, "acme"))
			}
		})
	}
}

// The flags of a command cannot give every setting. What they cannot give stays.
func TestReplacingByFlagsKeepsSettingsWithoutFlags(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	g := startPanel(t, nil, "")
	address := "--address=unix/" + g.sock
	s.file("key.pem", string(publicPEM(rsaKey(0))))
	for name, method := range map[string][]string{
		"set": {"--jwks", "https://login.example.com/v2", "--confirm", "1"}, "keys": {"--public-key", filepath.Join(s.dir, "key.pem"), "--confirm", "1"}, "tokens": {"--shared-token"},
	} {
		g.operator().want(201, http.MethodPut, "messengers/"+name, everySetting()[name])
		s.must("", append([]string{"create", name, "--replace", "--identity-key", "customer", address}, method...)...)
		got, want := g.storedSettings(name), everySetting()[name]
		if got["identity_key"] != "customer" || got["audience"] != nil || got["max_session"] != want["max_session"] || !reflect.DeepEqual(jsonOf(t, got["fail_limit"]), jsonOf(t, want["fail_limit"])) {
			t.Errorf("%s: %v", name, got)
		}
		if set, ok := got["jwks"].(map[string]any); name == "set" && (!ok || set["url"] != "https://login.example.com/v2" || set["timeout"] != 3e9 || set["refresh_interval"] != 120e9) {
			t.Errorf("the key set: %v", got["jwks"])
		}
	}
}

// jsonOf is a value as JSON reads it.
func jsonOf(t *testing.T, value any) (read any) {
	t.Helper()
	if err := json.Unmarshal([]byte(mustJSON(value)), &read); err != nil {
		t.Fatal(err)
	}
	return read
}
