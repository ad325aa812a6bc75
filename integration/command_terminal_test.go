package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile are texts that a terminal obeys, or that read as something other than they are. The maker of a certificate, a
// key set, a token or an error page chooses them.
var hostile = map[string]string{
	"escape sequences":         "\x1b]0;owned\x07\x1b[2J\x1b[31m",
	"carriage return":          "refused\raccepted",
	"backspaces and bells":     "a\b\b\bok\x07\x00",
	"C1":                       "\u009b31m\u0085\u0090",
	"DEL":                      "a\x7fb",
	"bidirectional controls":   "\u202eresu\u202c \u2066x\u2069 \u061c\u200e\u200f",
	"zero width":               "a\u200bb\u200c\u200d\u2060\ufeff\u00ad",
	"fillers and variations":   "\u3164\u115f\u034f\ufe0f\u180e\u2800",
	"tags beyond 16 bits":      "\U000e0041\U000e0001\U000e0100",
	"line breaks":              "x\nok    signature\r\n\u2028accepted\u2029",
	"a row of a table":         "x\ty\tstored\nforged\tpublic_key\trequired\tconfig",
	"invalid UTF-8":            "\xff\xfe\xc0\x80\xed\xa0\x80",
	"a very long line":         strings.Repeat("long ", 20_000),
	"private use and unknowns": "\ue000\ufff9\ufffa\ufffb\U0010ffff",
}

// checkTerminal finds what a terminal would obey, or a person would misread.
func checkTerminal(t *testing.T, where, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s: it is not UTF-8", where)
	}
	for at, r := range text {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) && r != '\u2800' {
			continue
		}
		t.Errorf("%s: U+%04X in %q", where, r, text[max(0, at-40):min(len(text), at+40)])
		return
	}
}

// hostileAnswers are answers of an admin API with evil in every text that a command shows.
func hostileAnswers(evil string) map[string]any {
	moment := "2026-05-01T12:00:00Z"
	settings := map[string]any{"identity_key": evil, "issuer": []string{evil}, "audience": []string{evil}, "require_claims": []string{evil}, "allowed_origin": []string{evil},
		"mode": evil, "jwks": map[string]any{"url": evil}, "public_key": []any{map[string]any{"key": evil, "kid": evil}}, "shared_token": map[string]any{"token": evil, "encoding": evil}}
	described := map[string]any{"name": evil, "source": "stored", "revision": "r1", "changed": moment, "method": evil, "mode": evil, "settings": settings, "warnings": []string{evil}}
	keys := map[string]any{"messenger": evil, "method": evil, "sources": []string{evil}, "last_error": evil, "fetched": moment,
		"keys":    []any{map[string]any{"kid": evil, "alg": evil, "bits": 2048, "sha256": evil + strings.Repeat("0", 64)}},
		"omitted": []any{map[string]any{"index": 1, "kid": evil, "reason": evil}}}
	return map[string]any{
		"GET /messenger/messengers":                       []any{described},
		"GET /messenger/messengers/acme":                  described,
		"PUT /messenger/messengers/acme":                  described,
		"GET /messenger/messengers/acme/keys":             keys,
		"POST /messenger/messengers/acme/refresh":         keys,
		"GET /messenger/messengers/acme/tokens":           map[string]any{"messenger": evil, "tokens": []any{map[string]any{"kid": evil, "fingerprint": evil, "state": evil, "created": moment}}},
		"POST /messenger/messengers/acme/tokens/generate": map[string]any{"kid": evil, "token": "mst_" + evil, "created": moment},
		"POST /messenger/messengers/acme/tokens/rotate":   map[string]any{"kid": evil, "token": "mst_" + evil, "created": moment},
		"POST /messenger/messengers/acme/tokens/reset":    map[string]any{"kid": evil, "token": "mst_" + evil, "created": moment},
		"POST /messenger/messengers/acme/tokens/revoke":   map[string]any{},
		"DELETE /messenger/messengers/acme":               map[string]any{},
		"GET /messenger/messengers/acme/revocations":      []any{map[string]any{"identity": evil, "created": moment}, map[string]any{"jti": evil, "created": moment}},
		"POST /messenger/messengers/acme/revocations":     map[string]any{},
		"DELETE /messenger/messengers/acme/revocations":   map[string]any{},
		"GET /messenger/messengers/acme/readiness":        map[string]any{"messenger": evil, "mode": evil, "since": moment, "windows": []any{map[string]any{"window": evil, "requests": 3, "codes": map[string]any{evil: 3}}}},
		"GET /messenger/connections":                      map[string]any{"open": 1, "messengers": []any{map[string]any{"messenger": evil, "open": 1, "oldest": moment}}},
		"POST /messenger/connections/end":                 map[string]any{"ended": 1},
		"POST /messenger/reseal":                          map[string]any{"resealed": 1, "done": true},
		"POST /messenger/messengers/acme/explain":         hostileExplanation(evil),
	}
}

func hostileExplanation(evil string) any {
	return map[string]any{"messenger": evil, "method": evil, "mode": evil, "accepted": false, "status": 401, "code": evil, "reason": evil, "detail": evil,
		"findings": []any{map[string]any{"cause": evil, "fix": evil}},
		"checks":   []any{map[string]any{"name": evil, "outcome": "failed", "reason": evil}},
		"upstream": []any{map[string]any{"headers": []any{map[string]any{"name": evil, "value": evil}}}}}
}

// commands are all commands that show what the gateway answers.
var commands = [][]string{
	{"list"}, {"show", "acme"}, {"keys", "acme"}, {"refresh", "acme"}, {"readiness", "acme"}, {"connections"}, {"explain", "acme"},
	{"tokens", "list", "acme"}, {"revocations", "list", "acme"}, {"create", "acme", "--identity-key", "sub", "--shared-token", "--replace"},
}

var commandsWithoutJSON = [][]string{
	{"tokens", "generate", "acme"}, {"tokens", "rotate", "acme"}, {"tokens", "reset", "acme"}, {"tokens", "revoke", "acme", "--kid", "x"}, {"delete", "acme"},
	{"revocations", "add", "acme", "--jti", "x"}, {"revocations", "remove", "acme", "--jti", "x"}, {"connections", "end", "acme"}, {"reseal"},
}

// Names in an untrusted certificate reached the terminal as they were, and with them whatever a terminal obeys. Every
// command gets such texts in every place, as an answer and as an error, and prints none.
func TestCommandsEscapeControlCharacters(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	var answers map[string]any
	status := http.StatusOK
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := json.Marshal(answers[r.Method+" "+r.URL.Path])
		if err != nil {
			t.Error(err)
		}
		if status != http.StatusOK {
			text = []byte(mustJSON(map[string]string{"error": answers["error"].(string)}))
		}
		if raw, ok := answers["raw"].(string); ok {
			text = []byte(raw)
		}
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}))
	defer gateway.Close()
	address := "--address=" + strings.TrimPrefix(gateway.URL, "http://")
	run := func(t *testing.T, name string, args ...string) ran {
		t.Helper()
		r := s.messenger("eyJ.e30.x", append(args, address)...)
		checkTerminal(t, fmt.Sprintf("%s: standard output of %v", name, args), r.out)
		checkTerminal(t, fmt.Sprintf("%s: standard error of %v", name, args), r.err)
		return r
	}
	all := ""
	for _, name := range slices.Sorted(maps.Keys(hostile)) {
		if name != "a very long line" {
			all += hostile[name]
		}
	}
	for name, evil := range map[string]string{"all at once": strings.ToValidUTF8(all, "\ufffd"), "a very long line": hostile["a very long line"]} {
		answers, status = hostileAnswers(evil), http.StatusOK
		for _, args := range commands {
			text := run(t, name, args...)
			if strings.Contains(text.out, "\nforged") || strings.Contains(text.out, "\nok    signature") {
				t.Errorf("%v: a value makes a line of its own:\n%s", args, text.out)
			}
			if longest := longestLine(text.out); longest > 32<<10 && args[0] != "show" && args[0] != "create" { // these print the settings as JSON
				t.Errorf("%v: a line of %d bytes", args, longest)
			}
			asJSON := run(t, name, append(args, "--json")...)
			var value any
			if err := json.Unmarshal([]byte(asJSON.out), &value); err != nil {
				t.Errorf("%v --json: %v\n%s", args, err, asJSON.out)
			} else if !containsText(value, evil) {
				t.Errorf("%v --json: the value is not what the gateway answered", args)
			}
		}
		for _, args := range commandsWithoutJSON {
			run(t, name, args...)
		}
	}
	for _, status = range []int{400, 404} { // the exit status is 1, or another
		answers["error"] = "it " + all
		failing := append(commands[:len(commands):len(commands)], commandsWithoutJSON...)
		if status == 404 {
			failing = [][]string{{"show", "acme"}, {"readiness", "acme"}, {"delete", "acme"}}
		}
		for _, args := range failing {
			if r := run(t, "an error", args...); r.status == 0 || strings.Contains(r.err, "\nforged") || strings.Contains(r.err, "\nok    signature") {
				t.Errorf("%v, answered with %d: status %d\n%s", args, status, r.status, r.err)
			}
		}
		answers["raw"] = all // what is no gateway answers
		run(t, "no gateway", "keys", "acme")
		delete(answers, "raw")
	}
}

func longestLine(text string) (longest int) {
	for line := range strings.Lines(text) {
		longest = max(longest, len(line))
	}
	return longest
}

// containsText reports whether a JSON value has text in it.
func containsText(value any, text string) bool {
	switch value := value.(type) {
	case string:
		return strings.Contains(value, text)
	case []any:
		for _, child := range value {
			if containsText(child, text) {
				return true
			}
		}
	case map[string]any:
		for name, child := range value {
			if strings.Contains(name, text) || containsText(child, text) {
				return true
			}
		}
	}
	return false
}
