package authn

import (
	"encoding/base64"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// MaxToken is the longest token in bytes. Caddy itself takes 16 KiB for all headers of a request.
const MaxToken = 8 << 10

// maxHeader is the longest JOSE header in bytes, as it is in the token. Every client can have it read: it comes before the
// signature. One or two certificates in an x5c, which some login servers send along, fit.
const maxHeader = 4 << 10

// A token is a JWS in compact serialization (RFC 7515 section 7.1) whose form was checked and whose header was read.
// Nothing in it is true before its signature was checked, and nobody looks into the payload before that.
type token struct {
	signed    string // header and payload as they were received: what the signature covers
	first     string // the header, encoded
	second    string // the payload, encoded
	header    header
	signature []byte
	decoded   []byte // the header, and then the payload, once it was needed
	known     *rememberedHeader
}

// tokens keeps the memory of tokens for others. A verification needs about as much of it as it needs for everything else.
var tokens = sync.Pool{New: func() any { return new(token) }}

// release ends the use of t, and of all that points into it. Nothing of a token is left for the next one.
func (t *token) release() {
	clear(t.signature)
	clear(t.decoded)
	*t = token{signature: t.signature[:0], decoded: t.decoded[:0]}
	tokens.Put(t)
}

// A header is what we read of a JOSE header. Members that could move trust into the token (jwk, jku, x5u, x5c) are not
// read at all.
type header struct {
	alg    string
	kid    string
	hasKID bool
}

// parseToken reads text strictly. It comes before any cryptography, so that text with two readings is never verified
// under one and used under the other.
func parseToken(text string) (*token, *Rejection) {
	t := new(token)
	return t, t.parse(text)
}

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

// payload returns the decoded payload, which is there as long as t is.
func (t *token) payload() (_ []byte, err error) {
	t.decoded, err = decodeSegment(t.decoded[:0], t.second)
	return t.decoded, err
}

// splitCompact returns the places of the two dots of a compact JWS.
func splitCompact(text string) (first, last int, _ *Rejection) {
	first, last = strings.IndexByte(text, '.'), strings.LastIndexByte(text, '.')
	if first < last && isBase64URL(text[:first]) && isBase64URL(text[first+1:last]) && isBase64URL(text[last+1:]) {
		return first, last, nil
	}
	return 0, 0, reject(TokenMalformed, whyNotCompact(text))
}

// whyNotCompact says what keeps text from being three segments of base64url.
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
			return "the token has a blank in it; was a scheme name, or a second token, sent along?"
		case c == ':':
			return "the token has a colon in it; was a scheme with a colon behind it, or the name of a header, sent along?"
		case c == '"' || c == '\'':
			return "the token has quotes around it or in it"
		default:
			return "the token has a character that base64url does not have"
		}
	}
	switch strings.Count(text, ".") {
	case 4:
		return "the token has five segments: it is encrypted (JWE), and only signed tokens are taken"
	case 0:
		return "the token has one segment instead of three; was only a part of it sent?"
	case 1:
		return "the token has two segments instead of three; was the signature cut off?"
	default:
		return "the token does not have exactly three segments"
	}
}

// isBase64URL looks at all characters without stopping at the first that is wrong: nearly always none is.
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

// base64Values holds the value of each character of base64url (RFC 4648 section 5), and 64 for all others.
var base64Values = func() (values [256]byte) {
	for c := range values {
		values[c] = 64
	}
	for value, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		values[c] = byte(value)
	}
	return values
}()

var (
	errEmptySegment = errors.New("segment is empty")
	errBase64       = errors.New("segment has a length or last character that base64url cannot have; was a character lost?")
)

// checkSegment finds what decodeSegment would refuse in a segment whose characters were checked: a length that base64
// cannot have, and trailing bits that are not zero. With such bits, one signed token could be written in several ways.
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

// parseHeader reads the JOSE header and refuses the members that change what a signature means: crit (RFC 7515 section
// 4.1.11, we understand no extension), b64 (RFC 7797), zip and enc (RFC 7516).
func parseHeader(text []byte) (h header, rej *Rejection) {
	refuse := func(reason string) {
		if rej == nil {
			rej = reject(TokenMalformed, reason)
		}
	}
	err := strictjson.Object(text, func(name, value []byte) {
		switch string(name) {
		case "alg":
			h.alg, _ = strictjson.String(value) // a value that is not a string equals no allowed algorithm
		case "kid":
			if h.kid, h.hasKID = strictjson.String(value); !h.hasKID {
				refuse("the header's kid is not a string")
			}
		case "typ":
			typ, ok := strictjson.String(value)
			if !ok || !ascii.EqualFold(typ, "JWT") && !ascii.EqualFold(typ, "at+jwt") {
				refuse("the header's typ is neither JWT nor at+jwt")
			}
		case "crit":
			refuse("the header has crit: no critical extension is understood here (RFC 7515 section 4.1.11)")
		case "b64":
			refuse("the header has b64: unencoded payloads are not taken (RFC 7797)")
		case "zip":
			refuse("the header has zip: compressed tokens are not taken")
		case "enc":
			refuse("the header has enc: encrypted tokens are not taken")
		}
	})
	if err != nil {
		return header{}, reject(TokenMalformed, "the header "+err.Error())
	}
	return h, rej
}

const (
	// rememberedHeaders is a power of two. A site has one header for each of its keys.
	rememberedHeaders = 256

	// maxRememberedHeader is the longest encoded header that is remembered, in bytes.
	maxRememberedHeader = 256
)

// headers remembers what was read of the newest headers: the tokens of one site have the same few, again and again, and a
// flood of forged ones has one too. What a header says depends on nothing but its text, so that it does not matter who sent
// it. Each has one place where it can stand, and takes it from the one before; but one that no signed token had yet leaves
// those alone that one had, so that nobody can crowd them out with headers that are made up.
var headers [rememberedHeaders]atomic.Pointer[rememberedHeader]

type rememberedHeader struct {
	segment string
	header  header
	signed  bool // a token with a valid signature had it
}

var headerSeed = maphash.MakeSeed()

func headerPlace(segment string) *atomic.Pointer[rememberedHeader] {
	return &headers[maphash.String(headerSeed, segment)%rememberedHeaders]
}

// readHeader is parseHeader for the encoded header of t.
func (t *token) readHeader() *Rejection {
	var place *atomic.Pointer[rememberedHeader]
	var known *rememberedHeader
	if len(t.first) <= maxRememberedHeader {
		place = headerPlace(t.first)
		if known = place.Load(); known != nil && known.segment == t.first {
			t.header, t.known = known.header, known
			return nil
		}
	}
	var err error
	if t.decoded, err = decodeSegment(t.decoded[:0], t.first); err != nil {
		return reject(TokenMalformed, "the header "+err.Error())
	}
	var rej *Rejection
	if t.header, rej = parseHeader(t.decoded); rej != nil {
		return rej
	}
	if place != nil && (known == nil || !known.signed) {
		place.Store(t.rememberedHeader(false))
	}
	return nil
}

// noteSigned remembers the header of t, whose signature is valid.
func (t *token) noteSigned() {
	if len(t.first) <= maxRememberedHeader && (t.known == nil || !t.known.signed) {
		headerPlace(t.first).Store(t.rememberedHeader(true))
	}
}

func (t *token) rememberedHeader(signed bool) *rememberedHeader {
	return &rememberedHeader{strings.Clone(t.first), t.header, signed} // a part of the text would keep the whole token in memory
}
