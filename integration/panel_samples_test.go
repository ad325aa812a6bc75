package integration

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A tool runs the endpoint /chat-token of one language. run returns an error if what the language needs is not installed.
type tool struct {
	language, file string
	nobody         string // how the program says that the visitor is not logged in, and what a site writes there
	session        string
	name           string // how it reads an environment variable
	run            func(dir, file, port string) (*exec.Cmd, error)
}

var tools = []tool{
	{"node", "chat-token.mjs", "const id = null", "const id = request.headers.cookie === 'session=mark' ? process.env.IDENTITY : null", "process.env.NAME",
		func(dir, file, _ string) (*exec.Cmd, error) { return interpreter(dir, "node", file) }},
	{"python", "chat_token.py", "id = None", `id = os.environ["IDENTITY"] if environ.get("HTTP_COOKIE") == "session=mark" else None`, `os.environ["NAME"]`,
		func(dir, file, _ string) (*exec.Cmd, error) { return pythonWithJWT(dir, file) }},
	{"php", "public/chat-token.php", "$id = null", `$id = ($_COOKIE['session'] ?? '') === 'mark' ? getenv('IDENTITY') : null`, "getenv('NAME')",
		func(dir, file, port string) (*exec.Cmd, error) {
			return exec.Command("php", "-S", "127.0.0.1:"+port, file), probe(dir, "php", "--version")
		}},
	{"go", "chat-token.go", `id := ""`, `id := map[string]string{"session=mark": os.Getenv("IDENTITY")}[r.Header.Get("Cookie")]`, `os.Getenv("NAME")`,
		func(dir, file, _ string) (*exec.Cmd, error) { return interpreter(dir, "go", file) }},
	{"java", "ChatToken.java", "String id = null", `String id = "session=mark".equals(request.getRequestHeaders().getFirst("Cookie")) ? System.getenv("IDENTITY") : null`, `System.getenv("NAME")`,
		func(dir, file, _ string) (*exec.Cmd, error) { // a runtime without a compiler cannot run a source file
			return exec.Command("java", file), probe(dir, "javac", "--version")
		}},
	{"csharp", "ChatToken.cs", "string id = null", `string id = request.Headers["Cookie"] == "session=mark" ? Environment.GetEnvironmentVariable("IDENTITY") : null`, `Environment.GetEnvironmentVariable("NAME")`,
		runOnMono},
}

var (
	errBroken     = errors.New("the program does not compile")
	errSyntaxOnly = errors.New("it needs .NET; its syntax was checked")
	errUnsigned   = errors.New("the page says that this language does not sign with the algorithm")
)

// runOnMono compiles the program for Mono, with two functions of .NET that Mono does not have. Of keys Mono knows RSA alone.
func runOnMono(dir, file, _ string) (*exec.Cmd, error) {
	if err := probe(dir, "mcs", "--version"); err != nil {
		return nil, err
	}
	if out, err := command(dir, exec.Command("mcs", "--parse", file)); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", errBroken, err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if regexp.MustCompile(`ECDsa|\.Pss|FromHexString`).Match(text) {
		return nil, errSyntaxOnly
	}
	functions, err := filepath.Abs("testdata/mono.cs")
	if err != nil {
		return nil, err
	}
	binary := strings.TrimSuffix(file, ".cs") + ".exe"
	if out, err := command(dir, exec.Command("mcs", "-out:"+binary, "-r:System.Web.Extensions", "-r:Mono.Security", file, functions)); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", errBroken, err, out)
	}
	return exec.Command("mono", binary), nil
}

// What a site owner, or the key server of another, may write in order to break out of a program that a developer runs.
const odd = "it's \"quoted\" '; DROP TABLE x; -- \\ \\n \\u0022 ${x} $y {$z} #{z} %s ?> */ </script> {{.}} é \u202e\u2028"

// A signer is a messenger with what its site signs with.
type signer struct {
	settings map[string]any
	config   string // in place of settings: of a configured messenger
	secret   string
	key      crypto.PrivateKey
}

// A site developer copies a program from the page Embed, lets it ask the site's own session who is logged in, and starts it. It is a
// route, which hands out tokens that this messenger accepts, with what they say about the contact: in every language and with
// every method, also where the settings have characters that a program could trip over.
func TestPanelProgramsAreRoutes(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, language := range strings.Fields(os.Getenv("MESSENGER_REQUIRE_TOOLS")) {
		if !slices.Contains(otherTools, language) && !slices.ContainsFunc(tools, func(tool tool) bool { return tool.language == language }) {
			t.Errorf("MESSENGER_REQUIRE_TOOLS: no program is in %q", language)
		}
	}
	signers := map[string]signer{
		"secret": {settings: map[string]any{"identity_key": "https://example.com/id", "shared_token": map[string]any{}, "issuer": []string{odd}, "audience": []string{odd + "aud"},
			"max_lifetime": "5m", "token_type": "at+jwt", "require_claims": []string{"exp", "iat"}, "contact_claims": []string{"name", odd}}},
		"public": {settings: map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0))), "kid": odd}},
			"token_type": "application/Chat+JWT", "audience": []string{odd}, "require_claims": []string{"exp"}, "contact_claims": []string{"name", odd}}, key: rsaKey(0)},
	}
	configured := ""
	if os.Getenv("MESSENGER_SOAK") != "" {
		maps.Copy(signers, everySigner(t))
	}
	for name, s := range signers {
		if s.config != "" {
			configured += "messenger " + name + " {\nidentity_path /user/id\ncontact_claims name\nrequire_claims exp\n" + s.config + "\n}\n"
		}
	}
	up := newUpstream(t)
	g := startPanel(t, up, configured)
	u := g.panelOperator()
	var routes []*route
	for name, s := range signers {
		if s.config == "" {
			g.operator().want(201, http.MethodPut, "messengers/"+name, s.settings) // the panel refuses characters that are not visible
			if s.key == nil {
				s.secret = u.change(name, "generate").secret(t)
			}
		}
		page := u.get("?page=embed&messenger=" + name)
		page.says(t, 200, "On your server: sign a token")
		for _, tool := range tools {
			routes = append(routes, &route{messenger: name, tool: tool, signer: s, page: page.body})
		}
	}
	// They start beside each other, as many as there are processors, and are asked one by one: the backend has one memory.
	processors, ready := make(chan struct{}, runtime.NumCPU()), make(chan *route)
	for _, r := range routes {
		go func() {
			processors <- struct{}{}
			defer func() {
				<-processors
				ready <- r
			}()
			r.err = errors.New("preparing it was given up")
			r.err = r.start(t)
		}()
	}
	for range routes {
		r := <-ready
		t.Run(r.messenger+" "+r.tool.language, func(t *testing.T) {
			switch {
			case r.err == nil:
				r.check(t, g, up)
			case r.err == errSyntaxOnly || r.err == errUnsigned:
				t.Skip(r.err)
			case errors.Is(r.err, exec.ErrNotFound) || errors.As(r.err, new(*exec.ExitError)) && !errors.Is(r.err, errBroken):
				skipWithout(t, r.tool.language, r.err)
			default:
				t.Fatalf("%v\n%s", r.err, r.program())
			}
		})
	}
}

// A route is one program while it runs.
type route struct {
	messenger string
	tool      tool
	signer    signer
	page      string

	addr string
	err  error // why it does not run
}

// program is what the page shows in the language of the tool.
func (r *route) program() string {
	found := regexp.MustCompile(`(?s)<code id="sample-` + r.tool.language + `">(.*?)</code>`).FindStringSubmatch(r.page)
	if found == nil {
		return ""
	}
	return html.UnescapeString(found[1])
}

// start does what a developer does: it writes down the program, replaces the marked function, and starts it.
func (r *route) start(t *testing.T) error {
	program := r.program()
	if program == "" {
		return errUnsigned
	}
	if strings.Count(program, "REPLACE THIS") != 1 || strings.Count(program, r.tool.nobody) != 1 || !strings.Contains(program, `"…"`) {
		return errors.New("the program does not have one function to replace")
	}
	program = strings.ReplaceAll(strings.Replace(program, r.tool.nobody, r.tool.session, 1), `"…"`, r.tool.name)
	dir := t.TempDir()
	if r.signer.key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(r.signer.key)
		if err != nil {
			return err
		}
		writeSample(t, filepath.Join(dir, "chat.key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	file := filepath.Join(dir, r.tool.file)
	writeSample(t, file, program)
	r.addr = freeAddr(t)
	_, port, _ := net.SplitHostPort(r.addr)
	cmd, err := r.tool.run(dir, file, port)
	if err != nil {
		return err
	}
	var complaints bytes.Buffer
	cmd.Dir, cmd.Stderr, cmd.Stdout = dir, &complaints, &complaints
	cmd.Env = append(os.Environ(), "PORT="+port, "CHAT_SHARED_TOKEN="+r.signer.secret, "IDENTITY="+oddContact, "NAME="+oddName, "LC_ALL=C.UTF-8")
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			return errors.New("the program has ended: " + complaints.String())
		default:
		}
		if conn, err := net.Dial("tcp", r.addr); err == nil {
			return conn.Close()
		}
	}
	return errors.New("the program does not listen")
}

const (
	oddContact = `mark'"; DROP TABLE x; -- \ </script> ${x} #{x} ë 张 😀`
	oddName    = "M\"ark\\ \u2028 'é' 😀 </script>"
)

// check asks the route as a page does, and sends the token to the gateway.
func (r *route) check(t *testing.T, g *gateway, up *upstream) {
	ask := func(method, cookie string) answer {
		request, err := http.NewRequest(method, "http://"+r.addr+"/chat-token", nil)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != "" {
			request.Header.Set("Cookie", cookie)
		}
		resp, err := plainClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{resp.StatusCode, resp.Header, string(body)}
	}
	for _, cookie := range []string{"", "session=eve"} {
		if a := ask("POST", cookie); a.status != 401 || strings.Contains(a.body, ".") || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("a visitor who is not logged in gets %d %v %s", a.status, a.header, a.body)
		}
	}
	if a := ask("GET", "session=mark"); a.status != 404 && a.status != 405 {
		t.Errorf("GET is answered with %d %s", a.status, a.body)
	}
	a := ask("POST", "session=mark")
	if a.status != 200 || a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Fatalf("the contact gets %d %v %s", a.status, a.header, a.body)
	}
	token := strings.TrimSpace(a.body)
	search.secret(token)
	up.take()
	if a := g.get("/"+r.messenger+"/hello", bearer(token)); a.status != 200 {
		t.Fatalf("the token is answered with %d %s\n%s", a.status, a.body, r.program())
	}
	request := up.one(t)
	if got, err := url.PathUnescape(request.header.Get("X-Contact-Identity")); got != oddContact || err != nil {
		t.Errorf("the identity arrives as %q, %v", got, err)
	}
	got := map[string]string{}
	text, err := url.PathUnescape(request.header.Get("X-Contact-Claims"))
	if err == nil {
		err = json.Unmarshal([]byte(text), &got)
	}
	want := map[string]string{"name": oddName}
	if r.signer.config == "" {
		want[odd] = oddName
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("the backend is told %q, %v; want %q", got, err, want)
	}
}

// everySigner returns a messenger for every algorithm, and for every encoding of a shared token.
func everySigner(t *testing.T) map[string]signer {
	list := make(map[string]signer)
	public := func(algorithm string, key crypto.Signer) {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(algorithm)
		file := write(t, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		list[name] = signer{config: "public_key {file." + file + "} kid 2026 alg " + algorithm, key: key}
	}
	for _, algorithm := range []string{"RS384", "RS512", "PS256", "PS384", "PS512"} {
		public(algorithm, rsaKey(0))
	}
	for algorithm, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public(algorithm, key)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public("EdDSA", edwards)
	secret := []byte(newSecret() + newSecret())[:65] // of a length that makes padding
	for encoding, text := range map[string]string{"raw": string(secret), "base64": base64.StdEncoding.EncodeToString(secret),
		"base64url": base64.RawURLEncoding.EncodeToString(secret), "hex": hex.EncodeToString(secret)} {
		search.secret(text)
		file := write(t, encoding+".token", []byte(text))
		for _, algorithm := range []string{"HS384", "HS512"} {
			list[strings.ToLower(algorithm)+"-"+encoding] = signer{config: "shared_token {file." + file + "} " + encoding + " {\nalg " + algorithm + "\n}", secret: text}
		}
	}
	return list
}
