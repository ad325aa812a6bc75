package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// "explain" is worth something only if it is right about what the gateway does: for a thousand random tokens both come
// to the same verdict, and about the headers of the valid ones.
func TestExplainAndTheGatewayAgree(t *testing.T) {
	if !alone(t) {
		return
	}
	secret, published := newSecret(), newKeyServer(t, publicJWK(rsaKey(0), "a"), publicJWK(rsaKey(1), ""))
	messengers := `
	messenger plain {
		identity_key identity
		shared_token {file.` + write(t, "secret", []byte(secret)) + `}
	}
	messenger strict {
		identity_key sub
		public_key {file.` + write(t, "a.pem", publicPEM(rsaKey(0))) + `} kid a
		public_key {file.` + write(t, "b.pem", publicPEM(rsaKey(1))) + `} kid b
		issuer https://www.example.com
		audience chat
		require_claims exp
		max_lifetime 2h
	}
	messenger published {
		identity_key identity
		audience chat
		jwks ` + published.url + `
	}`
	site := ""
	for _, name := range []string{"plain", "strict", "published"} {
		site += "handle /" + name + " {\n messenger_auth " + name + " {\n claim_header name X-Name\n }\n reverse_proxy UPSTREAM\n}\n"
	}
	up := newUpstream(t)
	g := start(t, up, messengers, site)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := randomTokens{rand.New(rand.NewPCG(seed, 0)), secret}
	verdicts := make(map[string]int)
	// A test whose tokens are all refused for one reason would show nothing.
	unmet := func() string {
		for _, code := range []string{"verified", "token_malformed", "algorithm_not_allowed", "key_unknown", "signature_invalid", "token_expired",
			"token_not_yet_valid", "claim_invalid", "issuer_not_allowed", "audience_not_allowed", "identity_missing", "identity_invalid"} {
			if verdicts[code] == 0 {
				return code
			}
		}
		return ""
	}
	for i := 0; i < 1000 || i < 10_000 && unmet() != ""; i++ {
		name := pick(r.Rand, "plain", "strict", "published")
		token := r.token(name)
		if i%3 == 0 { // a third of them valid
			token = r.goodToken(name)
		}
		if r.IntN(3) == 0 {
			token = r.mutate(token)
		}
		e := g.explain(name, token)
		a := g.get("/"+name, bearer(token))
		got, status := "verified", 200
		if a.status != 200 {
			got, status = a.code(t), a.status
		}
		verdicts[got]++
		if e.outcome() != got || e.Status != status {
			t.Errorf("token %d for %s: explain says %d %s (%s), the gateway %d %s", i, name, e.Status, e.outcome(), e.Reason, status, got)
			continue
		}
		if got != "verified" {
			up.none(t)
			continue
		}
		header := up.one(t).header
		for _, h := range e.Upstream[0].Headers {
			if header.Get(h.Name) != h.Value {
				t.Errorf("token %d for %s: explain says %s: %s, the upstream got %q", i, name, h.Name, h.Value, header.Get(h.Name))
			}
		}
		if len(e.Upstream) != 1 || (header.Get("X-Name") != "") != slices.ContainsFunc(e.Upstream[0].Headers, func(h struct{ Name, Value string }) bool { return h.Name == "X-Name" }) {
			t.Errorf("token %d for %s: explain says %+v, the upstream got %v", i, name, e.Upstream, header)
		}
	}
	t.Logf("%v", verdicts)
	if code := unmet(); code != "" {
		t.Errorf("no token was %s", code)
	}
}

// randomTokens makes valid and invalid tokens.
type randomTokens struct {
	*rand.Rand
	secret string
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// goodToken returns a token that the messenger accepts.
func (r randomTokens) goodToken(messenger string) string {
	c := valid(pick[any](r.Rand, "mark", "Zoë", "100%", 42, "a b"))
	c["sub"], c["iss"], c["aud"] = c["identity"], "https://www.example.com", pick[any](r.Rand, "chat", []string{"x", "chat"})
	if r.IntN(2) == 0 {
		c["name"] = pick[any](r.Rand, "Mark {x}", " Zoë", true, []any{1, "<"}, nil, strings.Repeat("x", 2000))
	}
	switch {
	case messenger == "plain":
		return signWithKID(r.secret, pick(r.Rand, "", "x"), c)
	case r.IntN(2) == 0:
		return signWithKID(rsaKey(0), pick(r.Rand, "", "a"), c)
	case messenger == "strict":
		return signWithKID(rsaKey(1), pick(r.Rand, "", "b"), c)
	default:
		return signWithKID(rsaKey(1), "", c)
	}
}

// token returns a token of which anything may be wrong, though rarely everything.
func (r randomTokens) token(messenger string) string {
	now := time.Now()
	date := func(offsets ...time.Duration) any {
		switch d := pick(r.Rand, offsets...); r.IntN(25) {
		case 0:
			return now.Add(d).UnixMilli()
		case 1:
			return fmt.Sprint(now.Add(d).Unix())
		case 2:
			return pick[any](r.Rand, nil, true, -1, 0, 1e300, 1.5, []int{1})
		default:
			return now.Add(d).Unix()
		}
	}
	c := claims{}
	set := func(oneIn int, name string, value any) {
		if r.IntN(oneIn) > 0 {
			c[name] = value
		}
	}
	identities := []any{"mark", "mark", "Zoë", 42, -7, 1.5, "", " ", " mark", "a\nb", true, nil, []string{"mark"}, map[string]int{"a": 1}, strings.Repeat("x", 256)}
	set(4, "identity", pick(r.Rand, identities...))
	set(4, "sub", pick(r.Rand, identities...))
	set(4, "exp", date(time.Hour, time.Hour, time.Minute, 5*time.Hour, -time.Hour, -10*time.Minute))
	set(8, "iat", date(0, 0, -time.Hour, 10*time.Minute))
	set(3, "nbf", date(0, -time.Hour, 10*time.Minute))
	set(8, "iss", pick[any](r.Rand, "https://www.example.com", "https://www.example.com", "https://www.example.com/", "https://evil.example", 1))
	set(8, "aud", pick[any](r.Rand, "chat", "chat", "Chat", []string{"chat"}, []string{}, []any{1, "chat"}, "x", nil))
	set(2, "name", pick[any](r.Rand, "Mark", "Zoë", nil))
	key, kid := any(rsaKey(0)), pick(r.Rand, "", "a")
	if messenger == "plain" {
		key = r.secret
	}
	if r.IntN(4) == 0 {
		key = pick[any](r.Rand, r.secret, rsaKey(0), rsaKey(1), rsaKey(2), newSecret())
	}
	if r.IntN(4) == 0 {
		kid = pick(r.Rand, "b", "c", "d")
	}
	return signWithKID(key, kid, c)
}

// mutate spoils a token in one way or another. What it returns can stand in an Authorization header.
func (r randomTokens) mutate(token string) string {
	i := r.IntN(len(token))
	segments := strings.Split(token, ".")
	switch r.IntN(10) {
	case 0:
		return token[:i] + token[i+1:]
	case 1:
		return token[:i] + pick(r.Rand, "A", "-", "+", "/", "=", ".", "%", `"`, "{") + token[i+1:]
	case 2:
		return token[:i] + pick(r.Rand, "A", "_", ".", "~") + token[i:]
	case 3:
		return token[:i+1]
	case 4:
		return token[i:]
	case 5:
		return token + pick(r.Rand, "A", "=", ".", "..", ".x", ", "+token)
	case 6:
		return pick(r.Rand, segments...)
	case 7:
		r.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] })
		return strings.Join(segments, ".")
	case 8:
		header := pick(r.Rand, `{"alg":"none"}`, `{"alg":"HS256","crit":["x"]}`, `{"alg":"RS256","typ":"JWE"}`, `{"alg":"HS256","alg":"RS256"}`, `{}`, `null`, `{"alg":"RS256","kid":1}`)
		return b64(header) + "." + segments[1] + "." + segments[2]
	default:
		payload := pick(r.Rand, `{"identity":"mark","identity":"eve"}`, `{"identity":"mark"} x`, `[]`, `{"identity":"\ud800"}`, "\xff", `{"identity":1e400}`, strings.Repeat(`{"a":`, 40)+"1"+strings.Repeat("}", 40))
		return forge(r.secret, pick(r.Rand, `{"alg":"HS256"}`, `{"alg":"HS256","kid":"x"}`, `{"alg":"RS256"}`), payload)
	}
}

// The command's exit status is what scripts go by, and its output what a person needs to see.
func TestExplainCommandSaysWhatTheUpstreamGets(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	secret := newSecret()
	messengers := "messenger sales {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n"
	site := "handle /a {\n messenger_auth sales {\n claim_header name X-Name\n }\n respond ok\n}\nhandle {\n messenger_auth sales {\n identity_encoding raw\n }\n respond ok\n}\n"
	g := start(t, nil, messengers, site)
	config := s.file("Caddyfile", g.caddyfile(messengers, site))
	token := sign(secret, claims{"identity": "Zoë", "name": "a%b", "exp": time.Now().Add(time.Hour).Unix()})
	for where, args := range map[string][]string{"running": {"--address", "unix/" + g.sock}, "file": {"--config", config}} {
		t.Run(where, func(t *testing.T) {
			r := s.messenger("  "+token+" \r\n", append([]string{"explain"}, args...)...)
			for _, want := range []string{"messenger sales (shared_token)\n", "\n  ok    signature\n", "\n  ok    identity\n", "\naccepted: the backend receives\n",
				"  X-Contact-Identity: Zo%C3%AB\n", "  X-Contact-Identity: Zoë\n", "  X-Contact-Messenger: sales\n", "  X-Name: a%25b\n", "\nor, by another messenger_auth of this messenger,\n"} {
				if r.status != 0 || r.err != "" || !strings.Contains(r.out, want) {
					t.Errorf("status %d, want %q in\n%s%s", r.status, want, r.out, r.err)
				}
			}
			r = s.messenger(token, append([]string{"explain", "sales", "--json"}, args...)...)
			if e := parseExplained(t, r.out); r.status != 0 || !e.Accepted || e.Status != http.StatusOK || len(e.Upstream) != 2 || len(e.Findings) != 0 {
				t.Errorf("status %d: %+v", r.status, e)
			}
			if r := s.messenger("", append([]string{"explain"}, args...)...); r.status != 1 || !strings.Contains(r.err, "no token on standard input") {
				t.Errorf("no token: status %d %s", r.status, r.err)
			}
			if r := s.messenger(token, append([]string{"explain", "support"}, args...)...); r.status != 3 || !strings.Contains(r.err, " configured") {
				t.Errorf("an unknown messenger: status %d %s", r.status, r.err)
			}
		})
	}
	for want, text := range map[string]string{
		"messenger":    "{\n}\n",
		"identity_key": "{\n messenger sales {\n shared_token {env.NOBODY}\n }\n}\n",
		"NOBODY":       "{\n messenger sales {\n identity_key sub\n shared_token {env.NOBODY}\n }\n}\n",
	} {
		if r := s.messenger(token, "explain", "--config", s.file("Caddyfile", text)); r.status != 1 || r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("a configuration that does not load: status %d %s, want %q", r.status, r.err, want)
		}
	}
	for mode, passes := range map[string]bool{"report": true, "off": true, "optional": false, "required": false} {
		text := "{\n" + strings.Replace(messengers, "identity_key", "mode "+mode+"\n identity_key", 1) + "\n}\n"
		r := s.messenger(sign(newSecret(), valid("mark")), "explain", "--config", s.file("Caddyfile", text))
		if r.status != 2 || !strings.Contains(r.out, "refused: 401 signature_invalid") || strings.Contains(r.out, "passes anyway") != passes {
			t.Errorf("mode %s: status %d\n%s%s", mode, r.status, r.out, r.err)
		}
	}
	off := "{\n" + messengers + "\n}\nhttp://localhost {\n messenger_auth sales {\n mode off\n }\n respond ok\n}\n"
	if r := s.messenger(token, "explain", "--config", s.file("Caddyfile", off)); r.status != 0 || !strings.Contains(r.out, "the backend receives no identity") {
		t.Errorf("a directive with mode off: status %d\n%s%s", r.status, r.out, r.err)
	}
	if r := s.messenger(token, "explain", "--address", freeAddr(t)); r.status != 1 || !strings.Contains(r.err, "is the gateway running") {
		t.Errorf("no gateway: status %d %s", r.status, r.err)
	}
}

// A person pastes the token. It is not shown, since it would stay in the window, and it is not cut, though a terminal's
// own lines end after 4095 bytes.
func TestExplainCommandTakesALongTokenFromATerminal(t *testing.T) {
	s := newShell(t)
	if out, err := exec.Command("script", "--version").Output(); err != nil || !strings.Contains(string(out), "util-linux") {
		t.Skip("not run: the script of util-linux is needed to have a terminal")
	}
	secret := newSecret()
	g := start(t, nil, "messenger sales {\n identity_key identity\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}", "messenger_auth sales\nrespond ok")
	token := sign(secret, claims{"identity": "mark", "long": strings.Repeat("x", 5000)})
	for name, tt := range map[string]struct {
		typed, want string
		status      int
	}{
		"one line":                              {token + "\r", "X-Contact-Identity: mark", 0},
		"with a character too many, taken back": {token + "x\x7f\r", "X-Contact-Identity: mark", 0},
		"wrapped on two lines":                  {token[:6000] + "\r" + token[6000:] + "\r", "it was wrapped", 2},
		"given up":                              {token[:100] + "\x03", "interrupted", 1},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "script", "-qec", s.binary+" messenger explain --address unix/"+g.sock, "/dev/null")
			cmd.Dir, cmd.Env = s.dir, s.env
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			shown, read := bufio.NewReader(out), ""
			for !strings.Contains(read, "not shown:") {
				line, err := shown.ReadString('\n')
				if read += line; err != nil {
					t.Fatalf("%v\n%s", err, read)
				}
			}
			if _, err := io.WriteString(in, tt.typed); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(shown)
			_ = in.Close()
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tt.status || !strings.Contains(string(rest), tt.want) {
				t.Errorf("status %d, want %d and %q in\n%s", got, tt.status, tt.want, rest)
			}
			search.add("a terminal", []byte(read+string(rest)))
			if strings.Contains(string(rest), token[50:70]) {
				t.Error("the token is shown")
			}
		})
	}
}
