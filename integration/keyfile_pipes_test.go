//go:build unix

package integration

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const keyFileSite = "messenger_auth {path.0} {\n token_from header Authorization Bearer\n}\nrespond ok"

// keyFileNode is a gateway in a process of its own, with the messenger support, whose key is in the file first, and sales,
// whose keys are in two files.
func keyFileNode(t *testing.T, first, second, third string) *node {
	t.Helper()
	return newNode(t, caddyBinary(t), nil, `
	messenger support {
		identity_key identity
		public_key {file.`+first+`}
	}
	messenger sales {
		identity_key identity
		public_key {file.`+second+`}
		public_key {file.`+third+`}
	}
	messenger {
		poll_interval 50ms
	}`, keyFileSite)
}

func newFIFO(t *testing.T, name string) {
	t.Helper()
	if err := syscall.Mkfifo(name+".new", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// accepts reports whether the messenger takes a token that key has signed.
func (n *node) accepts(messenger string, key *rsa.PrivateKey) bool {
	return n.get("/"+messenger+"/", bearer(sign(key, valid("mark")))).status == http.StatusOK
}

// reload gives the node its configuration again, with another text to respond, and returns the status and the body of the
// answer. It waits until nothing of the configuration before takes connections, as replace does.
func (n *node) reload(text string) (int, string, error) {
	config, err := os.ReadFile(n.config)
	if err != nil {
		return 0, "", err
	}
	return n.tryLoad(bytes.Replace(config, []byte("respond ok"), []byte(`respond "`+text+`"`), 1))
}

// loads gives the node another configuration.
func (n *node) loads(config string) {
	n.gateway.t.Helper()
	if status, said, err := n.tryLoad([]byte(config)); status != http.StatusOK {
		n.gateway.t.Fatalf("the load: %d %s %v", status, said, err)
	}
}

func (n *node) tryLoad(config []byte) (int, string, error) {
	r, err := http.NewRequest(http.MethodPost, "http://caddy/load", bytes.NewReader(config))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	client := n.adminClient()
	client.Timeout = time.Minute
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if runtime.GOOS == "linux" { // which alone tells
		eventually(n.gateway.t, "the servers of the configuration before have closed their listeners", func() bool { return listeners(n.gateway.t, n.addr) <= 1 })
	}
	return resp.StatusCode, string(body), err
}

// terminate sends SIGTERM and waits for the end of the process.
func (n *node) terminate(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.exited:
		if status := n.cmd.ProcessState.ExitCode(); status != 0 {
			t.Errorf("the process ended with status %d", status)
		}
	case <-time.After(time.Minute):
		t.Error("a minute after SIGTERM the process is still there")
	}
}

// A secrets manager puts a pipe in the place of a key file. Nothing writes to it. The other files are still read when they
// change, also the one of the same messenger; a reload says what is wrong and leaves the gateway as it was; and the process
// ends when it is told to, even while a reload waits for the pipe.
func TestPipeAsKeyFileDoesNotDelayOtherFiles(t *testing.T) {
	if !alone(t) {
		return
	}
	first, second, third := write(t, "first", publicPEM(rsaKey(0))), write(t, "second", publicPEM(rsaKey(0))), write(t, "third", publicPEM(rsaKey(1)))
	n := keyFileNode(t, first, second, third)
	n.run()
	newFIFO(t, first)
	newFIFO(t, second)
	n.waitForLog("{file." + first + "}: the file is a pipe")
	n.waitForLog("{file." + second + "}: the file is a pipe")

	replace(t, third, publicPEM(rsaKey(2)))
	eventually(t, "the file behind the pipe is read", func() bool { return n.accepts("sales", rsaKey(2)) })
	if n.accepts("sales", rsaKey(1)) {
		t.Error("the key that was replaced is still active")
	}
	if !n.accepts("support", rsaKey(0)) || !n.accepts("sales", rsaKey(0)) {
		t.Error("the keys loaded before are not active any more")
	}

	status, body, err := n.reload("again")
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusBadRequest || !strings.Contains(body, "nothing was written to the pipe in time") ||
		!strings.Contains(body, "messenger s") || !strings.Contains(body, "public_key {file.") {
		t.Errorf("the reload: got %d %s", status, body)
	}
	if !n.accepts("support", rsaKey(0)) {
		t.Error("the reload that failed has changed something")
	}
	replace(t, third, publicPEM(rsaKey(1)))
	eventually(t, "files are read after the reload", func() bool { return n.accepts("sales", rsaKey(1)) })

	// Files are there again, and are taken without a reload.
	replace(t, first, publicPEM(rsaKey(2)))
	eventually(t, "the file is read that was a pipe", func() bool { return n.accepts("support", rsaKey(2)) })

	go func() { _, _, _ = n.reload("once more") }() // the gateway may end before it answers
	opened := make(chan error, 1)
	go func() { // waits until the load has opened the pipe
		pipe, err := os.OpenFile(second, os.O_WRONLY, 0)
		opened <- err
		<-t.Context().Done()
		pipe.Close()
	}()
	select {
	case err := <-opened:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the reload has not opened the pipe")
	}
	n.terminate(t)
}

// The key comes through a pipe, late and in parts, whose writer serves one reader. It is read when the configuration is
// loaded and never again; what else changes is still seen.
func TestPipeIsReadOnceAtLoad(t *testing.T) {
	if !alone(t) {
		return
	}
	first, second, third := filepath.Join(t.TempDir(), "first"), write(t, "second", publicPEM(rsaKey(0))), write(t, "third", publicPEM(rsaKey(1)))
	newFIFO(t, first)
	n := keyFileNode(t, first, second, third)
	serve := func(key *rsa.PrivateKey) {
		pipe, err := os.OpenFile(first, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer pipe.Close()
		text := publicPEM(key)
		for _, part := range [][]byte{text[:20], text[20:100], text[100:]} {
			if _, err := pipe.Write(part); err != nil {
				t.Error(err)
			}
		}
	}
	go serve(rsaKey(2))
	n.run()
	if !n.accepts("support", rsaKey(2)) {
		t.Fatal("the key from the pipe is not active")
	}
	for range 3 { // each takes at least one look at the files
		for _, key := range []*rsa.PrivateKey{rsaKey(2), rsaKey(1)} {
			replace(t, third, publicPEM(key))
			eventually(t, "a file is read", func() bool { return n.accepts("sales", key) })
			pipe, err := os.OpenFile(first, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if !errors.Is(err, syscall.ENXIO) {
				t.Errorf("the pipe is being read again: %v", err)
				pipe.Close()
			}
		}
	}
	go serve(rsaKey(0))
	if status, body, err := n.reload("again"); err != nil || status != http.StatusOK {
		t.Fatalf("the reload: got %d %s, %v", status, body, err)
	}
	if !n.accepts("support", rsaKey(0)) || n.accepts("support", rsaKey(2)) {
		t.Error("the reload has not read the pipe")
	}
	n.terminate(t)
}

// What cannot be read stops the start with the option, the place and the fix, wherever the file is named.
func TestUnreadableFilesStopTheStart(t *testing.T) {
	if !alone(t) {
		return
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	newFIFO(t, pipe)
	messenger := func(option string) string { return "messenger support {\n identity_key identity\n " + option + "\n}" }
	key := "public_key {file." + write(t, "key", publicPEM(rsaKey(0))) + "}"
	for name, test := range map[string]struct {
		messengers string
		says       []string
	}{
		"a directory for a public key":        {messenger("public_key {file." + t.TempDir() + "}"), []string{"messenger support", "public_key {file.", "is a directory; name a file"}},
		"an endless device for a secret":      {messenger("shared_token {file./dev/zero}"), []string{"messenger support", "shared_token {file./dev/zero}", "is a device; name a file"}},
		"a pipe without a writer for a store": {"messenger {\n store {\n key {file." + pipe + "}\n }\n}\n" + messenger(key), []string{"store: key {file.", "nothing was written to the pipe", "regular file"}},
		"a directory for a store":             {"messenger {\n store {\n key {file./}\n }\n}\n" + messenger(key), []string{"store: key {file./}", "is a directory"}},
		"a pipe without a writer in a URL":    {messenger("jwks https://{file." + pipe + "}.example.com/keys\n audience a"), []string{"messenger support", "jwks: {file.", "nothing was written to the pipe"}},
		"a device in a URL":                   {messenger("jwks https://{file./dev/zero}.example.com/keys\n audience a"), []string{"messenger support", "jwks: {file.", "is a device"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := loadError(t, test.messengers, "messenger_auth support\nrespond ok")
			for _, want := range test.says {
				if !strings.Contains(got, want) {
					t.Errorf("the error %q does not say %q", got, want)
				}
			}
		})
	}
}

// Commands take a key from a pipe, such as <(pass show key), and refuse what is not a file.
func TestCommandsReadKeysFromPipes(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	secret := newSecret()
	pipe := filepath.Join(s.dir, "pipe")
	newFIFO(t, pipe)
	go func() {
		file, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			t.Error(err)
			return
		}
		defer file.Close()
		if _, err := file.WriteString(secret + "\n"); err != nil {
			t.Error(err)
		}
	}()
	if token := s.sign("--key", "pipe", "--identity", "mark"); strings.Count(token, ".") != 2 {
		t.Error("no token was signed with the key from the pipe")
	}
	for name, file := range map[string]string{"a directory": ".", "a device": "/dev/zero"} {
		if ran := s.messenger("", "sign", "--key", file, "--identity", "mark"); ran.status != 1 || !strings.Contains(ran.err, name) {
			t.Errorf("%s for a key: got %+v", name, ran)
		}
	}
	for _, line := range [][]string{
		{"jwks", "/dev/zero"},
		{"create", "other", "--identity-key", "sub", "--public-key", "/dev/zero"},
		{"create", "other", "--settings", "/dev/zero"},
	} {
		if ran := s.messenger("", line...); ran.status != 1 || !strings.Contains(ran.err, "is a device") {
			t.Errorf("%q: got %+v", line, ran)
		}
	}
}

// An admin endpoint takes the connection and never answers, like that of a gateway whose storage hangs. A command ends with
// an error, after a minute: with MESSENGER_SOAK=1. The test of package command has a clock that runs faster.
func TestCommandsTimeOutWhenTheGatewayDoesNotAnswer(t *testing.T) {
	if !soaking() {
		t.Skip("not run: MESSENGER_SOAK=1 is not set")
	}
	if !alone(t) {
		return
	}
	s := newShell(t)
	listener, err := net.Listen("unix", filepath.Join(s.dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // nobody takes the connections out of its queue
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, "messenger", "list", "--address", "unix/"+filepath.Join(s.dir, "sock"))
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "has not answered in 1m0s") {
		t.Errorf("got %v\n%s", err, out)
	}
}
