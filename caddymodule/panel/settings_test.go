package panel

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// fill gives every exported field of v a value other than zero. What is neither filled nor listed here fails the test, so
// that a new kind of setting is thought of.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Interface().(type) {
	case config.Mode:
		v.SetString(string(config.ModeReport))
		return
	case sharedtoken.Encoding:
		v.SetString(string(sharedtoken.Hex))
		return
	case caddy.Duration:
		v.SetInt(int64(90*time.Second + 1))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(" " + path + "\u202e ")
	case reflect.Int:
		v.SetInt(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), fmt.Sprintf("%s-%d", path, i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				fill(t, v.Field(i), path+"."+field.Name)
			}
		}
	default:
		t.Fatalf("%s is a %s, which this test does not know", path, v.Kind())
	}
}

// exported compares two messengers by their settings.
func exported(m *config.Messenger) map[string]any {
	settings := make(map[string]any)
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() {
			settings[field.Name] = v.Field(i).Interface()
		}
	}
	return settings
}

// sent is the form as a browser sends it.
func (f *settingsForm) sent() form {
	crlf := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
	values := url.Values{
		"revision": {f.Revision}, "identity_key": {f.IdentityKey}, "method": {f.Method}, "url": {f.URL}, "refresh_interval": {f.Refresh}, "stale_if_error": {f.Stale},
		"timeout": {f.Timeout}, "issuer": {crlf(f.Issuer)}, "audience": {crlf(f.Audience)}, "require_claims": {crlf(f.Required)}, "allowed_origin": {crlf(f.Origins)},
		"clock_skew": {f.ClockSkew}, "max_lifetime": {f.MaxLifetime}, "mode": {f.Mode},
	}
	for _, key := range f.Slots() {
		values.Add("key", crlf(key.Key))
		values.Add("kid", key.KeyID)
	}
	return form(values)
}

// filled are messengers with a value for every setting, one for each method.
func filled(t *testing.T) map[string]*config.Messenger {
	t.Helper()
	messengers := make(map[string]*config.Messenger)
	for _, method := range []string{"public_key", "jwks", "shared_token"} {
		m := new(config.Messenger)
		fill(t, reflect.ValueOf(m).Elem(), "m")
		if method != "public_key" {
			m.PublicKey = nil
		}
		if method != "jwks" {
			m.JWKS = nil
		}
		if method != "shared_token" {
			m.SharedToken = nil
		}
		messengers[method] = m
	}
	return messengers
}

// noField are the settings that the form deliberately has no field for, with the reason. They outlive a save all the same.
var noField = map[string]string{
	"shared_token": "it is generated; the choice of the method sets it",
	"max_session":  "the form does not show it yet",
	"fail_limit":   "the form does not show it yet",
}

// fieldsOf are the fields that the form must have for the settings of typ, each with the member of Messenger that it changes.
// A field is named as the setting is in JSON.
func fieldsOf(t *testing.T, typ reflect.Type, member string) map[string]string {
	t.Helper()
	fields := make(map[string]string)
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if noField[name] != "" {
			continue
		}
		inner, changes := f.Type, cmp.Or(member, f.Name)
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			maps.Copy(fields, fieldsOf(t, inner, changes))
		} else {
			fields[name] = changes
		}
	}
	return fields
}

// Every setting that a stored messenger has is there after a save, whether nothing was changed or another setting was.
func TestEverySettingOutlivesASave(t *testing.T) {
	for method, m := range filled(t) {
		saved, wrong := settingsFrom(formOf("acme", "r", m).sent()).settings(m)
		if len(wrong) > 0 || !reflect.DeepEqual(exported(saved), exported(m)) {
			t.Errorf("%s: saved without a change\ngot  %+v %v\nwant %+v", method, exported(saved), wrong, exported(m))
		}
		for field, setting := range fieldsOf(t, reflect.TypeFor[config.Messenger](), "") {
			sent := formOf("acme", "r", m).sent()
			if sent[field] == nil {
				t.Fatalf("the form has no field %s; give it one, or list it in noField", field)
			}
			sent[field][0] = map[string]string{"mode": "off", "issuer": "new", "audience": "new", "require_claims": "new", "allowed_origin": "new", "url": "new", "identity_key": "new", "kid": "new", "key": "new"}[field]
			if sent[field][0] == "" {
				sent[field][0] = "5m"
			}
			saved, _ := settingsFrom(sent).settings(m)
			got, want := exported(saved), exported(m)
			if changed := !reflect.DeepEqual(got[setting], want[setting]); changed != (setting != "JWKS" && setting != "PublicKey" || method == map[string]string{"JWKS": "jwks", "PublicKey": "public_key"}[setting]) {
				t.Errorf("%s: %s typed: %s changes: %v", method, field, setting, changed)
			}
			delete(got, setting)
			delete(want, setting)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: after a change of %s\ngot  %+v\nwant %+v", method, field, got, want)
			}
		}
	}
}

// A key keeps its members when the key beside it changes, goes, or moves.
func TestOtherKeysStayAsTheyAre(t *testing.T) {
	stored := []config.PublicKey{{Key: "\r\nA\r\nB ", KeyID: " a "}, {Key: "C\u202e", KeyID: "c"}, {Key: "D", KeyID: ""}}
	shown := func(keys ...int) (f settingsForm) {
		for _, k := range keys {
			f.Keys = append(f.Keys, shownKey(stored[k]))
		}
		return f
	}
	for name, test := range map[string]struct {
		form settingsForm
		want []config.PublicKey
	}{
		"as they are": {shown(0, 1, 2), stored},
		"one goes":    {shown(0, 2), []config.PublicKey{stored[0], stored[2]}},
		"they move":   {shown(2, 1, 0), []config.PublicKey{stored[2], stored[1], stored[0]}},
		"one is new":  {settingsForm{Keys: append(shown(1).Keys, config.PublicKey{Key: "E", KeyID: "e"})}, []config.PublicKey{stored[1], {Key: "E", KeyID: "e"}}},
		"a key ID":    {settingsForm{Keys: []config.PublicKey{{Key: shownKey(stored[0]).Key, KeyID: "b"}}}, []config.PublicKey{{Key: stored[0].Key, KeyID: "b"}}},
	} {
		if got := test.form.keysOver(stored); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// A character that cannot be seen makes a value another one than it looks like.
func TestHiddenCharactersAreRefusedWhereTheyAreTyped(t *testing.T) {
	for _, field := range []string{"identity_key", "issuer", "audience", "require_claims", "allowed_origin", "url"} {
		for _, hidden := range []string{"\u200b", "\u202e", "\u00ad", "\x7f", "\u009b", "\u00a0"} {
			sent := form{"identity_key": {"sub"}, "method": {"jwks"}, "url": {"https://a.example"}, "mode": {"required"}}
			sent[field] = []string{"a" + hidden + "b"}
			_, wrong := settingsFrom(sent).settings(nil)
			if len(wrong) != 1 || wrong[0].Field != field || !strings.Contains(wrong[0].Text, printable.Line(hidden)) {
				t.Errorf("%s with %q: %v", field, hidden, wrong)
			}
		}
	}
}

// Unicode folds U+017F to s; a page that is served under such a name is not this machine's.
func TestLoopbackHostIsASCII(t *testing.T) {
	for host, want := range map[string]bool{"kiosk.localhost": true, "KIOSK.LOCALHOST": true, "localho\u017ft": false, "[::1]:80": true, "localhost.": false} {
		if got := isLoopbackHost(host); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
