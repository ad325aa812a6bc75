package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// The longest line is accepted however it ends, also at the end of the file, and one more byte is refused. A shorter limit than that
// of the lines that export writes would make an export that cannot be imported.
func TestLongestLineOfAnImport(t *testing.T) {
	const limit = 10_000
	longest := strings.Repeat("x", limit)
	failed := errors.New("the disk failed")
	for name, c := range map[string]struct {
		text string
		then error
		want []string
		err  string
	}{
		"empty":                        {"", nil, nil, "<nil>"},
		"only line breaks":             {"\n\r\n \n", nil, nil, "<nil>"},
		"unterminated":                 {"a\nb", nil, []string{"a", "b"}, "<nil>"},
		"the longest, unterminated":    {longest, nil, []string{longest}, "<nil>"},
		"the longest, LF":              {longest + "\na", nil, []string{longest, "a"}, "<nil>"},
		"the longest, CRLF":            {"a\r\n" + longest + "\r\n", nil, []string{"a", longest}, "<nil>"},
		"one byte more, unterminated":  {"a\nx" + longest, nil, []string{"a"}, "line 2: it has more than 10000 bytes"},
		"one byte more, LF":            {"a\nx" + longest + "\nb", nil, []string{"a"}, "line 2: it has more than 10000 bytes"},
		"one byte more, CRLF":          {"x" + longest + "\r\n", nil, nil, "line 1: it has more than 10000 bytes"},
		"no end":                       {strings.Repeat(longest, 10), nil, nil, "line 1: it has more than 10000 bytes"},
		"cut off by a failure":         {"a\nb\nc", failed, []string{"a", "b"}, "the disk failed"},
		"cut off within a longer line": {"a\nx" + longest, failed, []string{"a"}, "line 2: it has more than 10000 bytes"},
	} {
		var got []string
		in := iotest.OneByteReader(strings.NewReader(c.text))
		if c.then != nil {
			in = io.MultiReader(in, iotest.ErrReader(c.then))
		}
		err := eachLine(in, limit, func(text []byte) error { got = append(got, string(text)); return nil })
		if fmt.Sprint(err) != c.err || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %d lines and %v, want %d and %s", name, len(got), err, len(c.want), c.err)
		}
	}
}

// A line is read in one way only: "issued_before": null would revoke until now, and a second member would replace the first.
func TestAmbiguousRevocationLinesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"identity":"mark","issued_before":null}`: "null",
		`{"identity":"mark","Identity":"eve"}`:     "unknown member",
		`{"jti":"a","identity":""}`:                "an empty text",
		`{"identity":"mark","issued_before":"2026-11-25T08:00:00Z","issued_before":"2030-11-25T08:00:00Z"}`: "two members of the same name",
		`{"jti":"a"} {"all":true}`: "text after",
		`{"jti":"a"}`:              "",
		`{"identity":"mark","issued_before":"2026-11-25T08:00:00Z","until":"2030-11-25T08:00:00Z"}`: "",
	} {
		if _, err := readRevocation([]byte(text)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
