package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// toolsVariable says which tests run that start programs: the gateway's own, browsers, servers, languages, packages of npm. Unset, none
// of them does, so that the suite is the same on every machine and takes two minutes. Its words are tools that must be there, because
// their tests fail without them; with the word installed, the tests of all other tools run as well where these are installed.
const toolsVariable = "MESSENGER_TEST_TOOLS"

// otherTools are the words of the variable besides the languages of samples, which are in tools.
var otherTools = []string{ownProgram, "chromium", "redis-server", "lighttpd", "nginx", "php-cgi", "sockjs", "root", "go-1.19", "node-clients", "openssl", "ssh-keygen",
	"esbuild", "tsc", "axe-core", "systemd-analyze", "mkfs.ext4", "curl", "wycheproof"}

var errNotAsked = errors.New("set " + toolsVariable + "=installed to run it")

// usable returns nil if the tests of a tool run, and its program is there.
func usable(tool, program string) error {
	if !mustHave(tool) && !mustHave("installed") {
		return errNotAsked
	}
	_, err := exec.LookPath(program)
	return err
}

// probe runs a program of a tool, to see whether it and its library are there.
func probe(tool, dir, program string, args ...string) error {
	if err := usable(tool, program); err != nil {
		return err
	}
	_, err := command(dir, exec.Command(program, args...))
	return err
}

// mustHave reports whether the variable names a tool.
func mustHave(tool string) bool {
	return slices.Contains(strings.Fields(os.Getenv(toolsVariable)), tool)
}

// lacks skips a test because what it needs of a tool is not there, or fails it if the tool must be.
func lacks(t testing.TB, tool string, why error) {
	t.Helper()
	if mustHave(tool) {
		t.Fatalf("%s names %s: %v", toolsVariable, tool, why)
	}
	t.Skipf("not run: it needs %s: %v", tool, why)
}

// requireTool returns the path of a tool, or of the first of its programs that there is. Without any the test is skipped, or fails.
func requireTool(t testing.TB, tool string, programs ...string) string {
	t.Helper()
	if len(programs) == 0 {
		programs = []string{tool}
	}
	folders := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") // where Debian has servers
	for _, folder := range filepath.SplitList(os.Getenv("NODE_PATH")) {
		folders = append(folders, filepath.Join(folder, ".bin"))
	}
	err := errNotAsked
	for _, program := range programs {
		for _, folder := range folders {
			path := filepath.Join(folder, program)
			if err = usable(tool, path); err == nil {
				return path
			}
		}
	}
	lacks(t, tool, err)
	return ""
}
