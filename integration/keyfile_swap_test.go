package integration

import (
	"context"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A rotating messenger has its key in a file, and generations of keys to put there.
type rotating struct {
	name   string
	option string           // with FILE for the path
	key    func(n int) any  // what sign takes
	text   func(any) []byte // the content of the file
}

func rotatingMethods() []rotating {
	secrets := []string{newSecret(), newSecret(), newSecret()}
	return []rotating{
		{"shared_token", "shared_token {file.FILE}", func(n int) any { return secrets[n] }, func(key any) []byte { return []byte(key.(string) + "\n") }},
		{"public_key", "public_key {file.FILE}", func(n int) any { return rsaKey(n) }, func(key any) []byte { return publicPEM(key.(*rsa.PrivateKey)) }},
	}
}

// replace puts another file in the place of path at once, as mv does.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A site owner changes a key while contacts are chatting. New tokens pass from then on, and old ones do not; the
// conversations go on, because nothing is reloaded. A file that cannot be used, half written or of another kind, changes
// nothing but the log: the gateway neither opens nor closes.
func TestKeyFileIsSwappedUnderOpenWebSockets(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, m := range rotatingMethods() {
		t.Run(m.name, func(t *testing.T) {
			up := newUpstream(t)
			file := write(t, "key", m.text(m.key(0)))
			g := start(t, up, "messenger support {\n identity_key identity\n "+strings.Replace(m.option, "FILE", file, 1)+"\n}\nmessenger {\n poll_interval 20ms\n}",
				"messenger_auth support {\n token_from header Authorization Bearer\n token_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM")
			first := sign(m.key(0), valid("mark"))
			sockets := openSockets(t, g, first, 50)

			replace(t, file, m.text(m.key(1)))
			second := sign(m.key(1), valid("mark"))
			g.becomes(t, "the new key is active", second, 200)
			if a := g.get("/", bearer(first)); a.status != 401 || a.code(t) != "signature_invalid" {
				t.Errorf("a token of the old key: got %d %s", a.status, a.body)
			}
			for _, conn := range sockets {
				echo(t, conn)
			}

			for name, text := range brokenKeys(m) {
				lines := strings.Count(g.logs(), "a changed key file cannot be used")
				replace(t, file, text)
				eventually(t, "the log tells of a file that is "+name, func() bool { return strings.Count(g.logs(), "a changed key file cannot be used") > lines })
				if a := g.get("/", bearer(second)); a.status != 200 {
					t.Errorf("with a file that is %s: got %d %s", name, a.status, a.body)
				}
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			g.waitForLog("no such file")
			if a := g.get("/", bearer(second)); a.status != 200 {
				t.Errorf("without the file: got %d %s", a.status, a.body)
			}

			replace(t, file, m.text(m.key(2)))
			g.becomes(t, "a valid file is used after invalid ones", sign(m.key(2), valid("mark")), 200)
			for _, conn := range sockets {
				echo(t, conn)
			}
			if _, err := websocketDial(t, g, second); err == nil {
				t.Error("a new WebSocket opens with a token of an old key")
			}
		})
	}
}

func brokenKeys(m rotating) map[string][]byte {
	text := m.text(m.key(2))
	broken := map[string][]byte{"empty": nil, "cut": text[:20], "of zeros": make([]byte, 64)}
	if m.name == "shared_token" {
		broken["a public key"] = publicPEM(rsaKey(0))
	} else {
		broken["a shared token"] = []byte(newSecret())
		broken["a private key"] = privatePEM(rsaKey(2))
	}
	return broken
}

// becomes waits until a request with token is answered with status.
func (g *gateway) becomes(t *testing.T, what, token string, status int) {
	t.Helper()
	eventually(t, what, func() bool { return g.get("/", bearer(token)).status == status })
}

func websocketDial(t *testing.T, g *gateway, token string) (*websocket.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, g.url+"/socket", &websocket.DialOptions{Subprotocols: []string{"jwt", token}})
	return conn, err
}

func openSockets(t *testing.T, g *gateway, token string, n int) []*websocket.Conn {
	t.Helper()
	sockets := make([]*websocket.Conn, n)
	for i := range sockets {
		conn, err := websocketDial(t, g, token)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.CloseNow() })
		echo(t, conn)
		sockets[i] = conn
	}
	return sockets
}

// A secret that an orchestrator mounts is a link to a link, and a new version swaps the link in the middle; an editor
// writes a file in place. Both are seen, because contents are compared.
func TestKeyFileBehindLinksAndWrittenInPlace(t *testing.T) {
	up := newUpstream(t)
	dir := t.TempDir()
	secrets := []string{newSecret(), newSecret(), newSecret()}
	for n, secret := range secrets[:2] {
		version := filepath.Join(dir, fmt.Sprintf("..version%d", n))
		if err := os.Mkdir(version, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(version, "token"), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..version0", "..data")
	link("..data/token", "token")
	g := start(t, up, "messenger support {\n identity_key identity\n shared_token {file."+filepath.Join(dir, "token")+"}\n}\nmessenger {\n poll_interval 20ms\n}", "messenger_auth support\nreverse_proxy UPSTREAM")
	g.becomes(t, "the first version", sign(secrets[0], valid("mark")), 200)
	link("..version1", "..data")
	g.becomes(t, "the version behind the new link", sign(secrets[1], valid("mark")), 200)
	file := filepath.Join(dir, "..version1", "token")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(secrets[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	g.becomes(t, "a file of the same size and time", sign(secrets[2], valid("mark")), 200)
	g.becomes(t, "the version before is over", sign(secrets[1], valid("mark")), 401)
}

// With poll_interval 0 a key changes with the configuration only, for those who want nothing to happen behind their back.
func TestPollIntervalZeroReadsKeysOnlyAtLoad(t *testing.T) {
	up := newUpstream(t)
	file := write(t, "old", []byte(newSecret()))
	secrets := []string{newSecret(), newSecret()}
	replace(t, file, []byte(secrets[0]))
	messengers := "messenger support {\n identity_key identity\n shared_token {file." + file + "}\n}\nmessenger other {\n identity_key identity\n shared_token {file." + write(t, "other", []byte(newSecret())) + "}\n}\nmessenger {\n poll_interval 0\n}\n"
	g := start(t, up, messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
	replace(t, file, []byte(secrets[1]))
	time.Sleep(100 * time.Millisecond) // nothing may happen, however long we wait
	if a := g.get("/", bearer(sign(secrets[0], valid("mark")))); a.status != 200 {
		t.Errorf("got %d %s, want the old key to be active", a.status, a.body)
	}
	g.load(messengers, "messenger_auth support\nreverse_proxy UPSTREAM\n# changed")
	if a := g.get("/", bearer(sign(secrets[1], valid("mark")))); a.status != 200 {
		t.Errorf("after a load: got %d %s, want the new key to be active", a.status, a.body)
	}
}

// A change without a gap has the old key and the new one side by side. A kid says which one a token means, and a token
// that names the one and is signed with the other is a forgery or a mistake.
func TestKeysOverlap(t *testing.T) {
	up := newUpstream(t)
	old, young := write(t, "old", publicPEM(rsaKey(0))), write(t, "new", publicPEM(rsaKey(1)))
	g := start(t, up, "messenger support {\n identity_key identity\n public_key {file."+old+"} kid 2025\n public_key {file."+young+"} kid 2026\n}\nmessenger {\n poll_interval 20ms\n}",
		"messenger_auth support\nreverse_proxy UPSTREAM")
	for _, test := range []struct {
		name string
		kid  string
		key  int
		code string
	}{
		{"the old key", "2025", 0, ""}, {"the new key", "2026", 1, ""}, {"the old key without a kid", "", 0, ""}, {"the new key without a kid", "", 1, ""},
		{"the new key under the old name", "2025", 1, "signature_invalid"}, {"the old key under the new name", "2026", 0, "signature_invalid"},
		{"an unknown name", "2024", 0, "key_unknown"}, {"another key without a kid", "", 2, "signature_invalid"}, {"a name with a blank", "2025 ", 0, "key_unknown"},
	} {
		a := g.get("/", bearer(signWithKID(rsaKey(test.key), test.kid, valid("mark"))))
		if test.code == "" && a.status != 200 || test.code != "" && (a.status != 401 || a.code(t) != test.code) {
			t.Errorf("%s: got %d %s, want %q", test.name, a.status, a.body, test.code)
		}
	}
	// The old key is withdrawn by putting the new one into its file as well.
	replace(t, old, publicPEM(rsaKey(1)))
	g.becomes(t, "the old key is withdrawn", signWithKID(rsaKey(0), "2025", valid("mark")), 401)
	g.becomes(t, "the new key stays", signWithKID(rsaKey(1), "2026", valid("mark")), 200)
}
