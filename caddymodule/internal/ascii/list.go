package ascii

import (
	"iter"
	"strings"
)

// Elements returns the elements of a list header, without the blanks around them (RFC 9110 section 5.6.1). A comma in a quoted string
// separates nothing.
func Elements(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		quoted, from := false, 0
		for i := 0; i <= len(value); i++ {
			switch {
			case i == len(value) || value[i] == ',' && !quoted:
				if element := strings.Trim(value[from:i], " \t"); element != "" && !yield(element) {
					return
				}
				from = i + 1
			case value[i] == '"':
				quoted = !quoted
			case value[i] == '\\' && quoted:
				i++ // the next character is itself
				if i == len(value) {
					i--
				}
			}
		}
	}
}
