// Package ascii compares the names of protocols: methods, schemes, header names, options, host names, media types. They are
// ASCII, and only the case of the 26 letters is ignored. The functions of package strings fold by Unicode, where "ſ" (U+017F)
// equals "s" and the Kelvin sign (U+212A) equals "k": they would accept as "websocket" what the next program does not.
//
// It does not know which texts are names; its callers do.
//
// Begin reading with [EqualFold].
package ascii

// EqualFold reports whether a and b are equal if the case of ASCII letters is ignored.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if LowerByte(a[i]) != LowerByte(b[i]) {
			return false
		}
	}
	return true
}

// Lower returns s with its ASCII letters in lower case. All other bytes stay as they are.
func Lower(s string) string {
	for i := range len(s) {
		if s[i] != LowerByte(s[i]) {
			lower := []byte(s)
			for ; i < len(lower); i++ {
				lower[i] = LowerByte(lower[i])
			}
			return string(lower)
		}
	}
	return s
}

// LowerByte returns the lower case of an ASCII letter, and any other byte as it is.
func LowerByte(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// IsLetterOrDigit reports whether b is an ASCII letter or digit.
func IsLetterOrDigit(b byte) bool {
	lower := LowerByte(b)
	return 'a' <= lower && lower <= 'z' || '0' <= b && b <= '9'
}

// HexDigit returns the value of a hexadecimal digit, and -1 for any other byte.
func HexDigit(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b && b <= 'f':
		return int(b-'a') + 10
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// Hex returns the number that hexadecimal digits are, at most seven, and false for any other text.
func Hex(digits []byte) (n rune, ok bool) {
	for _, b := range digits {
		digit := HexDigit(b)
		if digit < 0 {
			return 0, false
		}
		n = n<<4 | rune(digit)
	}
	return n, true
}
