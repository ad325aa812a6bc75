package authn

import (
	"iter"
	"strings"
)

// parts are the parts of a list that are not empty. A list is a header or a query of an attacker's choice, of thousands of
// parts perhaps: none of them costs more than its length.
func parts(list string, separator byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		start := 0
		for i := range len(list) {
			if list[i] != separator {
				continue
			}
			if start < i && !yield(list[start:i]) {
				return
			}
			start = i + 1
		}
		if start < len(list) {
			yield(list[start:])
		}
	}
}

// unescapesTo reports whether name is text once it is unescaped as a part of a query. What url.QueryUnescape refuses is
// not.
func unescapesTo(name, text string) bool {
	if strings.IndexByte(name, '%') < 0 && strings.IndexByte(name, '+') < 0 {
		return name == text
	}
	i := 0
	for ; name != "" && i < len(text); i++ {
		c := name[0]
		switch c {
		case '+':
			c = ' '
		case '%':
			high, low := -1, -1
			if len(name) > 2 {
				high, low = hexDigit(name[1]), hexDigit(name[2])
			}
			if high < 0 || low < 0 {
				return false
			}
			c, name = byte(high<<4|low), name[2:]
		}
		if c != text[i] {
			return false
		}
		name = name[1:]
	}
	return name == "" && i == len(text)
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
