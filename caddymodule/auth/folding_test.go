package auth

import (
	"net/http"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// lookalikes returns text with each "s" as U+017F, and each "k" as the Kelvin sign, which Unicode folds to them.
func lookalikes(text string) (list []string) {
	for _, replaced := range []string{strings.ReplaceAll(text, "s", "\u017f"), strings.ReplaceAll(text, "k", "\u212a")} {
		if replaced != text {
			list = append(list, replaced)
		}
	}
	return list
}

// Words of a protocol are compared without regard to case, and only ASCII can be such a word.
func TestProtocolKeywordsAreASCII(t *testing.T) {
	allowed, err := config.ParseOrigin("https://kiosk.example.com")
	if err != nil {
		t.Fatal(err)
	}
	contract := new(Handler).Contract()
	for _, test := range []struct {
		what, word string
		accepts    func(string) bool
	}{
		{"an upgrade", "websocket", func(word string) bool {
			r, o := get("Connection: Upgrade"), new(upstream.Outcome)
			r.Header["Upgrade"] = []string{word}
			_ = contract.Clean(r, o)
			return o.Handshake && len(r.Header["Upgrade"]) == 1
		}},
		{"an option of Connection", "keep-alive", func(word string) bool {
			r := get("Connection: " + word)
			_ = contract.Clean(r, new(upstream.Outcome))
			return r.Header.Get("Connection") == "keep-alive"
		}},
		{"a media type", "text/event-stream", func(word string) bool {
			return hasType(http.Header{"Content-Type": {word + "; charset=utf-8"}}, eventStream)
		}},
		{"an origin", "https://kiosk.example.com", func(word string) bool { o, err := config.ParseOrigin(word); return err == nil && o == allowed }},
		{"the own host", "kiosk.example.com", func(word string) bool {
			r := get()
			r.Host = word
			o, err := config.ParseOrigin("http://kiosk.example.com")
			return err == nil && upstream.IsOwnOrigin(r, o)
		}},
	} {
		for _, word := range []string{test.word, strings.ToUpper(test.word), strings.ToTitle(test.word[:1]) + test.word[1:]} {
			if !test.accepts(word) {
				t.Errorf("%s: %q is not accepted", test.what, word)
			}
		}
		for _, word := range lookalikes(test.word) {
			if test.accepts(word) {
				t.Errorf("%s: %q is accepted as %q", test.what, word, test.word)
			}
		}
	}
}
