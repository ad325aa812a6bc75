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

// fewNames is how many member names of one object are compared one by one; an object with more gets a map, so that a
// token of the largest size cannot buy a quadratic scan.
const fewNames = 24

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
	return (&scanner{text: text}).document(visit)
}

// scanLenient is scanObject for an object whose values are judged one by one: it minds duplicate names only in the
// outermost object.
func scanLenient(text []byte, visit func(name, value []byte)) error {
	return (&scanner{text: text, lenient: true}).document(visit)
}

type scanner struct {
	text    []byte
	pos     int
	names   [][]byte // the names of all objects that are open, innermost last
	lenient bool     // duplicate names matter only in the outermost object
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
	first := len(s.names)
	defer func() { s.names = s.names[:first] }()
	var seen map[string]struct{} // used once the object has more than fewNames members
	for {
		raw, err := s.string()
		if err != nil {
			return err
		}
		name, err := unquote(raw)
		if err != nil {
			return err
		}
		if depth == 1 || !s.lenient {
			if seen, err = s.unique(first, seen, name); err != nil {
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
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// unique notes name as a member of the object whose names begin at first, and refuses it if that object has it already.
func (s *scanner) unique(first int, seen map[string]struct{}, name []byte) (map[string]struct{}, error) {
	open := s.names[first:]
	if seen == nil && len(open) < fewNames {
		for _, other := range open {
			if bytes.Equal(other, name) {
				return nil, errDuplicate
			}
		}
		s.names = append(s.names, name)
		return nil, nil
	}
	if seen == nil {
		seen = make(map[string]struct{}, 4*fewNames)
		for _, other := range open {
			seen[string(other)] = struct{}{}
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
		raw, err := s.string()
		if err != nil {
			return err
		}
		return checkEscapes(raw)
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

// string consumes a string and returns what stands between its quotes, escapes unchecked.
func (s *scanner) string() ([]byte, error) {
	if s.pos == len(s.text) {
		return nil, errUnexpected
	}
	if s.text[s.pos] != '"' {
		return nil, errSyntax
	}
	start := s.pos + 1
	for i := start; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.pos = i + 1
			return s.text[start:i], nil
		case c == '\\':
			i++ // whatever it escapes, it is not the closing quote
		case c < 0x20:
			return nil, errSyntax
		}
	}
	return nil, errUnexpected
}

func checkEscapes(raw []byte) error {
	if bytes.IndexByte(raw, '\\') < 0 {
		return nil
	}
	_, err := unquote(raw)
	return err
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
