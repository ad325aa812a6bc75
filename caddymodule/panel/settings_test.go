package panel

import (
	"cmp"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/configtest"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

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
	values := url.Values{"revision": {f.Revision}, "method": {f.Method}}
	for member, text := range f.Texts {
		values.Set(member, crlf(text))
	}
	for _, key := range f.Slots() {
		values.Add("key", crlf(key.Key))
		values.Add("kid", key.KeyID)
		values.Add("alg", key.Alg)
	}
	return form(values)
}

// noField are the settings that the form deliberately has no field for, with the reason. They outlive a save all the same.
var noField = map[string]string{
	"shared_token.token":    "it is generated; the choice of the method sets it",
	"shared_token.encoding": "it is generated, as the text that is signed with",
	"previous":              "a save that replaces the method offers it, and the page of the keys changes it",
}

// fieldsOf returns the fields that the form must have for the settings of typ, each with the field of Messenger that it changes.
// A field is named as the setting is in JSON. A setting of several parts is one field.
func fieldsOf(t *testing.T, typ reflect.Type, field string) map[string]string {
	t.Helper()
	fields := make(map[string]string)
	for f := range typ.Fields() {
		name := configtest.Member(t, f)
		if noField[name] != "" {
			continue
		}
		if field == "SharedToken" {
			if noField["shared_token."+name] != "" {
				continue
			}
			name = "shared_" + name
		}
		inner, changes := f.Type, cmp.Or(field, f.Name)
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[config.FailLimit]() && inner != reflect.TypeFor[config.RequestHeader]() {
			maps.Copy(fields, fieldsOf(t, inner, changes))
		} else {
			fields[name] = changes
		}
	}
	return fields
}

// ofMethod are the settings of one method, which are in the form for all.
var ofMethod = map[string][]string{"JWKS": {"jwks", "discovery"}, "PublicKey": {"public_key"}, "SharedToken": {"shared_token"}}

// typed is what an operator types into a field, for settings that cannot be any text. A duration is tried after that.
var typed = map[string]string{"mode": "off", "fail_limit": "3/5m", "allowed_origin": "https://new.example", "token_type": "at+jwt", "algorithms": "ES256", "shared_alg": "HS512"}

// Every setting that a stored messenger has is there after a save, whether nothing was changed or another setting was; and every
// setting can be changed.
func TestEverySettingSurvivesASave(t *testing.T) {
	for method, m := range configtest.Messengers(t, func(path string) string { return " " + path + "\u202e " }) {
		saved, wrong := settingsFrom(formOf("acme", "r", m).sent()).settings(m)
		if len(wrong) > 0 || !reflect.DeepEqual(exported(saved), exported(m)) {
			t.Errorf("%s: saved without a change\ngot  %+v %v\nwant %+v", method, exported(saved), wrong, exported(m))
		}
		for field, setting := range fieldsOf(t, reflect.TypeFor[config.Messenger](), "") {
			sent := formOf("acme", "r", m).sent()
			if sent[field] == nil {
				t.Fatalf("the form has no field %s; give the setting a section in config.Settings, or list it in noField", field)
			}
			var saved *config.Messenger
			for _, text := range []string{cmp.Or(typed[field], "new"), "5m"} {
				sent[field][0] = text
				var wrong []fieldError
				if saved, wrong = settingsFrom(sent).settings(m); !slices.ContainsFunc(wrong, func(e fieldError) bool { return e.Field == field }) {
					break
				}
			}
			got, want := exported(saved), exported(m)
			if changed := !reflect.DeepEqual(got[setting], want[setting]); changed != (ofMethod[setting] == nil || slices.Contains(ofMethod[setting], method)) {
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
func TestOtherKeysKeepTheirMembers(t *testing.T) {
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

// A value with an invisible character looks like another value.
func TestHiddenCharactersInFieldsAreRefused(t *testing.T) {
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
