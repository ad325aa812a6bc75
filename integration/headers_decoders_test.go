package integration

import (
	"encoding/json"
	"net/url"
	"os/exec"
	"strings"
	"testing"
)

// decoders read a JSON array of header values and write one of what they decode, with what backends use in each language: the
// decoding of URLs, and that of forms, which takes "+" for a blank.
var decoders = map[string][]string{
	"node, decodeURIComponent": {"node", "-e", `process.stdout.write(JSON.stringify(JSON.parse(require("fs").readFileSync(0, "utf8")).map(v => decodeURIComponent(v))))`},
	"node, URLSearchParams":    {"node", "-e", `process.stdout.write(JSON.stringify(JSON.parse(require("fs").readFileSync(0, "utf8")).map(v => new URLSearchParams("v=" + v.replaceAll("&", "%26")).get("v"))))`},
	"python, unquote":          {"python3", "-c", "import json,sys,urllib.parse as u; json.dump([u.unquote(v) for v in json.load(sys.stdin)], sys.stdout)"},
	"python, unquote_plus":     {"python3", "-c", "import json,sys,urllib.parse as u; json.dump([u.unquote_plus(v) for v in json.load(sys.stdin)], sys.stdout)"},
	"php, rawurldecode":        {"php", "-r", `echo json_encode(array_map('rawurldecode', json_decode(stream_get_contents(STDIN))));`},
	"php, urldecode":           {"php", "-r", `echo json_encode(array_map('urldecode', json_decode(stream_get_contents(STDIN))));`},
}

// "+49 30 1234" and " 49 30 1234" are two contacts. A backend that decodes with the function for forms, as many do by
// habit, made one of them. Whatever decoder of its language it takes, it reads what was signed.
func TestEveryDecoderReadsTheSameIdentity(t *testing.T) {
	if !alone(t) {
		return
	}
	identities := []string{
		"mark", "+49 30 1234", "a+b@example.com", "+", "++", "a b", "a  b", "100%", "100%25", "%2B", "a%2Bb", "%20", "{+}", "Zoë + 张", "😀+😀",
		"a&b=c;d,e#f?g", `"quoted" \ back`, "1+1=2", strings.Repeat("+", 255), "=?utf-8?q?a+b?=",
	}
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "messenger_auth support {\n claim_header name X-Contact-Name\n}"+mirrored)
	var sent []string
	for _, identity := range identities {
		if a := g.get("/", bearer(sign(m.key, with(valid(identity), claims{"name": " " + identity + " "})))); a.status != 200 {
			t.Fatalf("%q: got %d %s", identity, a.status, a.body)
		}
		h := up.one(t).header
		for _, value := range []string{h.Get("X-Contact-Identity"), h.Get("X-Contact-Name"), h.Get("X-Identity"), h.Get("X-Claim")} {
			if strings.Contains(value, "+") {
				t.Errorf("%q arrives with a bare +: %q", identity, value)
			}
		}
		if h.Get("X-Identity") != h.Get("X-Contact-Identity") || h.Get("X-User") != h.Get("X-Contact-Identity") || h.Get("X-Claim") != h.Get("X-Contact-Name") {
			t.Errorf("%q: headers and placeholders differ: %v", identity, h)
		}
		sent = append(sent, h.Get("X-Contact-Identity"), h.Get("X-Contact-Name"))
	}
	var want []string
	for _, identity := range identities {
		want = append(want, identity, " "+identity+" ")
	}
	for name, decode := range map[string]func(string) (string, error){"go, PathUnescape": url.PathUnescape, "go, QueryUnescape": url.QueryUnescape} {
		for i, value := range sent {
			if got, err := decode(value); err != nil || got != want[i] {
				t.Errorf("%s: %q arrives as %q and is read as %q, %v", name, want[i], value, got, err)
			}
		}
	}
	input, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range decoders {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(requireTool(t, strings.TrimSuffix(args[0], "3"), args[0]), args[1:]...)
			cmd.Stdin = strings.NewReader(string(input))
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var got []string
			if err := json.Unmarshal(out, &got); err != nil || len(got) != len(want) {
				t.Fatalf("%v: %s", err, out)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%q arrives as %q and is read as %q", want[i], sent[i], got[i])
				}
			}
		})
	}
}
