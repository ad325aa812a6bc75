package authn

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// A header is what we read of a JOSE header. Members that could move trust into the token (jwk, jku, x5u, x5c) are not
// read at all.
type header struct {
	alg       string
	algorithm sigkey.Algorithm // the algorithm that alg names; zero if the gateway does not know it
	kid       string
	hasKID    bool
	typ       string // as TypeOf returns it
	hasTyp    bool
}

// TypeOf returns the type of token that a typ names, as types are compared: typ is a media type in any case, whose prefix is usually
// left out (RFC 7515 section 4.1.9).
func TypeOf(typ string) string {
	for _, usual := range [...]string{"jwt", "at+jwt"} { // without an allocation
		if ascii.EqualFold(typ, usual) {
			return usual
		}
	}
	typ = ascii.Lower(typ)
	if rest := strings.TrimPrefix(typ, "application/"); !strings.Contains(rest, "/") {
		return rest
	}
	return typ
}

// IsContactType reports whether a token of this type, as TypeOf returns it, may be a contact's if the messenger does not name a type.
// JOSE only says what the compact form says already. Tokens for other purposes are refused, such as logout+jwt, dpop+jwt and
// secevent+jwt, because their issuers sign them with the same keys (RFC 8725 section 3.11).
func IsContactType(typ string) bool { return typ == "jwt" || typ == "at+jwt" || typ == "jose" }

// checkType refuses a token that was made for another purpose, as far as its header says so. Where the messenger names a type,
// the header has to name the same.
func (h *header) checkType(named string) *Rejection {
	switch {
	case named == "" && (!h.hasTyp || IsContactType(h.typ)), named != "" && h.hasTyp && h.typ == named:
		return nil
	case named == "":
		return reject(TokenMalformed, "the header's typ is neither JWT nor at+jwt")
	case !h.hasTyp:
		return &Rejection{Code: TokenMalformed, Reason: "the header does not have a typ, and the messenger has a token_type", Cause: cause.TypeMissing}
	}
	return &Rejection{Code: TokenMalformed, Reason: "the header's typ is not the messenger's token_type", Cause: cause.TypeOther}
}

// parseHeader reads the JOSE header and refuses the members that change what a signature means: crit (RFC 7515 section
// 4.1.11; we do not support any extension), b64 (RFC 7797), zip and enc (RFC 7516).
func parseHeader(text []byte) (h header, rej *Rejection) {
	refuse := func(reason string) {
		if rej == nil {
			rej = reject(TokenMalformed, reason)
		}
	}
	err := strictjson.Object(text, func(name, value []byte) {
		switch string(name) {
		case "alg":
			h.alg, _ = strictjson.String(value) // "" if it is not a string, which names no algorithm
			h.algorithm, _ = sigkey.ParseAlgorithm(h.alg)
		case "kid":
			if h.kid, h.hasKID = strictjson.String(value); !h.hasKID {
				refuse("the header's kid is not a string")
			}
		case "typ":
			typ, ok := strictjson.String(value)
			if h.typ, h.hasTyp = TypeOf(typ), true; !ok {
				refuse("the header's typ is not a string")
			}
		case "crit":
			refuse("the header has crit: critical extensions are not supported (RFC 7515 section 4.1.11)")
		case "b64":
			refuse("the header has b64: unencoded payloads are not accepted (RFC 7797)")
		case "zip":
			refuse("the header has zip: compressed tokens are not accepted")
		case "enc":
			refuse("the header has enc: encrypted tokens are not accepted")
		}
	})
	if err != nil {
		return header{}, reject(TokenMalformed, "the header "+err.Error())
	}
	return h, rej
}

const (
	// rememberedHeaders is the number of slots, a power of two. A site has one header for each of its keys.
	rememberedHeaders = 256

	// maxRememberedHeader is the longest encoded header that is remembered, in bytes.
	maxRememberedHeader = 256
)

// headers remembers the results of parseHeader for the newest headers. The tokens of one site have the same few headers again and
// again, and so do the tokens of a flood. The result depends only on the text of the header, and not on its sender.
//
// A header has one slot, by its hash, and replaces the header that is there. But a header of invalid tokens only does not replace the
// header of a valid token, so an attacker cannot evict the headers of sites with invented ones.
var headers [rememberedHeaders]atomic.Pointer[rememberedHeader]

type rememberedHeader struct {
	segment string
	header  header
	signed  bool // a token with a valid signature had it
}

var headerSeed = maphash.MakeSeed()

func headerSlot(segment string) *atomic.Pointer[rememberedHeader] {
	return &headers[maphash.String(headerSeed, segment)%rememberedHeaders]
}

// readHeader is parseHeader for the encoded header of t.
func (t *token) readHeader() *Rejection {
	var slot *atomic.Pointer[rememberedHeader]
	var known *rememberedHeader
	if len(t.first) <= maxRememberedHeader {
		slot = headerSlot(t.first)
		if known = slot.Load(); known != nil && known.segment == t.first {
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
	if slot != nil && (known == nil || !known.signed) {
		slot.Store(t.rememberedHeader(false))
	}
	return nil
}

// rememberSigned remembers the header of t, whose signature is valid.
func (t *token) rememberSigned() {
	if len(t.first) <= maxRememberedHeader && (t.known == nil || !t.known.signed) {
		headerSlot(t.first).Store(t.rememberedHeader(true))
	}
}

func (t *token) rememberedHeader(signed bool) *rememberedHeader {
	return &rememberedHeader{strings.Clone(t.first), t.header, signed} // a part of the text would keep the whole token in memory
}
