package ascii

import (
	"slices"
	"testing"
)

func TestElementsOfAList(t *testing.T) {
	for value, want := range map[string][]string{
		"":                         nil,
		" , ,\t":                   nil,
		"a":                        {"a"},
		" a ,b=\"c\", ":            {"a", `b="c"`},
		`a="x,private,y",b`:        {`a="x,private,y"`, "b"},
		`a="x\",b",c`:              {`a="x\",b"`, "c"},
		`a="never closed,private`:  {`a="never closed,private`},
		`a="ends in a backslash\`:  {`a="ends in a backslash\`},
		`a\,b`:                     {`a\`, "b"},
		`no-cache="Set-Cookie", b`: {`no-cache="Set-Cookie"`, "b"},
	} {
		if got := slices.Collect(Elements(value)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
	if got := slices.Collect(Elements(`a="b,c`, "", "d,e")); !slices.Equal(got, []string{`a="b,c`, "d", "e"}) {
		t.Errorf("of three lines: got %q", got)
	}
	for range Elements("a,b") {
		break
	}
}
