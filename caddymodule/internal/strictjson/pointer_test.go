package strictjson

import (
	"strings"
	"testing"
)

// The examples of RFC 6901 section 5, and what a pointer must not be read as.
func TestPointerFollowsRFC6901(t *testing.T) {
	const document = `{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8,
		"deep": {"list": [[1, 2], {"0": "a name"}], "01": "name", "n\u0061me": "escaped", "-": "dash", "null": null}, "text": "[1]"}`
	for pointer, want := range map[string]string{
		"/foo": `["bar", "baz"]`, "/foo/0": `"bar"`, "/foo/1": `"baz"`, "/": "0", "/a~1b": "1", "/c%d": "2", "/e^f": "3", "/g|h": "4",
		`/i\j`: "5", `/k"l`: "6", "/ ": "7", "/m~0n": "8",
		"/deep/list/0/1": "2", "/deep/list/1/0": `"a name"`, "/deep/01": `"name"`, "/deep/name": `"escaped"`, "/deep/-": `"dash"`, "/deep/null": "null",
		"/foo/2": "", "/foo/-": "", "/foo/00": "", "/foo/01": "", "/foo/+1": "", "/foo/-0": "", "/foo/1e0": "", "/foo/ 1": "", "/foo/18446744073709551616": "", "/foo/": "",
		"/foo/0/0": "", "/text/0": "", "/absent/0": "", "/deep/null/x": "", "/a/b": "", "/deep/list/0/1/2": "", "/~01": "", "/deep/list/x": "",
	} {
		p, err := ParsePointer(pointer)
		if err != nil {
			t.Errorf("%q: %v", pointer, err)
			continue
		}
		if err := Object([]byte(document), func(_, _ []byte) {}); err != nil {
			t.Fatal(err)
		}
		if got := string(p.Find([]byte(document))); got != want {
			t.Errorf("%q: got %q, want %q", pointer, got, want)
		}
	}
}

func TestInvalidPointersAreRefused(t *testing.T) {
	for _, text := range []string{"", "a", "a/b", "#/a", "/a~", "/a~2", "/~~", "/~01~", "/~~010", "/~~0", "/\xff", strings.Repeat("/a", MaxDepth+1)} {
		if p, err := ParsePointer(text); err == nil {
			t.Errorf("%q: got %q", text, p)
		}
	}
}

func FuzzPointer(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1}]}`), "/a/0/b")
	f.Add([]byte(`{"a":[[],[1,"x]"]]}`), "/a/1/1")
	f.Fuzz(func(t *testing.T, document []byte, text string) {
		p, err := ParsePointer(text)
		if err != nil || Object(document, func(_, _ []byte) {}) != nil {
			return
		}
		found := p.Find(document)
		if found != nil && Object(append(append([]byte(`{"v":`), found...), '}'), func(_, _ []byte) {}) != nil {
			// What is found is a whole value. It may be nested as deeply as the document was.
			if depth := strings.Count(string(found), "{") + strings.Count(string(found), "["); depth < MaxDepth {
				t.Errorf("%q in %q: found %q, which is not a value", text, document, found)
			}
		}
	})
}
