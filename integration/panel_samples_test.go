package integration

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
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
	"strings"
	"testing"
)

// What a site owner, or the key server of another, may write in order to break out of a program that a developer runs.
const odd = "it's \"quoted\" '; DROP TABLE x; -- \\ \\n \\u0022 ${x} $y {$z} #{z} %s ?> */ </script> {{.}} \u202e\u2028 é"

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
func TestPanelProgramsWorkAsRoutes(t *testing.T) {
	if !alone(t) {
		return
	}
	signers := map[string]signer{
		"secret": {settings: map[string]any{"identity_key": "https://example.com/id", "shared_token": map[string]any{}, "issuer": []string{odd}, "audience": []string{odd + "aud"},
			"max_lifetime": "5m", "token_type": "at+jwt", "require_claims": []string{"exp", "iat"}, "contact_claims": []string{"name", odd}}},
		"public": {settings: map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0))), "kid": odd}},
			"token_type": "application/Chat+JWT", "audience": []string{odd}, "require_claims": []string{"exp"}, "contact_claims": []string{"name", odd}}, key: rsaKey(0)},
	}
	configured := ""
	if soaking() {
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
			case errors.Is(r.err, errNotAsked) || errors.Is(r.err, exec.ErrNotFound) || errors.As(r.err, new(*exec.ExitError)) && !errors.Is(r.err, errBroken):
				lacks(t, r.tool.language, r.err)
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
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PORT="+port, "CHAT_SHARED_TOKEN="+r.signer.secret, "IDENTITY="+oddContact, "NAME="+oddName, "LC_ALL=C.UTF-8")
	return startProgram(t, r.addr, cmd)
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
