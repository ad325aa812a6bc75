package authn

import (
	"encoding/base64"
	"errors"
	"strings"
	"sync"
)

// MaxToken is the longest token in bytes. Caddy itself takes 16 KiB for all headers of a request.
const MaxToken = 8 << 10

// maxHeader is the longest JOSE header in bytes, encoded as in the token. It is read before the signature is checked, so every
// client can make us read it. One or two certificates in an x5c, which some login servers add, fit.
const maxHeader = 4 << 10

// A token is a JWS in compact serialization (RFC 7515 section 7.1) whose form was checked and whose header was read. Before the
// signature is checked, nothing in it can be trusted, and the payload is not decoded.
type token struct {
	signed    string // header and payload as they were received: what the signature covers
	first     string // the header, encoded
	second    string // the payload, encoded
	header    header
	signature []byte
	decoded   []byte // the header, and later the payload in its place
	known     *rememberedHeader
}

// tokens reuses the memory of tokens, which is about half of what a verification allocates otherwise.
var tokens = sync.Pool{New: func() any { return new(token) }}

// release returns t for reuse. Whatever points into it is invalid from now on, and its bytes are cleared: no later mistake can
// make a part of one contact's token appear in another's.
func (t *token) release() {
	clear(t.signature)
	clear(t.decoded)
	*t = token{signature: t.signature[:0], decoded: t.decoded[:0]}
	tokens.Put(t)
}

// parse reads text strictly. It comes before any cryptography, so that text with two readings is never verified in one and used
// in the other. The cheap checks of the length and the alphabet come first, since anyone can send any text.
func (t *token) parse(text string) *Rejection {
	if len(text) > MaxToken {
		return reject(TokenTooLarge, "the token is longer than 8 KiB")
	}
	first, last, rej := splitCompact(text)
	if rej != nil {
		return rej
	}
	t.signed, t.first, t.second = text[:last], text[:first], text[first+1:last]
	if len(t.first) > maxHeader {
		return reject(TokenTooLarge, "the token's header is longer than 4 KiB")
	}
	if err := checkSegment(t.first); err != nil {
		return reject(TokenMalformed, "the header "+err.Error())
	}
	if err := checkSegment(t.second); err != nil {
		return reject(TokenMalformed, "the payload "+err.Error())
	}
	var err error
	if t.signature, err = decodeSegment(t.signature[:0], text[last+1:]); err != nil {
		return reject(TokenMalformed, "the signature "+err.Error())
	}
	return t.readHeader()
}

// payload returns the decoded payload, which is valid until t is released.
func (t *token) payload() (_ []byte, err error) {
	t.decoded, err = decodeSegment(t.decoded[:0], t.second)
	return t.decoded, err
}

// splitCompact returns the indexes of the two dots of a compact JWS.
func splitCompact(text string) (first, last int, _ *Rejection) {
	first, last = strings.IndexByte(text, '.'), strings.LastIndexByte(text, '.')
	if first < last && isBase64URL(text[:first]) && isBase64URL(text[first+1:last]) && isBase64URL(text[last+1:]) {
		return first, last, nil
	}
	return 0, 0, reject(TokenMalformed, whyNotCompact(text))
}

// whyNotCompact says why text is not three segments of base64url.
func whyNotCompact(text string) string {
	for i := range len(text) {
		switch c := text[i]; {
		case base64Values[c] < 64 || c == '.':
		case c == '{':
			return "the token is JSON, not the compact serialization of three segments with dots between them"
		case c == '=':
			return "the token has base64 padding (=), which a compact JWS leaves out"
		case c == '+' || c == '/':
			return "the token is encoded with the standard base64 alphabet (+ /) instead of base64url (- _)"
		case c == ' ' || c == '\t':
			return "the token has a blank in it; was it sent with a scheme name or a second token?"
		case c == ':':
			return "the token has a colon in it; was it sent with a scheme and a colon, or with a header's name?"
		case c == '"' || c == '\'':
			return "the token has quotes around it or in it"
		default:
			return "the token has a character that base64url does not have"
		}
	}
	switch strings.Count(text, ".") {
	case 4:
		return "the token has five segments instead of three, as encrypted tokens (JWE) have; only signed ones are accepted"
	case 0:
		return "the token has one segment instead of three; was only a part of it sent?"
	case 1:
		return "the token has two segments instead of three; was the signature cut off?"
	default:
		return "the token does not have exactly three segments"
	}
}

// isBase64URL looks at all characters, eight at a time and without a branch for each: nearly always all of them are valid.
func isBase64URL(text string) bool {
	var bits byte
	for ; len(text) >= 8; text = text[8:] {
		bits |= base64Values[text[0]] | base64Values[text[1]] | base64Values[text[2]] | base64Values[text[3]] |
			base64Values[text[4]] | base64Values[text[5]] | base64Values[text[6]] | base64Values[text[7]]
	}
	for i := range len(text) {
		bits |= base64Values[text[i]]
	}
	return bits < 64
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// base64Values are the values of the characters of base64url (RFC 4648 section 5), and 64 for all others.
var base64Values = func() (values [256]byte) {
	for c := range values {
		values[c] = 64
	}
	for value, c := range []byte(base64Alphabet) {
		values[c] = byte(value)
	}
	return values
}()

var (
	errEmptySegment = errors.New("segment is empty")
	errBase64       = errors.New("segment has a length or last character that is impossible in base64url; was a character lost?")
)

// checkSegment finds what decodeSegment would refuse in a segment whose characters were checked, without decoding it: a length
// that base64 cannot have, and trailing bits that are not zero. With such bits, one signed token could be written in several ways,
// and would have several fingerprints and cache entries.
func checkSegment(segment string) error {
	if segment == "" {
		return errEmptySegment
	}
	last := base64Values[segment[len(segment)-1]]
	switch len(segment) % 4 {
	case 1:
		return errBase64
	case 2:
		if last&15 != 0 {
			return errBase64
		}
	case 3:
		if last&3 != 0 {
			return errBase64
		}
	}
	return nil
}

// strictBase64 refuses trailing bits that are not zero.
var strictBase64 = base64.RawURLEncoding.Strict()

// decodeSegment appends the decoded bytes of one segment to decoded. The characters of the segment were checked.
func decodeSegment(decoded []byte, segment string) ([]byte, error) {
	if segment == "" {
		return decoded, errEmptySegment
	}
	decoded, err := strictBase64.AppendDecode(decoded, bytesOf(segment))
	if err != nil {
		return decoded, errBase64
	}
	return decoded, nil
}
