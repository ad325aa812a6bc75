package diagnose

import (
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

func (f *finder) findAlgorithm() {
	wanted := f.verifier.Algorithms().Text()
	switch alg := text(f.header, "alg"); {
	case alg == "":
		f.add(cause.AlgMissing, "this messenger's method uses %s", wanted)
	case strings.HasPrefix(alg, "http://") || strings.HasPrefix(alg, "https://"):
		f.add(cause.AlgXMLDSig, "this messenger's method uses %s", wanted)
	case ascii.EqualFold(alg, "none"):
		f.add(cause.AlgNone, "this messenger's method uses %s", wanted)
	default:
		f.add(cause.AlgOther, "it is alg %s; this messenger's method uses %s", f.quote(alg), wanted)
	}
}

// findForeign recognizes tokens that were not made for this gateway. The payload is not verified: an attacker can write anything
// into it, and learns nothing from advice that only operators see.
func (f *finder) findForeign() {
	if f.header["nonce"] != nil {
		f.add(cause.NonceOfGraph, "")
		return
	}
	issuers, _ := f.verifier.Issuers()
	if issuer := text(f.payload, "iss"); slices.ContainsFunc(issuers, func(want string) bool { return isOtherEnvironment(issuer, want) }) {
		f.add(cause.OtherEnvironment, "iss is %s; configured is %q", f.quote(issuer), issuers)
	}
}

// isOtherEnvironment reports whether two issuers are URLs that differ in one part of the host, such as login.example.com and
// login.staging.example.com, or example.com and example-test.com.
func isOtherEnvironment(a, b string) bool {
	if len(a) > 2048 || len(b) > 2048 {
		return false
	}
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	if errX != nil || errY != nil || x.Scheme != y.Scheme || strings.TrimSuffix(x.Path, "/") != strings.TrimSuffix(y.Path, "/") {
		return false
	}
	p, q := strings.Split(ascii.Lower(x.Hostname()), "."), strings.Split(ascii.Lower(y.Hostname()), ".")
	if len(p) < 2 || len(q) < 2 {
		return false
	}
	// Equal labels are removed at both ends. The rest is the part in which the hosts differ.
	for len(p) > 0 && len(q) > 0 && p[len(p)-1] == q[len(q)-1] {
		p, q = p[:len(p)-1], q[:len(q)-1]
	}
	common := strings.Count(x.Hostname(), ".") + 1 - len(p)
	for len(p) > 0 && len(q) > 0 && p[0] == q[0] {
		p, q = p[1:], q[1:]
	}
	switch {
	case len(p) > 1 || len(q) > 1 || len(p)+len(q) == 0 || common == 0:
		return false
	case common > 1:
		return true
	}
	// Only the top level domain is common: it is another site, unless one name is the other with something added.
	return len(p) == 1 && len(q) == 1 && len(p[0]) > 2 && len(q[0]) > 2 && (strings.Contains(p[0], q[0]) || strings.Contains(q[0], p[0]))
}

// findLeftOut looks for keys of the messenger's key set that would be used if their algorithm were configured: those for the token's,
// and all of them where nothing else can be used.
func (f *finder) findLeftOut() {
	set := f.verifier.KeySet()
	if set == nil {
		return
	}
	left := make(map[string]int)
	for _, entry := range set.Status().Omitted {
		if entry.Needs != "" {
			left[entry.Needs]++
		}
	}
	sent, _ := sigkey.ParseAlgorithm(text(f.header, "alg"))
	for _, name := range slices.Sorted(maps.Keys(left)) {
		alg, _ := sigkey.ParseAlgorithm(name)
		if alg != sent && (left[sent.String()] > 0 || len(f.verifier.Keys()) > 0) {
			continue
		}
		keys := "keys"
		if left[name] == 1 {
			keys = "key"
		}
		f.add(cause.KeyLeftOut, "%d %s %s; add algorithms %s", left[name], name, keys, strings.Join((f.verifier.Algorithms()|sigkey.AlgorithmsOf(alg)).Names(), " "))
	}
}

// findFetch says why no key is available.
func (f *finder) findFetch() {
	set := f.verifier.KeySet()
	if set == nil {
		return
	}
	if err := set.Status().Err; err != nil {
		f.add(cause.KeysNotFetched, "%s", err)
		if c := cause.Of(err); c != cause.None {
			f.add(c, "")
		}
		return
	}
	f.add(cause.KeysNotFetched, "it has not been fetched yet")
}

func (f *finder) findKID() {
	var kids []string
	sent, _ := sigkey.ParseAlgorithm(text(f.header, "alg"))
	for _, k := range f.verifier.Keys() {
		if kid := text(f.header, "kid"); kid != "" && k.KeyID == kid && k.Algorithm != sent.String() {
			f.add(cause.KIDOfAlgorithm, "the key is for %s", k.Algorithm)
			return
		}
		if k.KeyID != "" {
			kids = append(kids, k.KeyID)
		}
	}
	switch _, sent := f.header["kid"]; {
	case len(kids) == 0:
	case !sent:
		f.add(cause.KIDMissing, "they have %q", kids)
	default:
		f.add(cause.KIDUnknown, "it is %s; the messenger's keys have %q", f.quote(text(f.header, "kid")), kids)
	}
}

// findSignature tries the encodings of a secret that people confuse, and compares the length of the signature.
func (f *finder) findSignature() {
	switch c, encoding := f.verifier.Confused(f.text); {
	case c != cause.None && encoding != "":
		f.add(c, "the encoding is %s", encoding)
		return
	case c != cause.None:
		f.add(c, "")
		return
	}
	sizes := f.verifier.SignatureSizes()
	signature := f.text[strings.LastIndexByte(f.text, '.')+1:]
	if size := base64.RawURLEncoding.DecodedLen(len(signature)); len(sizes) > 0 && !slices.Contains(sizes, size) {
		f.add(cause.SignatureLength, "it has %d bytes, and that of a key %d", size, sizes[0])
		return
	}
	f.add(cause.KeyOther, "")
}
