package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// signed is a gateway with a messenger of each method whose keys the commands made. All of them want exp.
func signed(t *testing.T, s *shell) *gateway {
	t.Helper()
	s.generate("sales.token")
	if out := s.must("", "generate", "--rsa", "support"); !strings.Contains(out, "support.key.pem") || !strings.Contains(out, "support.pub.pem") {
		t.Errorf("generate --rsa does not say what it made: %s", out)
	}
	s.must("", "generate", "--rsa", "billing")
	set := s.must("", "jwks", "billing.pub.pem", "--kid", "2026")
	keys := newKeyServer(t)
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(set)) })
	return start(t, newUpstream(t), `
	messenger support {
		identity_key identity
		public_key {file.`+s.dir+`/support.pub.pem} kid 2025
		require_claims exp
	}
	messenger sales {
		identity_key customer
		shared_token {file.`+s.dir+`/sales.token}
		require_claims exp
	}
	messenger billing {
		identity_key identity
		audience chat
		jwks `+keys.url+`
		require_claims exp
	}`, `
	handle /support {
		messenger_auth support
		respond {http.request.header.X-Contact-Identity}
	}
	handle /sales {
		messenger_auth sales {
			claim_header number X-Number
			claim_header text X-Text
			claim_header list X-List
			claim_header yes X-Yes
		}
		respond "{http.request.header.X-Contact-Identity} {http.request.header.X-Number} {http.request.header.X-Text} {http.request.header.X-List} {http.request.header.X-Yes}"
	}
	handle /billing {
		messenger_auth billing
		respond {http.request.header.X-Contact-Identity}
	}`)
}

// A newcomer makes keys and signs tokens with the commands alone, and the gateway takes them, with every method.
func TestKeysAndTokensMadeByCommandsAreAccepted(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	g := signed(t, s)
	s.env = append(s.env, "SALES_TOKEN="+strings.TrimSpace(s.read("sales.token")))
	billing := []string{"--key", "billing.key.pem", "--identity", "mark", "--claim", "aud=chat"}
	for _, tt := range []struct {
		name string
		path string
		args []string
		want string // the body, or the code of the refusal
	}{
		{"RS256", "/support", []string{"--key", "support.key.pem", "--identity", "mark"}, "mark"},
		{"RS256 with the kid of the key", "/support", []string{"--key", "support.key.pem", "--identity", "mark", "--kid", "2025"}, "mark"},
		{"RS256 with another kid", "/support", []string{"--key", "support.key.pem", "--identity", "mark", "--kid", "2024"}, "key_unknown"},
		{"RS256 of a published key", "/billing", append(billing, "--kid", "2026"), "mark"},
		{"RS256 of a published key without its kid", "/billing", billing, "mark"},
		{"RS256 of a published key under another kid", "/billing", append(billing, "--kid", "2027"), "key_unknown"},
		{"HS256 with claims", "/sales", []string{"--key", "sales.token", "--identity-key", "customer", "--identity", "Zoë",
			"--claim", "number=9007199254740993", "--claim", "text=a=b", "--claim", `list=["x",1]`, "--claim", "yes=true"}, `Zo%C3%AB 9007199254740993 a=b ["x",1] true`},
		{"HS256 with the secret from the environment", "/sales", []string{"--key-env", "SALES_TOKEN", "--identity-key", "customer", "--identity", "mark"}, "mark    "},
		{"HS256 with text that only looks like JSON", "/sales", []string{"--key", "sales.token", "--identity-key", "customer", "--identity", "42", "--claim", "text={no"}, "42  %7Bno  "},
		{"a short life", "/support", []string{"--key", "support.key.pem", "--identity", "mark", "--ttl", "5m"}, "mark"},
		{"a life that has ended", "/support", []string{"--key", "support.key.pem", "--identity", "mark", "--ttl", "-5m"}, "token_expired"},
		{"a life without end", "/support", []string{"--key", "support.key.pem", "--identity", "mark", "--ttl", "0"}, "claim_missing"},
		{"another key", "/support", []string{"--key", "billing.key.pem", "--identity", "mark"}, "signature_invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := g.get(tt.path, bearer(s.sign(tt.args...)))
			got := a.body
			if a.status >= 400 {
				got = a.code(t)
			}
			if got != tt.want {
				t.Errorf("got %d %q, want %q", a.status, got, tt.want)
			}
		})
	}
}

func TestGeneratedKeysAreReadableByTheirOwnerOnly(t *testing.T) {
	s := newShell(t)
	first, second := s.generate("a"), s.generate("b")
	if form := regexp.MustCompile(`^mst_[A-Za-z0-9_-]{49}$`); !form.MatchString(first) || !form.MatchString(second) || first == second {
		t.Error("two shared tokens do not have the form, or are one")
	}
	s.must("", "generate", "--rsa", "pair")
	for name, want := range map[string]os.FileMode{"pair.key.pem": 0o600, "pair.pub.pem": 0o644} {
		info, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s: mode %o, want at most %o", name, got, want)
		}
	}
	// A second run must not replace a key that signs for real.
	before := s.read("pair.key.pem")
	if r := s.messenger("", "generate", "--rsa", "pair"); r.status != 1 || !strings.Contains(r.err, "pair.key.pem exists already and is not overwritten") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	if s.read("pair.key.pem") != before {
		t.Error("the key was replaced")
	}
	if err := os.Remove(filepath.Join(s.dir, "pair.key.pem")); err != nil {
		t.Fatal(err)
	}
	if r := s.messenger("", "generate", "--rsa", "pair"); r.status != 1 || !strings.Contains(r.err, "pair.pub.pem exists already") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "pair.key.pem")); err == nil {
		t.Error("half a pair was left behind")
	}
}

// People paste a secret or a token where an argument stands. It must not be repeated on the terminal and in the logs of
// scripts, nor sent anywhere.
func TestCommandsRepeatNoArgumentThatMayBeASecret(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	s.file("good", newSecret())
	secret := "A" + newSecret()
	search.secret(secret)
	token := sign(newSecret(), valid("mark"))
	key := strings.ReplaceAll(string(publicPEM(rsaKey(0))), "PUBLIC KEY", "PRIVATE KEY")
	s.file("damaged.pem", key)
	s.file("short", secret[:20])
	for _, tt := range []struct {
		want string // what the complaint says
		args []string
	}{
		{"there is no such command", []string{token}},
		{"there is no such command", []string{secret}},
		{"a flag is unknown", []string{"-" + secret}},
		{"a flag is unknown", []string{"generate", "-" + secret}},
		{"a flag is unknown", []string{"sign", "--" + secret}},
		{"a flag is unknown", []string{"keys", "--json=" + secret}},
		{"unknown flag: --identiy", []string{"sign", "--identiy", secret}},
		{"not the name of a messenger", []string{"explain", token}},
		{"read from standard input", []string{"explain", "support", token}},
		{"not the name of a messenger", []string{"keys", token}},
		{"not the name of a messenger", []string{"refresh", token}},
		{"generate takes no argument", []string{"generate", secret}},
		{"sign takes no arguments", []string{"sign", secret}},
		{"--key takes the name of the file", []string{"sign", "--identity", "mark", "--key", secret}},
		{"--key takes the name of the file", []string{"sign", "--identity", "mark", "--key", "-----BEGIN PRIVATE KEY-----\n" + secret}},
		{"--key-env takes the name of the variable", []string{"sign", "--identity", "mark", "--key-env", secret}},
		{"the key ", []string{"sign", "--identity", "mark", "--key", "damaged.pem"}},
		{"at least 32", []string{"sign", "--identity", "mark", "--key", "short"}},
		{"not one of: raw, base64", []string{"sign", "--identity", "mark", "--key", "good", "--encoding", secret}},
		{"--ttl is not a duration", []string{"sign", "--identity", "mark", "--key", "good", "--ttl", secret}},
		{"--claim takes name=value", []string{"sign", "--identity", "mark", "--key", "good", "--claim", secret}},
		{"--identity-key has a character", []string{"sign", "--identity", "mark", "--key", "good", "--identity-key", secret + "="}},
		{"--identity is missing", []string{"sign", "--key", "good"}},
		{"give exactly one of --key and --key-env", []string{"sign", "--identity", "mark"}},
		{"file 1: no such file", []string{"jwks", secret}},
		{"file 1 contains a private key", []string{"jwks", "damaged.pem"}},
		{"file 1 is ", []string{"jwks", "good"}},
		{"name at least one file", []string{"jwks"}},
	} {
		r := s.messenger("", tt.args...)
		if r.status != 1 || r.out != "" || !strings.Contains(r.err, tt.want) {
			t.Errorf("%.20q: status %d, printed %q, complained %q; want %q", tt.args, r.status, r.out, r.err, tt.want)
		}
		for _, private := range []string{secret[:12], token[len(token)-12:], strings.Split(key, "\n")[2]} {
			if strings.Contains(r.err, private) {
				t.Errorf("a secret is repeated: %s", r.err)
			}
		}
	}
}

// The commands find the gateway at a socket and at a TCP address, by --address and by --config; where it is not, they
// say so.
func TestCommandsFindTheGateway(t *testing.T) {
	s := newShell(t)
	secret := newSecret()
	messengers := "messenger sales {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}"
	g := newGateway(t, nil, "http://")
	listed := func(what string, args ...string) {
		t.Helper()
		var keys struct {
			Messenger, Method string
			Usable            bool
			Keys              []struct {
				Algorithm string `json:"alg"`
				Bits      int
				SHA256    string
			}
		}
		if err := json.Unmarshal([]byte(s.must("", append([]string{"keys", "--json"}, args...)...)), &keys); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if keys.Messenger != "sales" || keys.Method != "shared_token" || !keys.Usable || len(keys.Keys) != 1 || keys.Keys[0].Algorithm != "HS256" || keys.Keys[0].Bits != 344 || keys.Keys[0].SHA256 != "" {
			t.Errorf("%s: got %+v", what, keys)
		}
	}
	g.load(messengers, "messenger_auth sales\nrespond ok")
	listed("a socket", "--address", "unix/"+g.sock)
	listed("a socket, with a name", "sales", "--address", "unix/"+g.sock)
	listed("by its configuration", "--config", s.file("Caddyfile", g.caddyfile(messengers, "messenger_auth sales\nrespond ok")))
	if out := s.must("", "keys", "--address", "unix/"+g.sock); !strings.Contains(out, "HS256  344 bits  no kid") || !strings.Contains(out, "from {file.") {
		t.Errorf("for people: %s", out)
	}

	address := freeAddr(t)
	g.loadWithAdmin(address, messengers, "messenger_auth sales\nrespond ok")
	listed("a TCP address", "--address", address)

	for what, args := range map[string][]string{"keys": {"keys"}, "refresh": {"refresh", "sales"}} {
		if r := s.messenger("", append(args, "--address", freeAddr(t))...); r.status != 1 || !strings.Contains(r.err, "is the gateway running") {
			t.Errorf("%s without a gateway: status %d %s", what, r.status, r.err)
		}
	}
	for want, test := range map[string]struct {
		status int
		args   []string
	}{
		"Error: there is no messenger of this name":      {3, []string{"keys", "nobody"}},
		"Error: messenger sales has no key set to fetch": {4, []string{"refresh"}},
	} {
		if r := s.messenger("", append(test.args, "--address", address)...); r.status != test.status || !strings.HasPrefix(r.err, want) {
			t.Errorf("status %d %s, want %s", r.status, r.err, want)
		}
	}
}
