package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Many messengers travel from one storage to another that is empty, and to one that has some of them: equal, or the conflicts named.
// MESSENGER_SOAK=1 makes it a hundred thousand. Neither the gateways nor the commands need more memory for that.
func TestManyMessengersAreExportedAndImported(t *testing.T) {
	if !alone(t) {
		return
	}
	count := 60
	if soaking() {
		count = 100_000
	}
	template := plainTemplate(t)
	name := func(i int) string { return fmt.Sprintf("customer-%07d", i) }
	r := startRedis(t)
	fillRedis(t, r, template, count, name, func(int) bool { return true })
	from := newNode(t, caddyBinary(t), nil, manyOptions("storage redis {\n address "+r.addr+"\n}"), clusterSite)
	from.run()
	tr := &traveller{administrator: &administrator{newShell(t), []string{"--address", "unix/" + from.gateway.sock}}}
	file := filepath.Join(t.TempDir(), "export.jsonl")
	measure := func(n *node, what string, do func()) {
		before, _ := n.memory()
		n.resetPeak()
		begun, worked := time.Now(), n.worked()
		do()
		_, peak := n.memory()
		t.Logf("%s of %d: %s, of which the gateway worked %s; %d MB more at the most", what, count, time.Since(begun).Round(time.Millisecond), n.worked()-worked, (peak-before)>>10)
	}
	measure(from, "export", func() { tr.long(0, fmt.Sprintf("%d messengers exported", count), "export", "--output", file) })
	from.kill()
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") != count+1 {
		t.Fatalf("the file has %d lines, want %d: %v", strings.Count(string(text), "\n"), count+1, err)
	}
	to := newNode(t, caddyBinary(t), nil, sealedOptions(t.TempDir()), sealedSite)
	to.run()
	tr.where = []string{"--address", "unix/" + to.gateway.sock}
	// Some are there already: one is the same, one has other settings and is another messenger.
	to.operator.put(name(1), map[string]any{"identity_key": "sub", "shared_token": map[string]any{}})
	measure(to, "import", func() {
		ran := tr.long(4, fmt.Sprintf("%d created, 0 changed, 0 unchanged, 1 conflict", count-1), "import", "--input", file, "--merge")
		if !strings.Contains(ran.out, name(1)+"\tconflict\n\tthere is another messenger of this name") {
			t.Errorf("the conflict is not named:\n%s", ran.out)
		}
	})
	measure(to, "second import", func() {
		tr.long(4, fmt.Sprintf("0 created, 0 changed, %d unchanged, 1 conflict", count-1), "import", "--input", file, "--merge")
	})
	again := filepath.Join(t.TempDir(), "again.jsonl")
	to.operator.want(200, "DELETE", "messengers/"+name(1), nil)
	tr.long(0, "1 created", "import", "--input", file, "--replace")
	tr.long(0, " exported, ", "export", "--output", again)
	copied, err := os.ReadFile(again)
	if err != nil || string(copied) != string(text) {
		t.Errorf("what was imported is exported as something else: %d bytes, want %d: %v", len(copied), len(text), err)
	}
}

// long runs a command that may take long.
func (tr *traveller) long(status int, says string, args ...string) ran {
	tr.t.Helper()
	limit := time.Minute
	if soaking() {
		limit = time.Hour
	}
	ran := tr.within(limit, "", append(args, tr.where...)...)
	if ran.status != status || !strings.Contains(ran.err, says) {
		tr.t.Fatalf("%v: status %d, want %d and %q\n%.2000s%.2000s", args, ran.status, status, says, ran.out, ran.err)
	}
	return ran
}
