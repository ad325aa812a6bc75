package upstream

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

func TestPercentEncodingIsReadable(t *testing.T) {
	for value, want := range map[string]string{
		"":                   "",
		"mark":               "mark",
		"9007199254740993":   "9007199254740993",
		"mark twain":         "mark twain",
		"Zoë 张":              "Zo%C3%AB %E5%BC%A0",
		"100%":               "100%25",
		"100%25":             "100%2525",
		"{env.HOME}":         "%7Benv.HOME%7D",
		" a ":                "%20a%20",
		" ":                  "%20",
		"  ":                 "%20%20",
		"a  b":               "a  b",
		"a b&c=d,e;f\"\\<g>": "a b&c=d,e;f\"\\<g>",
		"+49 30 1234":        "%2B49 30 1234",
		"a+b@example.com":    "a%2Bb@example.com",
		"+":                  "%2B",
		"\r\nX-Admin: 1":     "%0D%0AX-Admin: 1",
		"\x00\t\x7f\u0085":   "%00%09%7F%C2%85",
		"\U0001F600":         "%F0%9F%98%80",
	} {
		if got := percentEncode(value); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

// Two contacts must never arrive as one: whatever two values a site may sign, their headers differ, and decoding gives
// back exactly the value that was signed.
func TestDifferentIdentitiesHaveDifferentHeaders(t *testing.T) {
	// Short values over the few bytes that matter to the encoding, all of them: the place where two could meet.
	const alphabet = "a27bB% +{}\x00\xc3"
	headers := make(map[string]string)
	values := []string{""}
	for length := 0; length <= 4; length++ {
		var longer []string
		for _, value := range values {
			checkEncoded(t, value, percentEncode(value))
			if other, found := headers[percentEncode(value)]; found {
				t.Fatalf("%q and %q both arrive as %q", value, other, percentEncode(value))
			}
			headers[percentEncode(value)] = value
			for i := range len(alphabet) {
				longer = append(longer, value+alphabet[i:i+1])
			}
		}
		values = longer
	}
	// And long ones of any bytes.
	random := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		value := make([]byte, random.IntN(300))
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		checkEncoded(t, string(value), percentEncode(string(value)))
	}
}

// checkEncoded checks that encoded is a header that no server reads in another way, and from which value comes back, by a
// decoder of form fields as well. What can be decoded exactly cannot be the encoding of anything else.
func checkEncoded(t *testing.T, value, encoded string) {
	t.Helper()
	if decoded, err := url.PathUnescape(encoded); err != nil || decoded != value {
		t.Errorf("%q arrives as %q, which decodes to %q, %v", value, encoded, decoded, err)
	}
	if decoded, err := url.QueryUnescape(encoded); err != nil || decoded != value {
		t.Errorf("%q arrives as %q, which a decoder of forms makes %q, %v", value, encoded, decoded, err)
	}
	if !httpguts.ValidHeaderFieldValue(encoded) || strings.TrimSpace(encoded) != encoded || strings.ContainsAny(encoded, "{}") {
		t.Errorf("%q arrives as %q, which is not a safe header", value, encoded)
	}
	for i := range len(encoded) {
		if encoded[i] < ' ' || encoded[i] > '~' {
			t.Errorf("%q arrives as %q, which is not visible ASCII", value, encoded)
		}
	}
}

func FuzzPercentEncode(f *testing.F) {
	for _, pair := range [][2]string{{"mark", "Mark"}, {"100%", "100%25"}, {"{env.HOME}", "%7Benv.HOME%7D"}, {" a", "%20a"}, {"é", "e\u0301"}, {"\xff", "ÿ"}, {"a\r\n", "a"}, {"a+b", "a b"}, {"+", "%2B"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		checkEncoded(t, a, percentEncode(a))
		if a != b && percentEncode(a) == percentEncode(b) {
			t.Errorf("%q and %q both arrive as %q", a, b, percentEncode(a))
		}
	})
}

// With raw the bytes are sent as they are, so a value that a server would trim or refuse is not sent at all.
func TestRawFieldValuesAreSentUnchanged(t *testing.T) {
	for value, want := range map[string]bool{
		"": true, "mark": true, "Zoë": true, "{x}": true, "a\tb": true, " a": false, "a ": false, "a\t": false,
		"a\r\nb": false, "a\x00": false, "a\x7f": false, "\n": false,
	} {
		if got := isFieldValue(value); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}
