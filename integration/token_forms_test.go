package integration

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"strings"
	"testing"
)

// segments returns the three parts of the valid token.
func (s *siege) segments() (header, payload, signature string) {
	parts := strings.Split(s.valid, ".")
	return parts[0], parts[1], parts[2]
}

// jsonText writes an object with its members in the order that they are given.
func jsonText(members ...string) string {
	var b bytes.Buffer
	for i := 0; i < len(members); i += 2 {
		value, err := json.Marshal(members[i+1])
		if err != nil {
			panic(err)
		}
		if strings.HasPrefix(members[i+1], "[") || strings.HasPrefix(members[i+1], "{") {
			value = []byte(members[i+1])
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + `"` + members[i] + `":` + string(value))
	}
	return b.String() + "}"
}

// The JSON serialization has room beside what is signed. jwx v2's jwt.Parse verifies the signed part and then takes the
// object around it for the claims: any token of one's own, wrapped, is anybody. Only the compact form is a JWT (RFC 7519
// section 1), and nothing else is read.
func TestOnlyTheCompactFormIsAToken(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		header, payload, signature := s.segments()
		flattened := []string{"payload", payload, "protected", header, "signature", signature}
		for name, text := range map[string]string{
			"flattened":                   jsonText(flattened...),
			"flattened, with an identity": jsonText(append(flattened, "identity", "eve")...),
			"an identity in front":        jsonText(append([]string{"identity", "eve"}, flattened...)...),
			"with an unprotected header":  jsonText(append(flattened, "header", `{"alg":"none"}`)...),
			"general":                     jsonText("payload", payload, "signatures", "["+jsonText("protected", header, "signature", signature)+"]"),
			"general, with an identity":   jsonText("payload", payload, "signatures", "["+jsonText("protected", header, "signature", signature)+"]", "identity", "eve"),
			"a second signature":          jsonText("payload", payload, "signatures", "["+jsonText("protected", header, "signature", "")+","+jsonText("protected", header, "signature", signature)+"]"),
			"behind a blank":              " " + jsonText(flattened...),
			"in a JSON string":            `"` + s.valid + `"`,
			"in an array":                 `["` + s.valid + `"]`,
			"the encoded object":          b64(jsonText(append(flattened, "identity", "eve")...)),
		} {
			s.refuses(t, name, text, "token_malformed")
		}
	})
}

// A token in a token: a verifier that unpacks until it finds claims verifies the outer signature and trusts the inner text, or
// the other way around. A JWE has five segments; decrypting the texts of attackers invites oracles, bombs (CVE-2024-28180, zip)
// and billions of PBES2 rounds (p2c, CVE-2023-50658). We do none of that (RFC 8725 sections 3.3 and 3.6).
func TestNestedEncryptedAndCompressedTokens(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		header, payloadPart, signature := s.segments()
		for name, text := range map[string]string{
			"a JWS in a JWS":              s.genuine(`{"alg":"ALG","cty":"JWT"}`, s.valid),
			"a JWS in a JWS, without cty": s.genuine(plainHeader, s.valid),
			"a JWS in a JWS in a JWS":     s.genuine(plainHeader, s.genuine(plainHeader, s.valid)),
			"a JWE":                       b64(`{"alg":"RSA-OAEP","enc":"A256GCM"}`) + ".a2V5.aXY.dGV4dA.dGFn",
			"a JWE with direct key":       b64(`{"alg":"dir","enc":"A256GCM"}`) + "..aXY.dGV4dA.dGFn",
			"a JWE with many rounds":      b64(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`) + ".a2V5.aXY.dGV4dA.dGFn",
			"a JWS with enc":              s.genuine(`{"alg":"ALG","enc":"A128GCM"}`, payload("mark")),
			"a JWS with zip":              s.genuine(`{"alg":"ALG","zip":"DEF"}`, deflated(payload("mark"))),
			"a JWS with zip, not zipped":  s.genuine(`{"alg":"ALG","zip":"DEF"}`, payload("mark")),
			"a JWS with no payload":       header + ".." + signature,
			"a detached JWS (RFC 7515 F)": strings.Join([]string{header, "", signature}, "."),
		} {
			s.refuses(t, name, text, "token_malformed")
		}
		inner := jsonText("payload", payloadPart, "protected", header, "signature", signature)
		s.refuses(t, "a JSON JWS in a JWS", s.genuine(plainHeader, inner), "identity_missing") // it is a payload like another
	})
}

func deflated(text string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// "crit" says: do not accept what you do not understand (RFC 7515 section 4.1.11). Libraries that do not read it accept
// a token under rules other than its signer's (PyJWT: CVE-2026-32597); b64 (RFC 7797) makes two readings of one
// payload. A gateway without extensions refuses both.
func TestCriticalExtensionsAreRefused(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		for _, members := range []string{
			`"crit":["exp"],"exp":1`, `"crit":[]`, `"crit":null`, `"crit":"b64"`, `"crit":["alg"]`, `"crit":["nothing"]`, `"crit":["http://example.com/x"],"http://example.com/x":true`,
			`"b64":false,"crit":["b64"]`, `"b64":false`, `"b64":true`, `"b64":"x"`, `"\u0062\u0036\u0034":false`, `"c\u0072it":["b64"]`,
		} {
			s.refuses(t, strings.ReplaceAll(members, `"`, "'"), s.genuine(`{"alg":"ALG",`+members+`}`, payload("mark")), "token_malformed")
		}
	})
}

// One token, several texts: a list of revoked or cached tokens knows one of them, and the attacker sends another
// (malleability). base64 as libraries read it has many spellings of the same bytes (RFC 7515 section 2 allows one).
func TestNonCanonicalTokensAreRefused(t *testing.T) {
	besiege(t, func(t *testing.T, s *siege) {
		header, payload, signature := s.segments()
		join := func(parts ...string) string { return strings.Join(parts, ".") }
		for name, text := range map[string]string{
			"padding behind the header":    join(header+"=", payload, signature),
			"padding behind the payload":   join(header, payload+"==", signature),
			"padding behind the signature": join(header, payload, signature+"="),
			"two dots at the end":          s.valid + "..",
			"a dot in front":               "." + s.valid,
			"a fourth segment":             s.valid + "." + signature,
			"one dot":                      join(header, payload),
			"no dot":                       header + payload + signature,
			"nothing but dots":             "..",
			"a line break in the header":   header[:4] + "\n" + header[4:] + "." + join(payload, signature),
			"a line break at the end":      s.valid + "\n",
			"CRLF in the signature":        join(header, payload, signature[:9]+"\r\n"+signature[9:]),
			"a blank in front":             " " + s.valid,
			"a blank behind":               s.valid + " ",
			"a tab behind":                 s.valid + "\t",
			"a no-break space behind":      s.valid + "\u00a0",
			"an em space in front":         "\u2003" + s.valid,
			"a byte order mark in front":   "\ufeff" + s.valid,
			"a zero-width space inside":    header + "\u200b." + join(payload, signature),
			"a full stop of another width": header + "\uff0e" + join(payload, signature),
			"a letter of another width":    "\uff45" + s.valid[1:],
			"NUL behind":                   s.valid + "\x00",
			"in quotes":                    `"` + s.valid + `"`,
			"in single quotes":             "'" + s.valid + "'",
			"its scheme twice":             "Bearer " + s.valid,
			"percent-encoded once more":    strings.Replace(s.valid, ".", "%2E", 1),
			"a comma and another token":    s.valid + "," + s.valid,
		} {
			s.refuses(t, name, text, "token_malformed")
		}
		last := signature[len(signature)-1]
		for _, other := range trailing(last) {
			s.refuses(t, "other bits behind the signature", join(header, payload, signature[:len(signature)-1]+string(other)), "token_malformed")
		}
		standard := s.withBoth("-", "_")
		s.refuses(t, "+ for -", strings.ReplaceAll(standard, "-", "+"), "token_malformed")
		s.refuses(t, "/ for _", strings.ReplaceAll(standard, "_", "/"), "token_malformed")
	})
}

// trailing returns the characters that stand for the same bits as c, as far as they count at the end of a signature of
// 32 or 256 bytes, and for others in those that do not count.
func trailing(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, c)
	return alphabet[i+1 : i+4] // at least two bits of the last character do not count, and are zero
}

// withBoth returns a valid token that has both characters.
func (s *siege) withBoth(a, b string) string {
	for n := 0; ; n++ {
		text := sign(s.key, with(valid("mark"), claims{"n": n}))
		if strings.Contains(text, a) && strings.Contains(text, b) {
			return text
		}
	}
}
