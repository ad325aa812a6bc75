package authn

import (
	"bytes"
	"errors"
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
