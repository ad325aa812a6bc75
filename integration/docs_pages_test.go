package integration

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/coder/websocket"
)

func adapt(text string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return config, err
}

func TestDocsCaddyfilesAreFormattedAndAdapt(t *testing.T) {
	for _, block := range docsBlocks(t, "caddyfile") {
		if got := string(caddyfile.Format([]byte(block))); got != block {
			t.Errorf("not formatted; caddy fmt writes\n%s", got)
		}
		if !strings.HasPrefix(block, "{") {
			block = "{\n" + block + "}\n" // a global option alone
		}
		if _, err := adapt(block); err != nil {
			t.Errorf("%v\n%s", err, block)
		}
	}
}

// The first Caddyfile of the README is what an operator starts from. It draws no warning of the gateway.
func TestDocsShortestCaddyfileWorks(t *testing.T) {
	up := newUpstream(t)
	g := newGateway(t, up, "http://")
	text := strings.NewReplacer(
		"/etc/caddy/support.pem", write(t, "support.pem", publicPEM(rsaKey(0))),
		"chat.example.com", g.url,
		"chat-backend:9000", up.addr,
	).Replace(docsBlocks(t, "caddyfile")[0])
	text = strings.Replace(text, "{\n", "{\n\tadmin unix/"+g.sock+"\n\tlog default {\n\t\toutput file "+g.log+"\n\t}\n", 1)
	config, err := adapt(text)
	if err != nil {
		t.Fatal(err)
	}
	g.replace(config)
	log, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"logger":"messenger`) && !strings.Contains(line, `"level":"info"`) {
			t.Errorf("the configuration draws a warning: %s", line)
		}
	}
	if a := g.get("/", bearer(sign(rsaKey(0), valid("mark")))); a.status != 200 {
		t.Errorf("a valid token: got %d %s", a.status, a.body)
	}
	r := up.one(t)
	if got := r.header.Get("X-Contact-Identity") + " of " + r.header.Get("X-Contact-Messenger"); got != "mark of support" {
		t.Errorf("the backend was told %q", got)
	}
	if a := g.get("/", bearer(sign(rsaKey(1), valid("mark")))); a.status != 401 || a.code(t) != "signature_invalid" {
		t.Errorf("a forged token: got %d %s", a.status, a.body)
	}
}

// documentedOptions returns the places of every option in the table, by its name.
func documentedOptions(t *testing.T) map[string][]string {
	t.Helper()
	options := make(map[string][]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)[^|]* \\| ([^|]+) \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(section(docsPage(t, "options"), "All options"), -1) {
		if options[row[1]] != nil {
			t.Errorf("%s has two rows", row[1])
		}
		options[row[1]] = strings.Split(row[2], ", ")
	}
	return options
}

func TestDocsOptionsExist(t *testing.T) {
	caddyfiles := map[string]string{
		"messenger":          "{\n\tmessenger support {\n\t\tOPTION\n\t}\n}\n",
		"jwks block":         "{\n\tmessenger support {\n\t\tjwks https://www.example.com/ {\n\t\t\tOPTION\n\t\t}\n\t}\n}\n",
		"shared_token block": "{\n\tmessenger support {\n\t\tshared_token {env.X} {\n\t\t\tOPTION\n\t\t}\n\t}\n}\n",
		"unnamed block":      "{\n\tmessenger {\n\t\tOPTION\n\t}\n}\n",
		"directive":          "http://localhost {\n\tmessenger_auth support {\n\t\tOPTION\n\t}\n}\n",
		"panel":              "http://localhost {\n\tmessenger_panel {\n\t\tOPTION\n\t}\n}\n",
	}
	written := map[string]string{"messenger": "the global option messenger <name>", "jwks block": "the block of jwks", "shared_token block": "the block of shared_token", "unnamed block": "the global option messenger { … } without a name",
		"directive": "the directive messenger_auth", "panel": "the directive messenger_panel"}
	options := documentedOptions(t)
	if len(options) == 0 {
		t.Fatal("the page has no table of options")
	}
	for option, places := range options {
		listed := strings.Join(places, ", ")
		for place, text := range caddyfiles {
			_, err := adapt(strings.Replace(text, "OPTION", option, 1))
			exists := err == nil || !strings.Contains(err.Error(), "unknown option")
			if want := strings.Contains(listed, place); exists != want {
				t.Errorf("%s in the place %q: exists is %t, and the table says %t", option, place, exists, want)
			}
			if !exists && !slices.ContainsFunc(places, func(right string) bool { return strings.Contains(err.Error(), "belongs into "+written[right]) }) {
				t.Errorf("%s in the place %q: the error does not say where it belongs: %v", option, place, err)
			}
		}
	}
	if _, err := adapt(strings.Replace(caddyfiles["directive"], "OPTION", "no_such_option", 1)); err == nil || !strings.Contains(err.Error(), "unknown option") {
		t.Errorf("an option that is none: %v", err)
	}
}

// The page about the panel shows it as the tests have pictured it, and stays small.
func TestDocsPictureIsThere(t *testing.T) {
	found := regexp.MustCompile(`!\[[^\]]+\]\(([^)]+)\)`).FindStringSubmatch(docsPage(t, "panel"))
	if found == nil {
		t.Fatal("the page has no picture")
	}
	picture, err := os.ReadFile(docsFolder + found[1])
	if err != nil {
		t.Fatal(err)
	}
	if kind := http.DetectContentType(picture); kind != "image/png" || len(picture) > 200<<10 {
		t.Errorf("the picture is %s of %d KiB, want a PNG of at most 200", kind, len(picture)>>10)
	}
}

// Every setting of the JSON configuration is an option of the Caddyfile, and so the table has it.
func TestDocsOptionsAreComplete(t *testing.T) {
	options := documentedOptions(t)
	check := func(place string, typ reflect.Type, names map[string]string) {
		for typ.Kind() != reflect.Struct {
			typ = typ.Elem()
		}
		for field := range typ.Fields() {
			setting, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if setting == "" {
				continue
			}
			option, renamed := names[setting]
			if !renamed {
				option = setting
			}
			if option != "" && !strings.Contains(strings.Join(options[option], ", "), place) {
				t.Errorf("the table has no option %s for the place %q", option, place)
			}
		}
	}
	module := func(id string) reflect.Type {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		return reflect.TypeOf(info.New())
	}
	app := module("messenger")
	messengers, _ := app.Elem().FieldByName("Messengers")
	check("unnamed block", app, map[string]string{"messengers": ""})
	jwks, _ := messengers.Type.Elem().Elem().FieldByName("JWKS")
	check("messenger", messengers.Type, nil)
	check("jwks block", jwks.Type, map[string]string{"url": ""}) // an argument
	shared, _ := messengers.Type.Elem().Elem().FieldByName("SharedToken")
	check("shared_token block", shared.Type, map[string]string{"token": "", "encoding": ""}) // arguments
	check("directive", module("http.handlers.messenger_auth"),
		map[string]string{"match": "", "messenger": "", "claim_headers": "claim_header", "logout_everywhere": ""}) // the first two are arguments
	check("panel", module("http.handlers.messenger_panel"), map[string]string{"messengers": ""}) // arguments
}

// Caddy's own logs contain tokens from all sources that Caddy does not redact. With the documented filter they contain none, from any
// source, well formed or not.
func TestDocsFilterKeepsTokensOutOfTheLogs(t *testing.T) {
	up := newUpstream(t)
	secret := newSecret()
	key := write(t, "secret", []byte(secret))
	g := start(t, up, "messenger support {\n identity_key identity\n shared_token {file."+key+"}\n}", `
	messenger_auth support {
		token_from header Authorization Bearer
		token_from header X-Chat-Token
		token_from cookie chat
		token_from query token
		token_from websocket_protocol jwt
	}
	@fail path /fail
	error @fail 500
	reverse_proxy UPSTREAM`)
	token := sign(secret, valid("mark"))
	header, payload, _ := strings.Cut(token, ".")
	forms := map[string]string{
		"a valid one":         token,
		"one without its end": token[:strings.LastIndexByte(token, '.')],
		"a payload alone":     strings.Split(payload, ".")[0],
		"one behind a blank":  "x." + payload,
		"one with padding":    header + "=." + payload,
		"one in two spoiled":  token + "." + payload,
	}
	for name, form := range forms {
		for _, path := range []string{"/", "/fail"} {
			g.get(path+"?a=1&token="+form+"&b=%zz", "Referer: https://www.example.com/?x=1&token="+form)
			g.get(path, "Referer: https://www.example.com/100%?x=1&token="+form)
			g.get(path + "?to%6Ben=" + form + ";x")
			g.get(path, "X-Chat-Token: "+form)
			g.get(path, "Cookie: chat="+form)
			g.get(path, "Authorization: Bearer "+form)
			g.get(path, "Sec-WebSocket-Protocol: chat.v1, jwt, "+form, "Connection: Upgrade", "Upgrade: websocket")
			g.get(path, "Sec-WebSocket-Protocol: chat.v1", "Sec-WebSocket-Protocol: jwt", "Sec-WebSocket-Protocol: "+form)
		}
		if t.Failed() {
			t.Logf("with %s", name)
		}
	}
	conn, _, err := websocket.Dial(context.Background(), g.url+"/?token="+token, &websocket.DialOptions{Subprotocols: []string{"chat.v1", "jwt", token}})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	eventually(t, "all requests are logged", func() bool { return strings.Count(g.logs(), `"msg":"handled request"`) == len(forms)*16+1 })
	for line := range strings.SplitSeq(g.logs(), "\n") {
		if strings.Contains(line, payload[:24]) {
			t.Errorf("a token is in the log: %s", line)
		}
	}
	if log := filepath.Base(g.log); !strings.Contains(g.logs(), "REDACTED") {
		t.Errorf("%s has no REDACTED: nothing was filtered", log)
	}
}

// What is documented of explain is what a newcomer sees.
func TestDocsExplainOutputMatches(t *testing.T) {
	s := newShell(t)
	g := startExample(t, newSecret())
	found := regexp.MustCompile("(?s)<!-- explain -->\n```console\n(.*?)```\n").FindStringSubmatch(docsPage(t, "tokens"))
	if found == nil {
		t.Fatal("the page has no sample of explain")
	}
	want, got := found[1], ""
	s.dir = demoFolder(t, newSecret())
	if err := os.Symlink(s.binary, filepath.Join(s.dir, "caddy")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(want) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, "unix/demo/admin.sock", "unix/"+g.sock))
			cmd.Dir, cmd.Env = s.dir, s.env
			out, err := cmd.CombinedOutput()
			if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			got += line + string(out)
		}
	}
	if got != want {
		t.Errorf("the page shows\n%s\nand a newcomer gets\n%s", want, got)
	}
}
