package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// DecodeSettings refuses settings that two readers could understand in different ways.
func TestAmbiguousSettingsAreRefused(t *testing.T) {
	const whole = `"identity_key":"sub","shared_token":{},"audience":["chat"]`
	for text, want := range map[string]string{
		`{` + whole + `,"audience":["x"]}`:                     "two members of the same name",
		`{` + whole + `,"Audience":["x"]}`:                     `unknown member "Audience"`,
		`{` + whole + `,"jwks":{"url":"https://a","Url":"b"}}`: `unknown member "Url"`,
		`{` + whole + `} {"mode":"off"} garbage`:               "text after",
		`{` + whole + `,"nosuch":1}`:                           `unknown member "nosuch"`,
		`{` + whole + `,"jwks":{"nosuch":1}}`:                  `unknown member "nosuch"`,
		`{` + whole + `,"mode":""}`:                            `an empty text for "mode"`,
		`{"public_key":[{"key":"","kid":""}]}`:                 `an empty text for "public_key.key"`,
		`{"jwks":{"url":"https://a","algorithms":null}}`:       `null for "jwks.algorithms"`,
		`{"audience":7}`:                                       "wrong type; it should be JSON as",
		`[]`:                                                   "not a JSON object",
	} {
		if m, err := DecodeSettings([]byte(text)); m != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if m, err := DecodeSettings([]byte(" {" + whole + "}\n")); err != nil || !slices.Equal(m.Audience, []string{"chat"}) {
		t.Errorf("settings as they are: %v", err)
	}
}

// Every member of the settings is refused as null, also one that will be added.
func TestNullSettingsAreRefused(t *testing.T) {
	for i := range reflect.TypeFor[Messenger]().NumField() {
		member, _, _ := strings.Cut(reflect.TypeFor[Messenger]().Field(i).Tag.Get("json"), ",")
		if _, err := DecodeSettings([]byte(`{"` + member + `":null}`)); err == nil || !strings.Contains(err.Error(), "null for \""+member+"\"") {
			t.Errorf("%s: %v", member, err)
		}
	}
	text, err := json.Marshal(&Messenger{IdentityKey: "sub", JWKS: new(JWKS), SharedToken: new(SharedToken), Previous: new(Previous), FailLimit: new(FailLimit), PublicKey: make([]PublicKey, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSettings(text); err != nil {
		t.Errorf("what the gateway writes: %s: %v", text, err)
	}
}
