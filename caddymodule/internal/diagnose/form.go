package diagnose

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// findForm examines a text that is not a token, or a token of another type than the messenger names. known is the cause that the
// verifier has found, if any.
func (f *finder) findForm(known cause.Cause, header string) {
	switch known {
	case cause.TypeMissing:
		f.add(known, "it is %q", f.policy.TokenType)
	case cause.TypeOther:
		typ := "another one"
		if sent := authn.TypeOf(text(decodedObject(header), "typ")); authn.IsContactType(sent) { // any other may be a secret
			typ = strconv.Quote(sent)
		}
		f.add(known, "the typ is %s; configured is %q", typ, f.policy.TokenType)
	case cause.None:
		if c := formOf(f.text); c != cause.None {
			f.add(c, "")
		}
	default:
		f.add(known, "")
	}
}

// formOf returns what a text is that is not a token, or None.
func formOf(text string) cause.Cause {
	if c := emptyOf(text); c != cause.None {
		return c
	}
	begins := ascii.Lower(text[:min(len(text), 16)])
	switch {
	case strings.HasPrefix(begins, "authorization:"), strings.HasPrefix(begins, "bearer "), strings.HasPrefix(begins, "bearer:"):
		return cause.TextIsHeader
	case text[0] == ':':
		return cause.SchemeColon
	case strings.HasPrefix(text, sharedtoken.Prefix):
		return cause.TextIsSecret
	case strings.HasPrefix(text, "-----BEGIN"), strings.HasPrefix(begins, "ssh-"):
		return cause.TextIsKey
	case isAround(text):
		return cause.TextAround
	case isAddress(text):
		return cause.TextIsAddress
	case isSeveral(text):
		return cause.TextSeveral
	case text[0] == '{':
		return cause.TextIsJSON
	case text[0] == '"' || text[0] == '\'' || strings.HasPrefix(begins, "%22"):
		return cause.TextQuoted
	case strings.TrimSpace(text) == "":
		return cause.None
	case strings.ContainsAny(text, " \t\r\n"):
		return cause.TextWrapped
	case strings.Contains(text, "="):
		return cause.TextPadded
	case strings.ContainsAny(text, "+/%") && beginsWithObject(text):
		return cause.TextStandardBase64
	}
	segments := strings.SplitN(text, ".", 7)
	switch len(segments) {
	case 1, 2:
		return partOf(segments)
	case 3:
		return damageOf(segments)
	case 4:
		return cause.CharacterLost
	case 5:
		if decodedObject(segments[0])["enc"] != nil { // every JWE has it (RFC 7516 section 4.1.2)
			return cause.TokenEncrypted
		}
	}
	return cause.None // the reason of the rejection is enough
}

// isAround reports whether text has a token in an address, or after a name, such as that of a cookie, of a parameter or of a JSON member.
func isAround(text string) bool {
	at := strings.Index(text, "eyJ")
	if at < 2 {
		return false
	}
	before := strings.TrimRight(text[:at], "\"' \t")
	return strings.HasSuffix(before, "=") && !strings.HasSuffix(before, ".=") || strings.HasSuffix(before, ":") || strings.HasSuffix(before, "/") || isAddress(text)
}

// isAddress reports whether text begins with the scheme of an address, such as wss.
func isAddress(text string) bool {
	scheme, _, found := strings.Cut(text, "://")
	return found && scheme != "" && !strings.ContainsFunc(scheme, func(r rune) bool { return r > 'z' || !ascii.IsLetterOrDigit(byte(r)) })
}

// isSeveral reports whether text has more than one whole token.
func isSeveral(text string) bool {
	whole := 0
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", ;\t\r\n", r) }) {
		if looksLikeToken(part) && strings.Count(part, ".") == 2 {
			whole++
		}
	}
	return whole > 1
}

// beginsWithObject reports whether text begins as a JSON object does in base64, also with white space behind the brace.
func beginsWithObject(text string) bool {
	return strings.HasPrefix(text, "ey") || strings.HasPrefix(text, "ew")
}

// emptyOf recognizes what pages send if they have no token, such as undefined. People may paste it with the scheme in front. An empty
// text is what a request has behind its scheme; white space alone is not from there.
func emptyOf(text string) cause.Cause {
	token := strings.TrimSpace(text)
	if token == "" && text != "" {
		return cause.None
	}
	const scheme = "bearer"
	if len(token) >= len(scheme) && ascii.EqualFold(token[:len(scheme)], scheme) {
		if rest := strings.TrimLeft(token[len(scheme):], " \t"); rest == "" || len(rest) < len(token)-len(scheme) {
			token = rest
		}
	}
	return authn.WhyEmpty(token)
}

// partOf says which part of a token was copied.
func partOf(segments []string) cause.Cause {
	switch part := decodedObject(segments[0]); {
	case part == nil:
		return cause.TokenCut
	case part["alg"] == nil:
		return cause.PayloadAlone
	case len(segments) == 1:
		return cause.HeaderAlone
	}
	return cause.SignatureCut
}

// damageOf returns what is wrong with three segments, of which at least one cannot be read.
func damageOf(segments []string) cause.Cause {
	if segments[2] == "" {
		return cause.SignatureEmpty
	}
	for i, segment := range segments {
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(segment)
		if err != nil || i < 2 && !json.Valid(decoded) {
			return cause.CharacterLost
		}
	}
	if typ := text(decodedObject(segments[0]), "typ"); typ != "" && !authn.IsContactType(authn.TypeOf(typ)) {
		return cause.KindOther
	}
	return cause.None
}

// looksLikeToken reports whether text begins as a JWT does: with a JSON object in base64url.
func looksLikeToken(text string) bool { return strings.HasPrefix(text, "eyJ") }

// looksLikeSecret reports whether text begins as secrets and keys do.
func looksLikeSecret(text string) bool {
	return strings.Contains(text, sharedtoken.Prefix) || strings.Contains(text, "-----BEGIN") || sharedtoken.Resembles(text) != sharedtoken.Raw
}
