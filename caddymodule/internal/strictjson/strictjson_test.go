package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestScannerAcceptsObjectsThatEveryParserReadsInTheSameWay(t *testing.T) {
	manyNames := make([]string, 3*FewNames)
	for i := range manyNames {
		manyNames[i] = fmt.Sprintf(`"n%d":%d`, i, i)
	}
	many := strings.Join(manyNames, ",")
	for _, tt := range []struct{ name, text string }{
		{"empty", `{}`},
		{"white space around every token", " \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } }\n"},
		{"all kinds of values", `{"a":"x","b":-1.5e+3,"c":true,"d":false,"e":null,"f":[],"g":{"h":[{}]}}`},
		{"all escapes", `{"a":"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"}`},
		{"U+FFFD that was written as such", "{\"a\":\"\uFFFD\\ufffd\"}"},
		{"one name at two levels", `{"a":{"a":{"a":1}}}`},
		{"one name in two objects of an array", `{"a":[{"b":1},{"b":2}]}`},
		{"names that differ in case only", `{"sub":1,"Sub":2}`},
		{"names that look alike, in two Unicode forms", "{\"é\":1,\"e\u0301\":2}"},
		{"an empty name", `{"":1}`},
		{"more names than are compared one by one", "{" + many + "}"},
		{"large objects with the same names, one in another and one behind another", `{` + many + `,"x":{` + many + `,"y":[{` + many + `},{` + many + `}]}}`},
		{"escaped names that have no escapes in common", `{"\u0061":1,"\u0062":2,"\\u0061":3,"\"":4}`},
		{"the deepest nesting that is taken", strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth)},
		{"numbers of every form", `{"a":0,"b":-0,"c":10,"d":0.10,"e":1E9,"f":1e-9,"g":123456789012345678901234567890}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Object([]byte(tt.text), nil); err != nil {
				t.Errorf("got %v, want no error", err)
			}
		})
	}
}

func TestScannerRefusesWhatTwoParsersCouldReadDifferently(t *testing.T) {
	manyNames := make([]string, 3*FewNames)
	for i := range manyNames {
		manyNames[i] = fmt.Sprintf(`"n%d":%d`, i, i)
	}
	many := strings.Join(manyNames, ",")
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"nothing", "", errNotObject},
		{"an array", `[{}]`, errNotObject},
		{"a string", `"{}"`, errNotObject},
		{"null", `null`, errNotObject},
		{"a byte order mark in front", "\uFEFF{}", errNotObject},
		{"a white space that JSON does not have", "\u00a0{}", errNotObject},
		{"a second object", `{}{}`, errTrailing},
		{"a NUL behind", "{}\x00", errTrailing},
		{"text behind", `{} x`, errTrailing},
		{"a byte that is not UTF-8", "{\"a\":\"\xff\"}", errUTF8},
		{"an overlong encoding of a slash", "{\"a\":\"\xc0\xaf\"}", errUTF8},
		{"a surrogate encoded as UTF-8", "{\"a\":\"\xed\xa0\x80\"}", errUTF8},
		{"a lone high surrogate", `{"a":"\ud800"}`, errSurrogate},
		{"a lone low surrogate", `{"a":"\udc00"}`, errSurrogate},
		{"surrogates in the wrong order", `{"a":"\udc00\ud800"}`, errSurrogate},
		{"two high surrogates", `{"a":"\ud800\ud800"}`, errSurrogate},
		{"a high surrogate and another escape", `{"a":"\ud800\n"}`, errSurrogate},
		{"a lone surrogate in a name", `{"\ud800":1}`, errSurrogate},
		{"a lone surrogate far inside", `{"a":[{"b":"\udfff"}]}`, errSurrogate},
		{"two members of one name", `{"a":1,"a":1}`, errDuplicate},
		{"two members of one name, once escaped", `{"a":1,"\u0061":2}`, errDuplicate},
		{"two members of one name behind a pair of surrogates", "{\"\U0001F600\":1,\"\\ud83d\\ude00\":2}", errDuplicate},
		{"two empty names", `{"":1,"":2}`, errDuplicate},
		{"two members of one name inside", `{"x":[{"a":1,"b":2,"a":3}]}`, errDuplicate},
		{"the first name again after many", `{` + many + `,"n0":1}`, errDuplicate},
		{"the last name again after many", `{` + many + `,"\u006e47":1}`, errDuplicate},
		{"the last few name again after few", `{` + strings.Join(manyNames[:FewNames], ",") + `,"n15":1}`, errDuplicate},
		{"the first name of the table again", `{` + strings.Join(manyNames[:FewNames+1], ",") + `,"n16":1}`, errDuplicate},
		{"an escaped name again after many", `{"\u0078":1,` + many + `,"x":1}`, errDuplicate},
		{"a name of a large object again behind an object with the same names", `{` + many + `,"x":{` + many + `},"n20":1}`, errDuplicate},
		{"one level too deep in objects", strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1), errTooDeep},
		{"one level too deep in arrays", `{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + "}", errTooDeep},
		{"a comma at the end", `{"a":1,}`, errSyntax},
		{"a comma at the end of an array", `{"a":[1,]}`, errSyntax},
		{"no comma", `{"a":1 "b":2}`, errSyntax},
		{"no colon", `{"a" 1}`, errSyntax},
		{"no value", `{"a":}`, errSyntax},
		{"a name without quotes", `{a:1}`, errSyntax},
		{"single quotes", `{'a':1}`, errSyntax},
		{"a comment", `{/**/"a":1}`, errSyntax},
		{"a raw line break in a string", "{\"a\":\"\n\"}", errSyntax},
		{"a raw NUL in a string", "{\"a\":\"\x00\"}", errSyntax},
		{"a raw control character behind a backslash", "{\"a\":\"\\\x01\"}", errSyntax},
		{"an escape that JSON does not have", `{"a":"\x41"}`, errSyntax},
		{"an escape of three digits", `{"a":"\u041"}`, errSyntax},
		{"an escape with a sign", `{"a":"\u+041"}`, errSyntax},
		{"a leading zero", `{"a":01}`, errSyntax},
		{"a plus sign", `{"a":+1}`, errSyntax},
		{"a point without digits", `{"a":1.}`, errSyntax},
		{"a point in front", `{"a":.1}`, errSyntax},
		{"an exponent without digits", `{"a":1e}`, errSyntax},
		{"a hexadecimal number", `{"a":0x10}`, errSyntax},
		{"NaN", `{"a":NaN}`, errSyntax},
		{"Infinity", `{"a":-Infinity}`, errSyntax},
		{"a literal in capitals", `{"a":True}`, errSyntax},
		{"a literal with a letter too many", `{"a":nullx}`, errSyntax},
		{"a cut literal", `{"a":tru}`, errSyntax},
		{"an open object", `{`, errUnexpected},
		{"an open string", `{"a`, errUnexpected},
		{"a string that ends in a backslash", `{"a\`, errUnexpected},
		{"an open value", `{"a":`, errUnexpected},
		{"an open array", `{"a":[1`, errUnexpected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Object([]byte(tt.text), nil); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// A key set is not refused for what is inside entries that are not used.
func TestLenientScannerComparesOnlyTheNamesOfTheOutermostObject(t *testing.T) {
	if err := Lenient([]byte(`{"keys":[{"a":1,"a":2}]}`), nil); err != nil {
		t.Errorf("a duplicate inside: got %v, want no error", err)
	}
	if err := Lenient([]byte(`{"keys":[],"keys":[]}`), nil); !errors.Is(err, errDuplicate) {
		t.Errorf("a duplicate outside: got %v, want %v", err, errDuplicate)
	}
	if err := Lenient([]byte(`{"keys":[{"a":"\ud800"}]}`), nil); !errors.Is(err, errSurrogate) {
		t.Errorf("a lone surrogate inside: got %v, want %v", err, errSurrogate)
	}
}

// FuzzScanObject compares the scanner with encoding/json: what ours accepts, that reads with the same result; and what
// that reads without any of the ambiguities that we refuse, ours accepts.
func FuzzScanObject(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"a":"x","b":-1.5e+3,"c":[true,false,null,{}]}`, `{"a":1,"\u0061":2}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud800"}`,
		`{"identity":"mark","exp":1795419749}`, `{"a":[[[[1]]]]}`, "{\"a\":\"\xff\"}", `{"a":-0,"b":01}`, ` {"a" : "\/" } `, `{"a":{"b":1,"b":2}}`,
	} {
		f.Add([]byte(text))
	}
	for _, again := range []string{`"n0":1`, `"\u006e17":1`, `"x":[{"n0":1,"n0":2}]`, `"x":{}`} { // more names than are compared one by one
		var many strings.Builder
		for i := range FewNames + 2 {
			fmt.Fprintf(&many, `"n%d":%d,`, i, i)
		}
		f.Add([]byte("{" + many.String() + again + "}"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		members := make(map[string][]byte)
		visits := 0
		err := Object(text, func(name, value []byte) {
			visits++
			members[string(name)] = value
		})
		if lenient := Lenient(text, nil); err == nil && lenient != nil {
			t.Errorf("%q: the lenient scanner refuses it: %v", text, lenient)
		}
		clean, ambiguous := readObject(text)
		if err != nil {
			if clean && !ambiguous {
				t.Errorf("%q: refused, and nothing is wrong with it: %v", text, err)
			}
			return
		}
		if !clean {
			t.Fatalf("%q: accepted, and it has a duplicate or is not an object", text)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatalf("%q: accepted, and encoding/json does not read it: %v", text, err)
		}
		if len(members) != len(want) || visits != len(want) {
			t.Fatalf("%q: %d members in %d visits, want %d", text, len(members), visits, len(want))
		}
		for name, value := range want {
			if !bytes.Equal(members[name], value) {
				t.Errorf("%q: member %q: got %q, want %q", text, name, members[name], value)
			}
		}
	})
}

// readObject reads text with encoding/json. clean says that it is one object without duplicate names, ambiguous that it
// may have one of the other things that the scanner refuses: bytes or escapes that are not a character, or deep nesting.
func readObject(text []byte) (clean, ambiguous bool) {
	if !json.Valid(text) || len(bytes.TrimLeft(text, " \t\r\n")) == 0 || bytes.TrimLeft(text, " \t\r\n")[0] != '{' {
		return false, false
	}
	ambiguous = !utf8.Valid(text)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var open []map[string]bool // the names of each object that is open; nil for an array
	name := false              // whether the next string of the innermost object is a name
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return true, ambiguous
		}
		if err != nil {
			return false, ambiguous
		}
		switch token {
		case json.Delim('{'):
			open, name = append(open, make(map[string]bool)), true
			ambiguous = ambiguous || len(open) > MaxDepth
			continue
		case json.Delim('['):
			open, name = append(open, nil), false
			ambiguous = ambiguous || len(open) > MaxDepth
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			s, isString := token.(string)
			ambiguous = ambiguous || isString && strings.ContainsRune(s, utf8.RuneError)
			if name {
				if open[len(open)-1][s] {
					return false, ambiguous
				}
				open[len(open)-1][s] = true
				name = false
				continue
			}
		}
		name = len(open) > 0 && open[len(open)-1] != nil
	}
}

// Only a lone surrogate inside a value is tolerated, and it is told which member has one.
func TestClaimsReportsMembersWithLoneSurrogates(t *testing.T) {
	whole := make(map[string]bool)
	err := Claims([]byte(`{"a":"\ud83d","b":"\ud83d\ude00","c":[1,{"d":["x\udc00y","z"]}],"e":"e"}`), func(name, _ []byte, ok bool) { whole[string(name)] = ok })
	if err != nil || len(whole) != 4 || whole["a"] || !whole["b"] || whole["c"] || !whole["e"] {
		t.Errorf("got %v %v", whole, err)
	}
	for text, want := range map[string]error{
		`{"a":"\ud83d\q"}`:                errSyntax,
		`{"a":"\ud83d\u12"}`:              errSyntax,
		`{"a":["\ud83d","` + "\n" + `"]}`: errSyntax,
		`{"\ud83d":1}`:                    errSurrogate,
		`{"a":{"\ud83d":1}}`:              errSurrogate,
		`{"a":"\ud83d","a":1}`:            errDuplicate,
		`{"a":{"b":"\ud83d","b":1}}`:      errDuplicate,
		`{"a":"\ud83d"`:                   errUnexpected,
		"{\"a\":\"\xed\xa0\xbd\"}":        errUTF8,
	} {
		if err := Claims([]byte(text), func(_, _ []byte, _ bool) {}); err != want {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
	}
}
