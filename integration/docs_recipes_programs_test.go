package integration

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// PHP reads the contact as the page says, with a FastCGI server of its own.
func TestDocsRecipeForPHP(t *testing.T) {
	if !alone(t) {
		return
	}
	program := requireTool(t, "php-cgi")
	k, addr := newKitchen(t), freeAddr(t)
	cmd := exec.Command(program, "-b", addr)
	cmd.Env = append(os.Environ(), "PHP_FCGI_CHILDREN=0")
	serveProgram(t, addr, cmd)
	writeSample(t, filepath.Join(k.dir, "whoami.php"), "<?php\n"+docsSample(t, "php identity")+"echo $messenger, ' ', $identity, ' ', $_SERVER['REMOTE_USER'] ?? '';\n")
	k.cook(t, "PHP behind FastCGI", "/srv/chat", k.dir, "unix//run/php/php-fpm.sock", addr)
	k.says(t, k.get("/whoami.php"), 401, "token_missing")
	a := k.get("/whoami.php", bearer(sign(rsaKey(0), valid("Zoë"))), "X-Contact-Identity: eve", "X!Contact!Identity: eve", "REMOTE_USER: eve", "Remote-User: eve")
	if a.status != 200 || a.body != "support Zoë Zo%C3%AB" {
		t.Errorf("PHP has read %d %q", a.status, a.body)
	}
}

// SockJS hides the header, and the page's backend reads it before that. Where the library is, NODE_PATH says.
func TestDocsRecipeForSockJS(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := probe("sockjs", ".", "node", "-e", "require('sockjs')"); err != nil {
		lacks(t, "sockjs", err)
	}
	k, addr := newKitchen(t), freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(k.dir, "backend.js")
	writeSample(t, file, strings.Replace(docsSample(t, "sockjs backend"), "listen(9000)", "listen("+port+", '127.0.0.1')", 1))
	serveProgram(t, addr, exec.Command("node", file))
	k.cook(t, "SockJS", "https://www.example.com", "https://www.example.com", "chat-backend:9000", addr)
	token := sign(rsaKey(0), valid("Zoë"))
	k.says(t, k.get("/chat/info"), 401, "token_missing")
	k.says(t, k.get("/chat/info", "Cookie: chat="+token, "Origin: https://www.example.com"), 200, "websocket")
	k.says(t, k.do("POST", "/chat/1/abc/xhr", "Cookie: chat="+token, "Origin: https://www.example.com"), 404, "")
	dial := func(origin string) (*websocket.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, _, err := websocket.Dial(ctx, k.url+"/chat/1/abc/websocket", &websocket.DialOptions{HTTPHeader: http.Header{
			"Origin": {origin}, "Cookie": {"chat=" + token}, "X-Contact-Identity": {"eve"}}})
		return conn, err
	}
	if _, err := dial("https://evil.example.com"); err == nil {
		t.Error("a page of another origin has opened a socket with the contact's cookie")
	}
	conn, err := dial("https://www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte(`["hello"]`)); err != nil {
		t.Fatal(err)
	}
	for want := range strings.SplitSeq(`o a["Zoë: hello"]`, " a") {
		_, message, err := conn.Read(ctx)
		if got := strings.TrimPrefix(string(message), "a"); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}

// The unit is one that systemd understands, and its credentials and its environment reach the Caddyfile.
func TestDocsRecipeForSystemd(t *testing.T) {
	if !alone(t) {
		return
	}
	const heading = "A systemd service"
	k, secret := newKitchen(t), newSecret()
	credentials := t.TempDir()
	if err := os.Link(storeKeyFile(t), filepath.Join(credentials, "store.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(credentials, "sales.token"), []byte(secret+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	t.Setenv("SALES_ISSUER", "https://www.example.com")
	k.cook(t, heading, "/var/lib/caddy/admin.sock", k.sock)
	issued := valid("mark")
	k.says(t, k.get("/", bearer(sign(secret, issued))), 401, "issuer_not_allowed")
	issued["iss"] = "https://www.example.com"
	k.says(t, k.get("/", bearer(sign(secret, issued))), 200, "")

	program := requireTool(t, "systemd-analyze")
	file := filepath.Join(t.TempDir(), "caddy.service")
	writeSample(t, file, strings.ReplaceAll(recipeBlock(t, heading, "ini"), "/usr/bin/caddy", caddyBinary(t)))
	if out, err := exec.Command(program, "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// What is stored in the folders of the volumes is there in the next container, and in the storage that a backup was brought to.
func TestDocsRecipesForStorage(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := gatewayFolder(t)
	secret := storeKeyFile(t)
	caddyfile := func(name, storage string) string {
		file := filepath.Join(dir, name)
		writeSample(t, file, "{\n"+storage+"\tmessenger sales {\n\t\tidentity_key identity\n\t\tshared_token\n\t}\n\tmessenger {\n\t\tstore {\n\t\t\tkey {file."+secret+"}\n\t\t}\n\t}\n}\n\nhttp://127.0.0.1:80 {\n\tmessenger_auth sales\n}\n")
		return file
	}
	config, elsewhere := caddyfile("Caddyfile", ""), caddyfile("Caddyfile.elsewhere", "\tstorage file_system "+filepath.Join(dir, "elsewhere")+"\n")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(caddyBinary(t), args...)
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+filepath.Join(dir, "data"), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "HOME="+dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("caddy %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	offline := func(config string, args ...string) string {
		t.Helper()
		return run(append(append([]string{"messenger"}, args...), "--offline", "--config", config)...)
	}
	search.secret(strings.TrimSpace(offline(config, "tokens", "generate", "sales", "--new-store")))
	want := offline(config, "tokens", "list", "sales")
	archive := filepath.Join(dir, "storage.tar")
	run("storage", "export", "--config", config, "--output", archive)
	run("storage", "import", "--config", elsewhere, "--input", archive)
	if got := offline(elsewhere, "tokens", "list", "sales"); got != want || !strings.Contains(got, "active") {
		t.Errorf("after the restore:\n%s\nbefore:\n%s", got, want)
	}
	if got := offline(elsewhere, "list"); !strings.Contains(got, "sales") {
		t.Errorf("list: %s", got)
	}
}

// Two nodes run the Caddyfile of the recipe on one Redis: a token that was generated on one of them is valid on the other.
func TestDocsRecipeForSeveralNodes(t *testing.T) {
	if !alone(t) {
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("not run: the test of nodes on Redis runs on Linux")
	}
	redis, up := startRedis(t), newUpstream(t)
	host, port, _ := net.SplitHostPort(redis.addr)
	key := storeKeyFile(t)
	nodes := make([]*node, 2)
	for i := range nodes {
		n := newNode(t, caddyBinary(t), up, "", "")
		text := strings.NewReplacer("host redis.internal", "host "+host+"\n\t\tport "+port, "/etc/caddy/store.key", key,
			"chat.example.com", n.url, "chat-backend:9000", up.addr).Replace(recipeBlock(t, "Several nodes", "caddyfile"))
		text = strings.Replace(text, "{\n", "{\n\tadmin unix/"+n.gateway.sock+"\n\tlog default {\n\t\toutput file "+n.log+"\n\t}\n", 1)
		if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n.run()
		nodes[i] = n
	}
	token := nodes[0].generate("support").signed()
	patiently(t, "the token counts on the other node", func() bool { return nodes[1].verdict("/", token) == "200" })
	if a, b := nodes[0].ring("support").Tokens, nodes[1].ring("support").Tokens; len(a) != 1 || len(b) != 1 || a[0].KID != b[0].KID {
		t.Errorf("the nodes list %v and %v", a, b)
	}
}
