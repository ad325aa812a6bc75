package upstream

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// Servers read a path in different ways: they decode it once, twice or not at all before they split it, merge slashes or not,
// resolve dot segments before or after that, read "\" as "/", remove parameters (";"), stop at a NUL, drop bytes that are not
// UTF-8, or map look-alikes to ASCII. Trying all combinations would let an attacker choose the cost, and the next server would
// have another one. So a path is read once, assuming the worst meaning of each ambiguous character.
//
// The rule: the first parts of the path, which give the messenger, have one reading only, and later segments never climb above
// them, unless they then name the same parts again.

// IsAmbiguous reports whether some server could find other text than Caddy among the first parts of path, which is
// percent-encoded as it goes upstream.
func IsAmbiguous(path string, parts int) bool {
	path = strings.TrimPrefix(path, "/")
	if isPlainPath(path) {
		return false
	}
	var first []string
	low, high := 0, 0 // the number of parts so far, by the readings that find the fewest and the most
	for segment := range strings.SplitSeq(path, "/") {
		s := readSegment(segment)
		if low >= parts && low+s.lowest >= parts {
			low, high = low+s.adds, high+s.most
			continue
		}
		switch {
		case low >= parts: // it may climb among the first parts
			if !s.isParent() {
				return true
			}
			low, high = low-1, high+1
		case !s.isName():
			return true
		default:
			for at := low; at <= min(high, parts-1); at++ {
				if at == len(first) {
					first = append(first, segment)
				} else if first[at] != segment {
					return true
				}
			}
			low, high = low+1, high+1
		}
	}
	return low < parts && low != high
}

// isPlainPath reports whether path is obviously unambiguous, as nearly every path is.
func isPlainPath(path string) bool {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") || strings.Contains(path, "//") || strings.Contains(path, "/.") {
		return false
	}
	for _, c := range []byte(path) {
		if c <= ' ' || c >= 0x7f || c == '%' || c == '\\' || c == ';' || c == '+' || c == '?' || c == '#' {
			return false
		}
	}
	return true
}

// A reading is the worst that one segment between two slashes can mean.
type reading struct {
	adds   int  // the least number of parts that it adds to the path; below zero if it climbs
	lowest int  // the lowest that it reaches on the way
	most   int  // the largest number of parts that it adds
	names  int  // of its pieces, those that are certainly a name
	cut    bool // a server may drop a part of it
}

// isName reports whether the segment is one part of the path in every reading.
func (s *reading) isName() bool { return s.most == 1 && s.names == 1 && !s.cut }

// isParent reports whether the segment is at worst one "..", and nothing else. After a cut the whole path may end.
func (s *reading) isParent() bool { return s.most == 1 && s.adds == -1 && !s.cut }

// A piece is the text between two characters that may be separators.
type piece struct {
	dots  int  // dots, before the first character of a name
	name  bool // it has a character of a name before the cut
	cut   bool // it has a character after which a server may drop the rest
	after bool // there is more than dots after the cut
	early int  // the dots before the cut
}

// readSegment returns the worst meaning of one segment.
func readSegment(segment string) reading {
	var s reading
	var p piece
	named := false // consecutive names count once: what is between them may not be a separator
	end := func() {
		s.most++
		switch {
		case p.name:
			if s.names++; !named && !s.cut { // a server may drop what follows a cut, up to the next certain separator
				s.adds++
			}
			named = true
		case p.early >= 2 || p.dots >= 2 && !p.after:
			s.adds--
			s.lowest = min(s.lowest, s.adds)
			named = false
		}
		s.cut = s.cut || p.cut
		p = piece{}
	}
	for text := decodeFully(segment); len(text) > 0; {
		c, size := decodeLoosely(text)
		text = text[size:]
		switch kind, dots := kindOf(c); kind {
		case separates:
			end()
		case isDot:
			p.dots += dots
			if !p.cut {
				p.early += dots
			}
		case cuts:
			p.cut = true
		case names:
			if p.cut {
				p.after = true
			} else {
				p.name = true
			}
		}
	}
	end()
	return s
}

// decodeFully decodes percent-encoding until nothing is left to decode, however often it was encoded. That is the worst case:
// text that is a name after fewer steps is a name here as well, and ".." and separators appear only at the end.
func decodeFully(text string) []byte {
	decoded := make([]byte, 0, len(text))
	for _, c := range []byte(text) {
		decoded = append(decoded, c)
		for {
			n := len(decoded)
			if n >= 3 && decoded[n-3] == '%' {
				if c, ok := ascii.Hex(decoded[n-2:]); ok {
					decoded = append(decoded[:n-3], byte(c))
					continue
				}
			}
			if n >= 6 && decoded[n-6] == '%' && decoded[n-5]|0x20 == 'u' { // %uXXXX, as IIS and others write a character
				if c, ok := ascii.Hex(decoded[n-4:]); ok {
					decoded = utf8.AppendRune(decoded[:n-6], c)
					continue
				}
			}
			break
		}
	}
	return decoded
}

// decodeLoosely returns the first character of text, also an ASCII character in overlong UTF-8 (CVE-2000-0884), and U+FFFD for
// a byte that is not part of a character.
func decodeLoosely(text []byte) (rune, int) {
	c, size := utf8.DecodeRune(text)
	if c != utf8.RuneError || size != 1 {
		return c, size
	}
	switch lead := text[0]; {
	case (lead == 0xc0 || lead == 0xc1) && len(text) > 1:
		// Some decoders ignore the upper bits of the second byte.
		if c := rune(lead&1)<<6 | rune(text[1]&0x3f); c == '.' || c == '/' || c == '\\' {
			return c, 2
		}
	case lead == 0xe0 && len(text) > 2 && areContinuations(text[1:3]):
		return rune(text[1]&0x3f)<<6 | rune(text[2]&0x3f), 3
	case lead == 0xf0 && len(text) > 3 && areContinuations(text[1:4]):
		return rune(text[1]&0x3f)<<12 | rune(text[2]&0x3f)<<6 | rune(text[3]&0x3f), 4
	}
	return c, size
}

func areContinuations(text []byte) bool {
	return !slices.ContainsFunc(text, func(b byte) bool { return b&0xc0 != 0x80 })
}

// A characterKind is the worst meaning of a character in a path.
type characterKind int

const (
	names characterKind = iota
	separates
	isDot
	cuts  // a server may drop what follows it
	fades // a server may drop the character itself
)

// kindOf returns the kind of c, and for dots their number.
func kindOf(c rune) (characterKind, int) {
	switch c {
	case '/', '\u2044', '\u2215', '\u29f8', '\uff0f':
		return separates, 0
	case '\\', '\u2216', '\u29f5', '\u29f9', '\ufe68', '\uff3c', '\u00a5', '\u20a9': // the last two are "\" in Shift JIS and EUC-KR
		return separates, 0
	case '.', '\u2024', '\ufe52', '\uff0e', '\u3002', '\uff61':
		return isDot, 1
	case '\u2025', '\ufe30':
		return isDot, 2
	case '\u2026', '\ufe19':
		return isDot, 3
	case 0, ';', '?', '#', '\u037e', '\uff1b', '\ufe54', '\uff1f', '\ufe56', '\uff03', '\ufe5f':
		return cuts, 0
	case '+', utf8.RuneError:
		return fades, 0
	}
	switch {
	case c > ' ' && c < 0x7f:
		return names, 0
	case unicode.IsSpace(c), unicode.IsControl(c), unicode.In(c, unicode.Cf, unicode.Variation_Selector):
		return fades, 0
	}
	return names, 0
}
