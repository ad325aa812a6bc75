package ascii

import (
	"iter"
	"strings"
)

// Elements returns the elements of a list header, without the blanks around them (RFC 9110 section 5.6.1). A comma in a quoted string
// separates nothing. values are the lines of the header: a quoted string that does not end goes on to the end of its own line.
func Elements(values ...string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, value := range values {
			for value != "" {
				end, _ := scanElement(value)
				element := strings.Trim(value[:end], " \t")
				if element != "" && !yield(element) {
					return
				}
				value = value[min(end+1, len(value)):]
			}
		}
	}
}

// EndsQuoted reports whether an element has a quoted string that does not end.
func EndsQuoted(element string) bool {
	_, quoted := scanElement(element)
	return quoted
}

// scanElement returns where the first element ends, and whether that is in a quoted string.
func scanElement(value string) (end int, quoted bool) {
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == ',' && !quoted:
			return i, false
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++ // the next character is itself
		}
	}
	return len(value), quoted
}
