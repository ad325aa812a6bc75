package authn

import (
	"encoding/base64"
	"errors"
	"strings"
)

// maxToken is the longest token in bytes. Caddy itself takes 16 KiB for all headers of a request.
const maxToken = 8 << 10

// A token is a JWS in compact serialization (RFC 7515 section 7.1) whose shape was checked and whose payload was read.
// Nothing in it is true before its signature was checked.
type token struct {
	signed    string // header and payload as they were received: what the signature covers
	header    header
	payload   []byte
	signature []byte
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
	if len(text) > maxToken {
		return nil, reject(TokenTooLarge, "the token is longer than 8 KiB")
	}
	first, last, rej := splitCompact(text)
	if rej != nil {
		return nil, rej
	}
	t := &token{signed: text[:last]}
	rawHeader, err := decodeSegment(text[:first])
	if err != nil {
		return nil, reject(TokenMalformed, "the header "+err.Error())
	}
	if t.payload, err = decodeSegment(text[first+1 : last]); err != nil {
		return nil, reject(TokenMalformed, "the payload "+err.Error())
	}
	if t.signature, err = decodeSegment(text[last+1:]); err != nil {
		return nil, reject(TokenMalformed, "the signature "+err.Error())
	}
	if t.header, rej = parseHeader(rawHeader); rej != nil {
		return nil, rej
	}
	return t, nil
}

// splitCompact returns the places of the two dots of a compact JWS.
func splitCompact(text string) (first, last int, _ *Rejection) {
	dots := 0
	for i := range len(text) {
		switch c := text[i]; {
		case base64URL(c):
		case c == '.':
			dots++
			if dots == 1 {
				first = i
			}
			last = i
		case c == '{':
			return 0, 0, reject(TokenMalformed, "the token is JSON, not the compact serialization of three segments with dots between them")
		case c == '=':
			return 0, 0, reject(TokenMalformed, "the token has base64 padding (=), which a compact JWS leaves out")
		case c == '+' || c == '/':
			return 0, 0, reject(TokenMalformed, "the token is encoded with the standard base64 alphabet (+ /) instead of base64url (- _)")
		case c == ' ' || c == '\t':
			return 0, 0, reject(TokenMalformed, "the token has a blank in it; was a scheme name, or a second token, sent along?")
		case c == '"' || c == '\'':
			return 0, 0, reject(TokenMalformed, "the token has quotes around it or in it")
		default:
			return 0, 0, reject(TokenMalformed, "the token has a character that base64url does not have")
		}
	}
	switch dots {
	case 2:
		return first, last, nil
	case 4:
		return 0, 0, reject(TokenMalformed, "the token has five segments: it is encrypted (JWE), and only signed tokens are taken")
	case 0:
		return 0, 0, reject(TokenMalformed, "the token has one segment instead of three; was only a part of it sent?")
	case 1:
		return 0, 0, reject(TokenMalformed, "the token has two segments instead of three; was the signature cut off?")
	default:
		return 0, 0, reject(TokenMalformed, "the token does not have exactly three segments")
	}
}

func base64URL(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

var (
	errEmptySegment = errors.New("segment is empty")
	errBase64       = errors.New("segment has a length or last character that base64url cannot have; was a character lost?")
)

// decodeSegment decodes one segment whose characters were checked. Strict refuses trailing bits that are not zero: with
// them, one signed token could be written in several ways.
func decodeSegment(segment string) ([]byte, error) {
	if segment == "" {
		return nil, errEmptySegment
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, errBase64
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
	err := scanObject(text, func(name, value []byte) {
		switch string(name) {
		case "alg":
			h.alg, _ = stringValue(value) // what is no string equals no pinned algorithm
		case "kid":
			if h.kid, h.hasKID = stringValue(value); !h.hasKID {
				refuse("the header's kid is not a string")
			}
		case "typ":
			typ, ok := stringValue(value)
			if !ok || !strings.EqualFold(typ, "JWT") && !strings.EqualFold(typ, "at+jwt") {
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

// stringValue returns the text of a JSON string, and false for any other value. The value was checked by scanObject.
func stringValue(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	text, err := unquote(value[1 : len(value)-1])
	if err != nil {
		return "", false
	}
	return string(text), true
}
