package strictjson

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Pointer is the place of a value inside an object (RFC 6901): the names of members, and the indexes of elements, from the
// outside in. It has at least one.
type Pointer []string

// ParsePointer reads a JSON Pointer. The empty one, which is the whole object, is an error. Errors continue a sentence that begins
// with the pointer.
func ParsePointer(text string) (Pointer, error) {
	switch {
	case text == "":
		return nil, errors.New("is empty; write a JSON Pointer such as /user/id")
	case text[0] != '/':
		return nil, errors.New("does not begin with a slash, as a JSON Pointer does: /user/id")
	case !utf8.ValidString(text):
		return nil, errors.New("is not valid UTF-8")
	}
	path := Pointer(strings.Split(text[1:], "/"))
	if len(path) > MaxDepth {
		return nil, errors.New("is deeper than tokens are read")
	}
	for i := range len(text) {
		if rest := text[i:]; rest[0] == '~' && !strings.HasPrefix(rest, "~0") && !strings.HasPrefix(rest, "~1") {
			return nil, errors.New("has a ~ that is neither ~0, which is ~, nor ~1, which is /")
		}
	}
	for i, name := range path {
		path[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return path, nil
}

// Find returns the value at p inside value, as it was received, or nil if there is none. value is a part of a text that Object
// has checked.
//
// An element of an array is found by its index in decimal digits, without a leading zero, and the index - is never there (RFC 6901
// section 4). In an object the same digits are a name.
func (p Pointer) Find(value []byte) []byte {
	for _, name := range p {
		if len(value) == 0 {
			return nil
		}
		switch value[0] {
		case '{':
			value = member(value, name)
		case '[':
			value = element(value, name)
		default:
			return nil
		}
	}
	return value
}

// member returns the value of a member of an object. Names differ, which Object has checked.
func member(object []byte, name string) (found []byte) {
	_ = Lenient(object, func(member, value []byte) {
		if string(member) == name {
			found = value
		}
	})
	return found
}

// element returns the element of an array with this index.
func element(array []byte, index string) []byte {
	n, err := strconv.Atoi(index)
	if err != nil || strconv.Itoa(n) != index || n < 0 {
		return nil
	}
	s := scanner{text: array}
	defer s.release()
	if s.expect('[') != nil || s.peek() == ']' {
		return nil
	}
	for ; ; n-- {
		start := s.pos
		if s.value(1) != nil {
			return nil
		}
		if n == 0 {
			return array[start:s.pos]
		}
		if s.expect(',') != nil {
			return nil
		}
	}
}
