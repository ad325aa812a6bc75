package strictjson

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// String returns the text of a JSON string, and false for any other value. The value was checked by Object.
func String(value []byte) (string, bool) {
	text, ok := Bytes(value)
	return string(text), ok
}

// Bytes is String without a copy if the string has no escapes, for text that is only compared.
func Bytes(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	raw := value[1 : len(value)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, true
	}
	text, err := appendUnquoted(make([]byte, 0, len(raw)), raw)
	return text, err == nil
}

// unquoted returns the string at a place, unescaped. It is valid until the next call.
func (s *scanner) unquoted(at span) (_ []byte, err error) {
	raw := s.text[at.start:at.end]
	if !at.escaped {
		return raw, nil
	}
	s.scratch, err = appendUnquoted(s.scratch[:0], raw)
	return s.scratch, err
}

// string consumes a string and returns where it is between its quotes. It does not check the escapes.
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

// appendUnquoted appends raw to out, unescaped. It reads on after a lone surrogate, so that errSurrogate says that nothing else is
// wrong.
func appendUnquoted(out, raw []byte) (_ []byte, err error) {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		if i+1 == len(raw) {
			return out, errSyntax
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
				return out, errSyntax
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low, ok := lowSurrogate(raw[i+1:])
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					i += 6
				} else {
					r, err = utf8.RuneError, errSurrogate
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			return out, errSyntax
		}
		i++
	}
	return out, err
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
	return ascii.Hex(text[:4])
}

// IsNull reports whether a value that was checked by Object is null.
func IsNull(value []byte) bool { return value[0] == 'n' }
