package integration

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// An operator types a part of a command or a name. What is completed comes from the gateway; a gateway that does not answer
// leaves the line as it is.
func TestNamesOfMessengersAreCompleted(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	g := start(t, nil, "messenger support {\n identity_key identity\n shared_token {file."+write(t, "key", []byte(newSecret()))+"} raw\n}", "messenger_auth support\nrespond ok")
	g.operator().put("acme", generated)
	where := "--address=unix/" + g.sock
	complete := func(words ...string) string {
		cmd := exec.Command(s.binary, append([]string{"__complete", "messenger"}, words...)...)
		cmd.Env = s.env
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%q: %v", words, err)
		}
		return string(out)
	}
	for _, tt := range []struct {
		words []string
		want  string // in front of the directive
	}{
		{[]string{"show", where, ""}, "support\nacme\n"},
		{[]string{"show", where, "ac"}, "acme\n"},
		{[]string{"tokens", "rotate", where, "s"}, "support\n"},
		{[]string{"show", where, "acme", ""}, ""},
		{[]string{"list", where, "--address=unix//nowhere", ""}, ""},
		{[]string{"show", "--address=unix/" + s.dir + "/none.sock", ""}, ""},
		{[]string{"show", where, "eyJhbGciOiJIUzI1NiJ9.e30.x"}, ""},
	} {
		got := complete(tt.words...)
		if before, _, found := strings.Cut(got, ":"); !found || before != tt.want {
			t.Errorf("%q: got %q, want %q", tt.words, got, tt.want)
		}
	}
	if got := complete("versi"); !strings.HasPrefix(got, "version\t") {
		t.Errorf("a command: got %q", got)
	}
}

// Support asks for it first.
func TestVersionIsPrinted(t *testing.T) {
	s := newShell(t)
	var said struct{ Version, Go, Caddy, JWX string }
	if err := json.Unmarshal([]byte(s.must("", "version", "--json")), &said); err != nil {
		t.Fatal(err)
	}
	if said.Version == "" || !strings.HasPrefix(said.Go, "go1.") || said.Caddy == "" || said.JWX == "" {
		t.Errorf("got %+v", said)
	}
	if text := s.must("", "version"); !strings.Contains(text, said.Caddy) || !strings.Contains(text, said.Version) {
		t.Errorf("as text: %s", text)
	}
	if r := s.messenger("", "version", "eyJ.e30.x"); r.status != 1 || strings.Contains(r.err, "eyJ") {
		t.Errorf("with an argument: %d %s", r.status, r.err)
	}
}
