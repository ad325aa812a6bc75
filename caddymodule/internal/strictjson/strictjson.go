// Package strictjson reads JSON that every parser reads in the same way (RFC 7493): valid UTF-8, no lone surrogates, no member name
// twice, nothing after the text. Its cost is linear in the size, whatever the shape, because it reads what attackers write.
//
// It passes the bytes of members on as they were received, so that no number is rounded and no text is changed. It knows nothing
// about tokens or keys. Begin reading with [Object].
package strictjson

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// MaxDepth is how deeply objects and arrays may be nested. Claims and keys are flat in practice; the limit bounds the recursion
// of the scanner.
const MaxDepth = 32

var (
	errNotObject  = errors.New("is not a JSON object")
	errSyntax     = errors.New("is not well-formed JSON")
	errTrailing   = errors.New("has text after the JSON object")
	errUTF8       = errors.New("is not valid UTF-8")
	errSurrogate  = errors.New("has an unpaired UTF-16 surrogate in a string")
	errDuplicate  = errors.New("has two members of the same name")
	errTooDeep    = errors.New("is nested too deeply")
	errUnexpected = errors.New("ends too early")
)

// Object checks that text is exactly one JSON object (RFC 8259) that every parser reads in the same way (RFC 7493): valid
// UTF-8, no lone surrogates, no duplicate member names at any level, only white space around it. It calls visit for each
// member of the outermost object, with the name unescaped and the value as it was received; name is valid until visit returns.
// With text that two parsers read differently, a verifier and a backend can see two different contacts in one token.
//
// The cost is linear in the size of text, whatever its shape, because text may come from an attacker. visit can be called before an error
// is found.
func Object(text []byte, visit func(name, value []byte)) error {
	s := scanner{text: text}
	return s.document(ofWhole(visit))
}

// ofWhole is for members that are all whole.
func ofWhole(visit func(name, value []byte)) func(name, value []byte, whole bool) {
	if visit == nil {
		return nil
	}
	return func(name, value []byte, _ bool) { visit(name, value) }
}

// Claims is Object for members of which only some are read. A lone surrogate inside a value, such as of a display name that was cut
// through an emoji, is not an error: visit gets whole = false, and must refuse the value if it is read.
func Claims(text []byte, visit func(name, value []byte, whole bool)) error {
	s := scanner{text: text, surrogates: true}
	return s.document(visit)
}

// Members returns the members of a strictly read JSON object, each as it was received.
func Members(text []byte) (map[string][]byte, error) {
	members := make(map[string][]byte)
	err := Object(text, func(name, value []byte) { members[string(name)] = value })
	return members, err
}

// Lenient is Object for an object whose values are checked one by one afterwards: it refuses duplicate names only in the outermost
// object, so that one bad entry does not make the others unreadable.
func Lenient(text []byte, visit func(name, value []byte)) error {
	s := scanner{text: text, lenient: true}
	return s.document(ofWhole(visit))
}

// Strings calls visit for each string of an array of strings, and returns false if value is anything else. The value
// was checked by Object. text is valid until visit returns.
func Strings(value []byte, visit func(text []byte)) bool {
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
	lenient bool // duplicate names matter only in the outermost object

	surrogates bool // lone surrogates in values are not an error
	lone       bool // the current member of the outermost object has one

	objects  uint32             // how many have begun; each has a number
	few      [2 * FewNames]span // the names of all open objects, innermost last, without an allocation; see unique
	more     []span             // those for which there is no room in few
	open     int                // how many names few and more have together
	table    *nameTable         // the names of large objects; nil if there are none
	unescape []byte             // the names that have escapes, unescaped
	scratch  []byte             // a value that has escapes, unescaped
}

// A span is where a string is between its quotes; for a name that has escapes, where it is in unescape.
type span struct {
	start, end int32
	escaped    bool
}

func (s *scanner) document(visit func(name, value []byte, whole bool)) error {
	defer s.release()
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

// peek returns the next byte, or NUL at the end, with which nothing in JSON begins.
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

// expect consumes c and the white space around it.
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

func (s *scanner) object(depth int, visit func(name, value []byte, whole bool)) error {
	if depth > MaxDepth {
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
	s.objects++
	number := s.objects
	for {
		at, err := s.string()
		if err != nil {
			return err
		}
		if at, err = s.nameAt(at); err != nil {
			return err
		}
		if depth == 1 || !s.lenient {
			if err := s.unique(first, number, at); err != nil {
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
			visit(s.name(at), s.text[start:s.pos], !s.lone)
			s.lone = false
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

func (s *scanner) array(depth int) error {
	if depth > MaxDepth {
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
		if _, err = s.unquoted(at); err == errSurrogate && s.surrogates {
			s.lone = true
			return nil
		}
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
