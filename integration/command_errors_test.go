package integration

import (
	"strings"
	"testing"
)

// Scripts go by the exit status, and people by one line: every command fails in the same form, with the status that is documented.
func TestCommandErrorsHaveOneFormat(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	g := start(t, nil, "messenger support {\n identity_key identity\n shared_token {file."+write(t, "key", []byte(newSecret()))+"} raw\n}", "messenger_auth support\nrespond ok")
	where := "--address=unix/" + g.sock
	for _, tt := range []struct {
		status int
		says   string
		args   []string
	}{
		{3, "there is no messenger of this name", []string{"explain", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"readiness", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"keys", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"show", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"tokens", "list", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"revocations", "list", "nosuch", where}},
		{3, "", []string{"delete", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"refresh", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"create", "nosuch", "--replace", "--identity-key", "identity", "--shared-token", where}},
		{3, "there is no messenger of this name", []string{"tokens", "generate", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"tokens", "rotate", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"tokens", "reset", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"tokens", "revoke", "nosuch", "--kid", "a", where}},
		{3, "there is no messenger of this name", []string{"tokens", "extend", "nosuch", "--kid", "a", "--overlap", "1h", where}},
		{3, "there is no messenger of this name", []string{"tokens", "import", "nosuch", where}},
		{3, "there is no messenger of this name", []string{"revocations", "add", "nosuch", "--jti", "a", where}},
		{3, "there is no messenger of this name", []string{"revocations", "remove", "nosuch", "--jti", "a", where}},
		{3, "there is no messenger of this name", []string{"revocations", "import", "nosuch", "--input", s.file("none.jsonl", ""), where}},
		{3, "there is no messenger of this name", []string{"connections", "end", "nosuch", where}},
		{3, "no such revocation", []string{"revocations", "remove", "support", "--jti", "a", where}},
		{4, "no generated shared tokens", []string{"tokens", "rotate", "support", where}},
		{4, "is in the configuration", []string{"delete", "support", where}},
		{4, "is in the configuration", []string{"create", "support", "--identity-key", "identity", "--shared-token", where}},
		{1, "did you mean tokens?", []string{"token", "list", "support", where}},
		{1, "did you mean rotate?", []string{"tokens", "rotat", "support", "--overlap", "1h", where}},
		{1, "did you mean tokens?", []string{"token", "list"}},
		{1, "did you mean readiness?", []string{"readyness"}},
		{1, "there is no such command; see --help", []string{"frobnicate"}},
		{1, "did you mean list?", []string{"tokens", "lst"}},
		{1, "unix/ in front of its path", []string{"list", "--address", "/run/caddy/admin.sock"}},
		{1, "has no port", []string{"list", "--address", "localhost"}},
		{1, "without http://", []string{"list", "--address", "http://localhost:2019"}},
		{1, "is the gateway running", []string{"list", "--address", "unix//" + s.dir + "/none.sock"}},
		{1, "--identity is missing", []string{"sign"}},
		{1, "unknown flag", []string{"list", "--nosuch"}},
		{1, "is an OpenSSH private key", []string{"sign", "--identity", "mark", "--key", s.file("id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\nQUJD\n-----END OPENSSH PRIVATE KEY-----\n")}},
	} {
		r := s.messenger("eyJ.e30.x, of 32 bytes and more for import", tt.args...)
		if r.status != tt.status || r.out != "" || !strings.HasPrefix(r.err, "Error: ") || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, tt.says) {
			t.Errorf("%v: status %d, want %d and one line with %q\n%s%s", tt.args, r.status, tt.status, tt.says, r.out, r.err)
		}
	}
}

// A token is explained on a machine that does not have the keys of the other messengers.
func TestExplainNeedsOnlyItsMessenger(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	secret := newSecret()
	s.file("key", secret)
	config := s.file("Caddyfile", `{
	messenger support {
		identity_key identity
		shared_token {file.key} raw
	}
	messenger sales {
		identity_key identity
		public_key {file./nonexistent/sales.pem}
	}
}
http://localhost {
	messenger_auth support
	respond ok
}
`)
	if r := s.messenger(sign(secret, valid("mark")), "explain", "support", "--config", config); r.status != 0 || !strings.Contains(r.out, "accepted") || r.err != "" {
		t.Errorf("status %d: %s%s", r.status, r.out, r.err)
	}
	for name, want := range map[string]int{"sales": 1, "nosuch": 1} {
		if r := s.messenger(sign(secret, valid("mark")), "explain", name, "--config", config); r.status != want || !strings.Contains(r.err, "no such file") {
			t.Errorf("%s: status %d: %s%s", name, r.status, r.out, r.err)
		}
	}
	// A name without its folder is looked for where the command runs, and the error says where that is.
	relative := s.file("relative", strings.Replace(s.read("Caddyfile"), "{file.key}", "{file.keys/missing}", 1))
	if r := s.messenger("x.y.z", "explain", "support", "--config", relative, "--adapter", "caddyfile"); r.status != 1 || !strings.Contains(r.err, "looked for in the folder "+s.dir) {
		t.Errorf("a relative name: status %d: %s", r.status, r.err)
	}
}
