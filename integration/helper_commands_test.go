package integration

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A ran is what a command did.
type ran struct {
	out, err string
	status   int
}

// A shell runs the gateway's commands in a folder of its own, as a user has them.
type shell struct {
	t      testing.TB
	binary string
	dir    string
	env    []string
}

func newShell(t testing.TB) *shell {
	t.Helper()
	dir := t.TempDir()
	return &shell{t: t, binary: commandBinary(t), dir: dir, env: append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)}
}

// messenger runs "caddy messenger" with the arguments, and with input on standard input. What it complains about is
// searched for secrets like a log.
func (s *shell) messenger(input string, args ...string) ran {
	s.t.Helper()
	// Half of the time of a short command is the collection of what Caddy makes at its start.
	return s.run(time.Minute, append(slices.Clip(s.env), "GOGC=off"), input, args...)
}

// within is messenger for a command that may take that long.
func (s *shell) within(limit time.Duration, input string, args ...string) ran {
	s.t.Helper()
	return s.run(limit, s.env, input, args...)
}

func (s *shell) run(limit time.Duration, env []string, input string, args ...string) ran {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"messenger"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, env, strings.NewReader(input)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatalf("caddy messenger %s: %v", args[0], err)
	}
	hasNoFault(s.t, complaints.Bytes())
	search.add("complaints of caddy messenger "+args[0], complaints.Bytes())
	return ran{out.String(), complaints.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed, and returns what it prints without the line break at its end.
func (s *shell) must(input string, args ...string) string {
	s.t.Helper()
	r := s.messenger(input, args...)
	if r.status != 0 || r.err != "" {
		s.t.Fatalf("caddy messenger %s: status %d\n%s%s", args[0], r.status, r.out, r.err)
	}
	return strings.TrimSuffix(r.out, "\n")
}

// sign runs "caddy messenger sign".
func (s *shell) sign(args ...string) string {
	s.t.Helper()
	token := s.must("", append([]string{"sign"}, args...)...)
	search.secret(token)
	return token
}

// file writes a file into the shell's folder and returns its name, relative to it.
func (s *shell) file(name, text string) string {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

func (s *shell) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// generate runs "caddy messenger generate" and keeps the shared token in a file.
func (s *shell) generate(name string) string {
	s.t.Helper()
	secret := s.must("", "generate")
	search.secret(secret)
	s.file(name, secret+"\n")
	return secret
}

// loadWithAdmin is load with an admin endpoint at another address.
func (g *gateway) loadWithAdmin(address, messengers, site string) {
	g.t.Helper()
	text := strings.Replace(g.caddyfile(messengers, site), "admin unix//"+g.sock, "admin "+address, 1)
	g.replace(g.conf(text))
}

// admin sends a request to the admin API, and returns the status and the body of its answer.
func (g *gateway) admin(method, path, body string) (int, string) {
	g.t.Helper()
	r, err := http.NewRequest(method, "http://caddy/messenger/"+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := g.adminClient().Do(r)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		g.t.Fatal(err)
	}
	search.add("admin API", answer.Bytes())
	return resp.StatusCode, strings.TrimSpace(answer.String())
}
