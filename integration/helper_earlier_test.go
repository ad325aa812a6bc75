package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programOf is a Caddy with the module and the storage that nodes share.
const programOf = `package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/messengerauth/caddy-messenger-auth"
	_ "github.com/pberkel/caddy-storage-redis"
)

func main() { caddycmd.Main() }
`

// caddyOf builds the gateway of an earlier commit.
func caddyOf(t *testing.T, commit string) string {
	t.Helper()
	archive := exec.Command("git", "archive", commit)
	archive.Dir = ".."
	source, err := archive.Output()
	if err != nil {
		t.Skipf("not run: this checkout does not have the history with the commit %s, whose gateway is built for this test", commit)
	}
	dir := t.TempDir()
	unpack := exec.Command("tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(source)
	if said, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpacking: %v %s", err, said)
	}
	if err := os.Mkdir(filepath.Join(dir, "main"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main", "main.go"), []byte(programOf), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "caddy-before")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "./main")
	build.Dir = dir
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the gateway of %s: %v\n%s", commit, err, said)
	}
	return binary
}
