package strictjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

type decoded struct {
	Audience []string        `json:"audience"`
	Until    *time.Time      `json:"until"`
	After    string          `json:"after"`
	Lines    json.RawMessage `json:"lines"`
	Inner    struct {
		List []struct {
			Kiss string `json:"kiss"`
		} `json:"list"`
	} `json:"inner"`
}

// Each member may be a restriction. One that two readers read in different ways, or that is there and says nothing, leaves more open
// than its author meant.
func TestAmbiguousTextIsRefused(t *testing.T) {
	secret := "mst_" + strings.Repeat("A1b2C3d4", 6)
	for text, want := range map[string]string{
		`{"audience":["x"],"audience":[]}`:                   "two members of the same name",
		`{"inner":{"list":[{"kiss":"a","kiss":"b"}]}}`:       "two members of the same name",
		`{"audience":["x"]} {}`:                              "text after",
		"{\"audience\":[\"\xff\"]}":                          "UTF-8",
		`{"audience":["x"],"Audience":[]}`:                   `unknown member "Audience" (names are in lower case)`,
		`{"inner":{"list":[{"KISS":"a"}]}}`:                  `unknown member "KISS"`,
		"{\"inner\":{\"list\":[{\"\u212aiſs\":\"a\"}]}}":     "unknown member (its name is not shown)",
		`{"audiences":["x"]}`:                                `unknown member "audiences"`,
		`{"` + secret + `":1}`:                               "unknown member (its name is not shown)",
		`{"audience":null}`:                                  `null for "audience"`,
		`{"audience":["x",null]}`:                            `null for "audience"`,
		`{"inner":{"list":[{"kiss":null}]}}`:                 `null for "inner.list.kiss"`,
		`{"inner":{"` + strings.ToLower(secret) + `":null}}`: "null for (its name is not shown)",
		`{"lines":null}`:                                     `null for "lines"`,
		`{"until":""}`:                                       `an empty text for "until"`,
		`{"audience":"x"}`:                                   "wrong type",
		`{"until":"yesterday"}`:                              "wrong type",
		`[]`:                                                 "not a JSON object",
		`null`:                                               "not a JSON object",
		``:                                                   "not a JSON object",
		`{"audience":["x"]`:                                  "ends too early",
		"\ufeff{}":                                           "not a JSON object",
		" {\"audience\":[\"\"],\"after\":\"\",\"inner\":{}}\n": "",
		`{"lines":[{"Any":null,"x":""}]}`:                      "",
		`{}`:                                                   "",
	} {
		err := Decode([]byte(text), new(decoded), Exceptions{Empty: []string{"after"}, Raw: []string{"lines"}})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(strings.ToLower(err.Error()), "mst_")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// encoding/json takes many names for that of one member. Of all these, only the one in lower case is taken.
func TestMemberNamesAreCaseSensitive(t *testing.T) {
	if err := json.Unmarshal([]byte("{\"inner\":{\"list\":[{\"\u212aiſſ\":\"x\"}]}}"), new(decoded)); err != nil {
		t.Fatal(err)
	}
	for r := rune('a'); r <= 0x24ff; r++ {
		if 0xd800 <= r && r <= 0xdfff {
			continue
		}
		for i, c := range "kiss" {
			if !strings.EqualFold(string(r), string(c)) {
				continue
			}
			name := "kiss"[:i] + string(r) + "kiss"[i+1:]
			err := Decode([]byte(fmt.Sprintf(`{"inner":{"list":[{%q:"x"}]}}`, name)), new(decoded), Exceptions{})
			if (err == nil) != (name == "kiss") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
