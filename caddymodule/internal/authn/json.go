package authn

import (
	"bytes"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays of a token may be nested. Claims are flat in practice; the limit bounds the
// recursion of the scanner.
const maxDepth = 32

const (
	// fewNames is how many member names of one object are compared one by one; an object with more gets a map, so that a
	// token of the largest size cannot buy a quadratic scan.
	fewNames = 24

	// openNames is how many names of all open objects are kept without a map.
	openNames = 2 * fewNames
)

var (
	errNotObject  = errors.New("is not a JSON object")
	errSyntax     = errors.New("is not well-formed JSON")
	errTrailing   = errors.New("has something behind the JSON object")
	errUTF8       = errors.New("is not valid UTF-8")
	errSurrogate  = errors.New("has an unpaired UTF-16 surrogate in a string")
	errDuplicate  = errors.New("has two members of the same name")
	errTooDeep    = errors.New("is nested too deep")
	errUnexpected = errors.New("ends too early")
)

// scanObject checks that text is exactly one JSON object (RFC 8259) that every parser reads alike (RFC 7493): valid
// UTF-8, no lone surrogates, no duplicate member names at any level, nothing but white space around it. It calls visit
// for each member of the outermost object, with the name unescaped and the value as it was received. Text that two
// parsers could read differently is how a verifier and a backend come to see two different contacts in one token.
func scanObject(text []byte, visit func(name, value []byte)) error {
	s := scanner{text: text}
	return s.document(visit)
}

// scanLenient is scanObject for an object whose values are judged one by one: it minds duplicate names only in the
// outermost object.
func scanLenient(text []byte, visit func(name, value []byte)) error {
	s := scanner{text: text, lenient: true}
	return s.document(visit)
}

// scanStrings calls visit for each string of an array of strings, and returns false if value is anything else. The value
// was checked by scanObject.
func scanStrings(value []byte, visit func(text []byte)) bool {
	s := scanner{text: value}
	if s.expect('[') != nil {
		return false
	}
	for s.peek() != ']' {
		at, err := s.string()
		if err != nil {
			return false
		}
		text, err := s.unquoted(at)
		if err != nil {
			return false
		}
		visit(text)
		if s.space(); s.peek() == ',' {
			s.pos++
			s.space()
		}
	}
	return true
}

type scanner struct {
	text    []byte
	pos     int
	names   [openNames]span // those of all objects that are open, innermost last
	open    int             // how many they are
	lenient bool            // duplicate names matter only in the outermost object
}

// A span is the place of a string between its quotes.
type span struct {
	start, end int32
	escaped    bool
}

func (s *scanner) document(visit func(name, value []byte)) error {
	if !utf8.Valid(s.text) {
		return errUTF8
	}
	s.space()
	if s.peek() != '{' {
		return errNotObject
	}
	if err := s.object(1, visit); err != nil {
		return err
	}
	s.space()
	if s.pos != len(s.text) {
		return errTrailing
	}
	return nil
}

// peek returns the next byte, or 0 at the end; 0 is no token of JSON.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// expect consumes c, which may have white space around it.
func (s *scanner) expect(c byte) error {
	s.space()
	if s.pos == len(s.text) {
		return errUnexpected
	}
	if s.text[s.pos] != c {
		return errSyntax
	}
	s.pos++
	s.space()
	return nil
}

func (s *scanner) object(depth int, visit func(name, value []byte)) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	first := s.open
	var seen map[string]struct{} // used once the object has too many members
	for {
		at, err := s.string()
		if err != nil {
			return err
		}
		name, err := s.unquoted(at)
		if err != nil {
			return err
		}
		if depth == 1 || !s.lenient {
			if seen, err = s.unique(first, seen, at, name); err != nil {
				return err
			}
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		start := s.pos
		if err := s.value(depth); err != nil {
			return err
		}
		if visit != nil {
			visit(name, s.text[start:s.pos])
		}
		s.space()
		if s.peek() == '}' {
			s.pos++
			s.open = first
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// unique notes name, which stands at the place at, as a member of the object whose names begin at first, and refuses it
// if that object has it already.
func (s *scanner) unique(first int, seen map[string]struct{}, at span, name []byte) (map[string]struct{}, error) {
	if seen == nil && s.open-first < fewNames && s.open < openNames {
		for _, other := range s.names[first:s.open] {
			if s.same(other, name) {
				return nil, errDuplicate
			}
		}
		s.names[s.open] = at
		s.open++
		return nil, nil
	}
	if seen == nil {
		seen = make(map[string]struct{}, 4*fewNames)
		for _, other := range s.names[first:s.open] {
			text, _ := s.unquoted(other) // was checked when it was noted
			seen[string(text)] = struct{}{}
		}
	}
	if _, found := seen[string(name)]; found {
		return seen, errDuplicate
	}
	seen[string(name)] = struct{}{}
	return seen, nil
}

// same reports whether the string at other, once unescaped, is name.
func (s *scanner) same(other span, name []byte) bool {
	if !other.escaped {
		return string(s.text[other.start:other.end]) == string(name)
	}
	text, _ := s.unquoted(other) // was checked when it was noted
	return bytes.Equal(text, name)
}

// unquoted returns the string at a place, unescaped.
func (s *scanner) unquoted(at span) ([]byte, error) {
	raw := s.text[at.start:at.end]
	if !at.escaped {
		return raw, nil
	}
	return unquote(raw)
}

func (s *scanner) array(depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if err := s.expect('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.peek() == ']' {
			s.pos++
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// value consumes one value; depth is that of the object or array around it.
func (s *scanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth+1, nil)
	case c == '[':
		return s.array(depth + 1)
	case c == '"':
		at, err := s.string()
		if err != nil {
			return err
		}
		_, err = s.unquoted(at)
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	case s.pos == len(s.text):
		return errUnexpected
	default:
		return errSyntax
	}
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.text[s.pos:], []byte(word)) {
		return errSyntax
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	switch c := s.peek(); {
	case c == '0':
		s.pos++
	case '1' <= c && c <= '9':
		s.digits()
	default:
		return errSyntax
	}
	if s.peek() == '.' {
		s.pos++
		if s.digits() == 0 {
			return errSyntax
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return errSyntax
		}
	}
	return nil
}

func (s *scanner) digits() int {
	start := s.pos
	for '0' <= s.peek() && s.peek() <= '9' {
		s.pos++
	}
	return s.pos - start
}

// string consumes a string and returns where it stands between its quotes, escapes unchecked.
func (s *scanner) string() (at span, err error) {
	if s.pos == len(s.text) {
		return at, errUnexpected
	}
	if s.text[s.pos] != '"' {
		return at, errSyntax
	}
	start := s.pos + 1
	for i := start; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.pos = i + 1
			at.start, at.end = int32(start), int32(i)
			return at, nil
		case c == '\\':
			at.escaped = true
			i++ // whatever it escapes, it is not the closing quote
		case c < 0x20:
			return at, errSyntax
		}
	}
	return at, errUnexpected
}

// unquote resolves the escapes of a string that the scanner found, given without its quotes. Text without escapes is
// returned as it is, not copied.
func unquote(raw []byte) ([]byte, error) {
	i := bytes.IndexByte(raw, '\\')
	if i < 0 {
		return raw, nil
	}
	out := append(make([]byte, 0, len(raw)), raw[:i]...)
	for i < len(raw) {
		c := raw[i]
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		if i+1 == len(raw) {
			return nil, errSyntax
		}
		i++
		switch raw[i] {
		case '"', '\\', '/':
			out = append(out, raw[i])
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := hex4(raw[i+1:])
			if !ok {
				return nil, errSyntax
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low, ok := lowSurrogate(raw[i+1:])
				if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
					return nil, errSurrogate
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			return nil, errSyntax
		}
		i++
	}
	return out, nil
}

func lowSurrogate(text []byte) (rune, bool) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	return hex4(text[2:])
}

func hex4(text []byte) (rune, bool) {
	if len(text) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range text[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
