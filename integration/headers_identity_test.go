package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// mirrored is a proxy that tells the upstream what our placeholders say, where a site uses them itself.
const mirrored = `
	reverse_proxy UPSTREAM {
		header_up X-Identity {http.messenger_auth.identity}
		header_up X-User {http.auth.user.id}
		header_up X-Messenger {http.messenger_auth.messenger}
		header_up X-Claim {http.messenger_auth.claim.name}
		header_up X-Code {http.messenger_auth.code}
		header_up X-Unknown {http.messenger_auth.no_such_thing}
		header_up X-Vars {http.vars.messenger_auth.outcome}
	}
`

// An identity is the primary key of a person. It arrives so that the documented decoding gives exactly what was signed;
// nothing is rounded, trimmed, or read as a placeholder of Caddy, which would put the gateway's environment and files
// into the hands of every contact who may choose a name.
func TestIdentityArrivesUnchanged(t *testing.T) {
	t.Setenv("GATEWAY_SECRET", "the environment of the gateway")
	secretFile := write(t, "secret.txt", []byte("a file of the gateway"))
	identities := map[any]string{ // and how they arrive
		"mark":                              "mark",
		9007199254740993:                    "9007199254740993",
		-7:                                  "-7",
		"9007199254740993":                  "9007199254740993",
		"Zoë 张":                             "Zo%C3%AB %E5%BC%A0",
		"100%":                              "100%25",
		"100%25":                            "100%2525",
		"a b  c":                            "a b  c",
		"a+b":                               "a%2Bb",
		"+49 30 1234":                       "%2B49 30 1234",
		"a,b;c=\"d\"":                       "a,b;c=\"d\"",
		"../../etc/passwd?x=1#y":            "../../etc/passwd?x=1#y",
		"{env.HOME}":                        "%7Benv.HOME%7D",
		"{env.GATEWAY_SECRET}":              "%7Benv.GATEWAY_SECRET%7D",
		"{$GATEWAY_SECRET}":                 "%7B$GATEWAY_SECRET%7D",
		"{file." + secretFile + "}":         "%7Bfile." + secretFile + "%7D",
		"{http.request.host}":               "%7Bhttp.request.host%7D",
		"{http.auth.user.id}":               "%7Bhttp.auth.user.id%7D",
		`\{env.HOME}`:                       `\%7Benv.HOME%7D`,
		"{{env `GATEWAY_SECRET`}}":          "%7B%7Benv `GATEWAY_SECRET`%7D%7D",
		strings.Repeat("x", 255):            strings.Repeat("x", 255),
		strings.Repeat("ë", 127) + "x":      strings.Repeat("%C3%AB", 127) + "x",
		"😀" + strings.Repeat("張", 83) + "a": "%F0%9F%98%80" + strings.Repeat("%E5%BC%B5", 83) + "a",
	}
	for _, m := range methods(t) {
		up := newUpstream(t)
		g := start(t, up, m.messengers, "messenger_auth support {\n claim_header name X-Contact-Name\n}"+mirrored)
		for identity, want := range identities {
			t.Run(fmt.Sprintf("%s, %.40v", m.name, identity), func(t *testing.T) {
				c := valid(identity)
				c["name"] = identity // a claim goes the same way
				if a := g.get("/", bearer(sign(m.key, c))); a.status != 200 {
					t.Fatalf("got %d %s", a.status, a.body)
				}
				h := up.one(t).header
				for _, name := range []string{"X-Contact-Identity", "X-Contact-Name", "X-Identity", "X-User", "X-Claim"} {
					if got := h[name]; len(got) != 1 || got[0] != want {
						t.Errorf("%s: got %q, want %q", name, got, want)
					}
				}
				if decoded, err := url.PathUnescape(h.Get("X-Contact-Identity")); err != nil || decoded != fmt.Sprint(identity) {
					t.Errorf("it decodes to %q, %v", decoded, err)
				}
			})
		}
		for name, identity := range map[string]any{
			"a blank in front": " mark", "256 bytes": strings.Repeat("x", 256), "256 bytes in 128 letters": strings.Repeat("ë", 128), "nothing": "", "a blank": " ", "a line break": "a\nb",
		} {
			if a := g.get("/", bearer(sign(m.key, valid(identity)))); a.status != 401 || a.code(t) != "identity_invalid" {
				t.Errorf("%s, %s: got %d %s, want 401 identity_invalid", m.name, name, a.status, a.body)
			}
			up.none(t)
		}
	}
}

// With identity_encoding raw the bytes go as they are, for backends that decode nothing. Placeholders stay encoded, and
// nothing is read out of the bytes either.
func TestRawIdentity(t *testing.T) {
	t.Setenv("GATEWAY_SECRET", "the environment of the gateway")
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "messenger_auth support {\n identity_encoding raw\n claim_header name X-Contact-Name\n}"+mirrored)
	for identity, encoded := range map[string]string{
		"mark": "mark", "Zoë 张": "Zo%C3%AB %E5%BC%A0", "100%": "100%25", "a%00b": "a%2500b", "{env.GATEWAY_SECRET}": "%7Benv.GATEWAY_SECRET%7D", "{http.request.host}": "%7Bhttp.request.host%7D",
	} {
		c := valid(identity)
		c["name"] = identity
		g.get("/", bearer(sign(m.key, c)))
		h := up.one(t).header
		for name, want := range map[string]string{"X-Contact-Identity": identity, "X-Contact-Name": identity, "X-Identity": encoded, "X-User": encoded, "X-Claim": encoded} {
			if got := h.Get(name); got != want {
				t.Errorf("%q, %s: got %q, want %q", identity, name, got, want)
			}
		}
	}
	// What a header cannot carry as it is gives none, and does not refuse the contact.
	for _, name := range []string{" edge", "a\nX-Contact-Identity: eve", "a\x00b", "\t"} {
		if a := g.get("/", bearer(sign(m.key, with(valid("mark"), claims{"name": name})))); a.status != 200 {
			t.Errorf("the claim %q: got %d %s", name, a.status, a.body)
			continue
		}
		h := up.one(t).header
		if got, found := h["X-Contact-Name"]; found || h.Get("X-Contact-Identity") != "mark" || h.Get("X-Claim") != "" {
			t.Errorf("the claim %q arrives as %q beside %q", name, got, h["X-Contact-Identity"])
		}
	}
}

// Caddy sends a placeholder that nobody answers upstream as it is written. For a backend "{http.auth.user.id}" is a name
// like another: it must be nothing for a request without a contact, in every mode and in front of the directive as well.
func TestPlaceholdersOfAnonymousRequestsAreEmpty(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, `
		@nothing path /nothing
		handle /optional* {
			messenger_auth support {
				mode optional
				claim_header name X-Contact-Name
			}`+mirrored+`}
		handle /report* {
			messenger_auth support {
				mode report
			}`+mirrored+`}
		handle /off* {
			messenger_auth support {
				mode off
			}`+mirrored+`}
		handle /unmatched* {
			messenger_auth @nothing support`+mirrored+`}
		handle /preflight* {
			messenger_auth support`+mirrored+`}
	`)
	code := map[string]string{"/optional": "token_missing", "/report": "token_missing"}
	for _, path := range []string{"/optional", "/report", "/off", "/unmatched", "/preflight"} {
		method, headers := http.MethodGet, []string(nil)
		if path == "/preflight" {
			method, headers = http.MethodOptions, []string{"Origin: https://www.example.com", "Access-Control-Request-Method: GET"}
		}
		if a := g.do(method, path, headers...); a.status != 200 {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
			continue
		}
		h := up.one(t).header
		for _, name := range []string{"X-Identity", "X-User", "X-Messenger", "X-Claim", "X-Unknown", "X-Vars"} {
			if got := h.Get(name); got != "" {
				t.Errorf("%s, %s: got %q, want nothing", path, name, got)
			}
		}
		if got := h.Get("X-Code"); got != code[path] {
			t.Errorf("%s, X-Code: got %q, want %q", path, got, code[path])
		}
	}
}

// Whatever identity a site signs, it is refused with a code or arrives as itself, and never as the bytes of another one
// or as an error of the gateway. The identities are made of the letters that break things.
func TestAnyIdentityArrivesUnchangedOrIsRefused(t *testing.T) {
	letters := []string{"a", "A", "0", "é", "e\u0301", "张", "😀", "%", "%41", "%25", "{", "}", "{env.HOME}", " ", "+", "\t", "\n", "\r", "\x00", "\x7f", "\u0085", "\u00a0", "\u2028", "\u200b", "\ufeff", "\ufffd", ",", ";", "=", `"`, `\`, ":", "/", "?", "#", "<", "\u202e"}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	m, up := methods(t)[0], newUpstream(t)
	for _, encoding := range []string{"percent", "raw"} {
		g := start(t, up, m.messengers, "messenger_auth support {\n identity_encoding "+encoding+"\n}\nreverse_proxy UPSTREAM")
		arrived := make(map[string]string)
		for range 300 {
			identity := ""
			for range 1 + random.IntN(5) {
				identity += letters[random.IntN(len(letters))]
			}
			a := g.get("/", bearer(sign(m.key, valid(identity))))
			if a.status == 401 && a.code(t) == "identity_invalid" {
				up.none(t)
				continue
			}
			if a.status != 200 {
				t.Fatalf("seed %d, %s, %q: got %d %s", seed, encoding, identity, a.status, a.body)
			}
			values := up.one(t).header["X-Contact-Identity"]
			if len(values) != 1 {
				t.Fatalf("seed %d, %s, %q: arrives as %q", seed, encoding, identity, values)
			}
			read, err := values[0], error(nil)
			if encoding == "percent" {
				read, err = url.PathUnescape(values[0])
			}
			if err != nil || read != identity {
				t.Errorf("seed %d, %s, %q: arrives as %q, which is %q, %v", seed, encoding, identity, values[0], read, err)
			}
			if other, found := arrived[values[0]]; found && other != identity {
				t.Errorf("seed %d, %s: %q and %q both arrive as %q", seed, encoding, identity, other, values[0])
			}
			arrived[values[0]] = identity
		}
		if len(arrived) < 50 {
			t.Errorf("seed %d, %s: only %d identities arrived", seed, encoding, len(arrived))
		}
	}
}
