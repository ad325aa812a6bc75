package authn

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What reads lists without allocating reads them like the standard library.
func TestQueryPartsMatchTheStandardLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"&", "&", "=", "token", "%74oken", "t%6Fken", "%", "%7", "%zz", "+", " ", "a", "%26", "tokens"}
	s := &Source{Kind: Query, Name: "token"}
	for range 20_000 {
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		list := b.String()
		var wantKept []string
		removed := false
		for _, pair := range strings.Split(list, "&") {
			name, _, _ := strings.Cut(pair, "=")
			decoded, err := url.QueryUnescape(name)
			ours := err == nil && decoded == s.Name
			if _, got := s.parameter(pair); got != ours {
				t.Fatalf("%q: ours %t, want %t", pair, got, ours)
			}
			if removed = removed || ours; !ours {
				wantKept = append(wantKept, pair)
			}
		}
		want := list
		if removed {
			want = strings.Join(wantKept, "&")
		}
		if got := s.removeParameter(list); got != want {
			t.Fatalf("%q: got %q, want %q", list, got, want)
		}
		if got, want := slices.Collect(parts(list, '&')), slices.DeleteFunc(strings.Split(list, "&"), func(part string) bool { return part == "" }); !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", list, got, want)
		}
	}
	if !unescapesTo("a+b%20c", "a b c") || unescapesTo("a+b", "a+b") {
		t.Error("a plus sign is a blank in a query")
	}
}
