package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What encoding/json takes for one member, a reader of the text takes for two: the second may undo a restriction.
func TestNamesThatDifferInCaseOnlyAreOneMember(t *testing.T) {
	many := ""
	for i := range 3 * FewNames {
		many += fmt.Sprintf(`"n%d":%d,`, i, i)
	}
	for _, tt := range []struct {
		text string
		want error
	}{
		{`{"audience":["x"],"Audience":null}`, errDuplicate},
		{`{"audience":1,"audience":2}`, errDuplicate},
		{`{"jwks":{"url":"a","URL":"b"}}`, errDuplicate},
		{`{"public_key":[{"key":"a"},{"kid":"a","KiD":"b"}]}`, errDuplicate},
		{`{"\u0061udience":1,"\u0041UDIENCE":2}`, errDuplicate},
		{"{\"issuer\":1,\"iſſuer\":2}", errDuplicate},
		{"{\"k\":1,\"\u212a\":2}", errDuplicate},
		{"{" + many + `"N7":1}`, errDuplicate},
		{`{"audience":1} x`, errTrailing},
		{`{"audience":1}{"audience":2}`, errTrailing},
		{`{"Audience":1,"audiences":{"audience":2},"list":[{"A":1},{"a":2}]}`, nil},
		{"{" + many + `"n":1}`, nil},
	} {
		if err := Folded([]byte(tt.text), nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.text, err, tt.want)
		}
	}
	var names []string
	if err := Folded([]byte(`{"Ab":1,"c\u0044":2}`), func(name, _ []byte) { names = append(names, string(name)) }); err != nil || !slices.Equal(names, []string{"Ab", "cD"}) {
		t.Errorf("the names are %q, %v", names, err)
	}
}

// Of each letter, every form that encoding/json takes for it is found.
func TestFoldedKnowsWhatEncodingJSONTakesForTheSame(t *testing.T) {
	for r := rune('a'); r <= 0x24ff; r++ {
		if 0xd800 <= r && r <= 0xdfff {
			continue
		}
		for c := 'a'; c <= 'z'; c++ {
			if r == c {
				continue
			}
			same := strings.EqualFold(string(r), string(c))
			if err := Folded([]byte(fmt.Sprintf(`{"%c":1,"%c":2}`, c, r)), nil); (err != nil) != same {
				t.Errorf("%c and %c: %v", c, r, err)
			}
		}
	}
	var read struct{ Kiss int }
	if err := json.Unmarshal([]byte("{\"\u212aiſſ\":7}"), &read); err != nil || read.Kiss != 7 {
		t.Errorf("encoding/json does not take them for the same any more: %+v, %v", read, err)
	}
}
