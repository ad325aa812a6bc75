package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Each member may be a restriction. One that is read in another way than a person reads it leaves a messenger more open than its file.
func TestSettingsHaveOneReading(t *testing.T) {
	const whole = `"identity_key":"sub","shared_token":{},"audience":["chat"]`
	for text, want := range map[string]string{
		`{` + whole + `,"audience":["x"]}`:                     "two members of the same name",
		`{` + whole + `,"Audience":["x"]}`:                     "two members of the same name",
		`{` + whole + `,"AUDIENCE":null}`:                      "two members of the same name",
		"{" + whole + ",\"iſſuer\":[],\"issuer\":[\"a\"]}":     "two members of the same name",
		`{` + whole + `,"jwks":{"url":"https://a","Url":"b"}}`: "two members of the same name",
		`{` + whole + `,"public_key":[{"key":"a","Key":"b"}]}`: "two members of the same name",
		`{` + whole + `} {"mode":"off"} garbage`:               "text after",
		`{` + whole + `}{}`:                                    "text after",
		`{` + whole + "}\x00":                                  "text after",
		`{` + whole + `,"nosuch":1}`:                           `unknown member "nosuch"`,
		`{` + whole + `,"jwks":{"nosuch":1}}`:                  `unknown member "nosuch"`,
		`{"identity_key":"sub","audience":null}`:               "null for audience",
		`{"Audience":null}`:                                    "null for Audience",
		`{"audience":[null]}`:                                  "null for audience",
		`{"jwks":{"url":"https://a","algorithms":null}}`:       "null for jwks.algorithms",
		`{"public_key":[{"key":"a"},{"key":"a","alg":null}]}`:  "null for public_key.alg",
		`{"previous":{"until":null}}`:                          "null for previous.until",
		`{"audience":7}`:                                       "wrong type",
		`{"jwks":[]}`:                                          "wrong type",
		`[]`:                                                   "not a JSON object", `null`: "not a JSON object", ``: "not a JSON object", `{`: "ends too early", `{"a":1,}`: "not well-formed",
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
func TestNoSettingIsNull(t *testing.T) {
	for i := range reflect.TypeFor[Messenger]().NumField() {
		member, _, _ := strings.Cut(reflect.TypeFor[Messenger]().Field(i).Tag.Get("json"), ",")
		if _, err := DecodeSettings([]byte(`{"` + member + `":null}`)); err == nil || !strings.Contains(err.Error(), "null for "+member) {
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
