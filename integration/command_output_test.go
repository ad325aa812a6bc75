package integration

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A command whose output is lost says so, and what it has changed: its reader has gone, the disk is full, or nothing is there that would
// show a token that is shown once.
func TestLostOutputIsReported(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	tr.at(t, tr.folder)
	for _, name := range []string{"acme", "bolt", "cups"} {
		tr.must("", append([]string{"create", name, "--identity-key", "sub", "--shared-token"}, tr.where...)...)
	}
	file := tr.export()
	tr.at(t, t.TempDir())
	run := func(out *os.File, args ...string) (status int, said string) {
		cmd := exec.Command(tr.binary, append(append([]string{"messenger"}, args...), tr.where...)...)
		var complaints bytes.Buffer
		cmd.Stdout, cmd.Stderr = out, &complaints
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		search.add("complaints", complaints.Bytes())
		return cmd.ProcessState.ExitCode(), complaints.String()
	}
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Skipf("not run: %v", err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	full, null := open("/dev/full"), open(os.DevNull)
	reader, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	t.Cleanup(func() { gone.Close() })
	tokens := func() int {
		return strings.Count(tr.must("", append([]string{"tokens", "list", "acme", "--json"}, tr.where...)...), `"kid"`)
	}
	names := func() int {
		return strings.Count(tr.must("", append([]string{"list", "--json"}, tr.where...)...), `"stored"`)
	}

	for name, out := range map[string]*os.File{"a full disk": full, "a reader that has gone": gone} {
		if status, said := run(out, "import", "--merge", "--dry-run", "--input", file); status != 1 || !strings.Contains(said, "its output could not be printed") {
			t.Errorf("%s: a dry run ends with %d: %s", name, status, said)
		}
	}
	if status, said := run(gone, "import", "--merge", "--input", file); status != 0 && !strings.Contains(said, "3 created") || names() != 3 {
		t.Errorf("an import ends with %d: %s", status, said)
	}
	if status, said := run(gone, "import", "--replace", "--input", file); status != 0 {
		t.Errorf("nothing has to be printed, and it ends with %d: %s", status, said)
	}
	made := 0
	for name, out := range map[string]*os.File{"a full disk": full, "a reader that has gone": gone} {
		status, said := run(out, "tokens", "generate", "acme")
		if made++; status != 1 || !strings.Contains(said, "could not be printed; revoke it") || tokens() != made {
			t.Errorf("%s: generating ends with %d, and there are %d tokens, want %d: %s", name, status, tokens(), made, said)
		}
	}
	for _, action := range []string{"generate", "rotate", "reset"} {
		if status, said := run(null, "tokens", action, "acme"); status != 1 || !strings.Contains(said, "nothing was changed") || tokens() != made {
			t.Errorf("%s: without an output it ends with %d, and there are %d tokens, want %d: %s", action, status, tokens(), made, said)
		}
	}
	if status, said := run(null, "tokens", "list", "acme"); status != 0 || said != "" {
		t.Errorf("what was asked for on purpose: %d %s", status, said)
	}
	if status, said := run(gone, "list"); status != -1 || said != "" { // by the signal, as other programs do
		t.Errorf("a list whose reader has gone ends with %d: %s", status, said)
	}
}
