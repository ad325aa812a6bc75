package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A tool runs the documented sample of one language. Its functions return an error if the language, or the library that
// the sample uses, is not installed.
type tool struct {
	language string
	file     string // what the sample is called
	run      func(t *testing.T, dir, file string) (*exec.Cmd, error)
}

var tools = []tool{
	{"node", "sign.js", func(_ *testing.T, dir, file string) (*exec.Cmd, error) {
		// Node finds libraries outside the folder of the program by NODE_PATH.
		if err := probe(dir, "node", "-e", "require('jsonwebtoken')"); err != nil {
			return nil, err
		}
		return exec.Command("node", file), nil
	}},
	{"python", "sign.py", func(_ *testing.T, dir, file string) (*exec.Cmd, error) {
		var err error
		// Debian's packages belong to Debian's Python, which is not always the first in PATH.
		for _, python := range []string{"python3", "/usr/bin/python3"} {
			if err = probe(dir, python, "-c", "import jwt, cryptography"); err == nil {
				return exec.Command(python, file), nil
			}
		}
		return nil, err
	}},
	{"php", "sign.php", func(t *testing.T, dir, file string) (*exec.Cmd, error) {
		if err := probe(dir, "php", "--version"); err != nil {
			return nil, err
		}
		if out, err := command(dir, exec.Command("php", "-l", file)); err != nil {
			t.Fatalf("the sample has an error: %v\n%s", err, out)
		}
		// Composer's folder, and where Debian has the library.
		for _, autoload := range []string{filepath.Join(os.Getenv("COMPOSER_VENDOR_DIR"), "autoload.php"), "/usr/share/php/Firebase/JWT/autoload.php"} {
			if _, err := os.Stat(autoload); err != nil || !filepath.IsAbs(autoload) {
				continue
			}
			writeSample(t, filepath.Join(dir, "vendor", "autoload.php"), "<?php require '"+autoload+"';\n")
			return exec.Command("php", file), nil
		}
		return nil, os.ErrNotExist
	}},
	{"go", "sign.go", func(t *testing.T, dir, file string) (*exec.Cmd, error) {
		if err := probe(".", "go", "version"); err != nil {
			return nil, err
		}
		// It is built here, where go.mod has the library, and run where the keys are.
		binary := filepath.Join(dir, "sign.exe")
		if out, err := command(".", exec.Command("go", "build", "-o", binary, file)); err != nil {
			t.Fatalf("the sample does not build: %v\n%s", err, out)
		}
		return exec.Command(binary), nil
	}},
}

// otherTools are what other tests need of those that MESSENGER_REQUIRE_TOOLS names.
var otherTools = []string{"chromium", "redis-server", "lighttpd", "root", "go-1.19", "node-clients", "openssl", "ssh-keygen", "esbuild", "tsc", "axe-core", "wycheproof"}

// A site developer copies these programs. With the usual library of each language they make tokens that the example
// gateway takes, with both methods.
func TestDocsSamplesSignTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	secret := newSecret()
	g := startExample(t, secret)
	required := strings.Fields(os.Getenv("MESSENGER_REQUIRE_TOOLS"))
	for _, language := range required {
		if !slices.Contains(otherTools, language) && !slices.ContainsFunc(tools, func(tool tool) bool { return tool.language == language }) {
			t.Errorf("MESSENGER_REQUIRE_TOOLS: no sample is in %q", language)
		}
	}
	for _, tool := range tools {
		t.Run(tool.language, func(t *testing.T) {
			dir := demoFolder(t, secret)
			file := filepath.Join(dir, tool.file)
			writeSample(t, file, sample(t, tool.language))
			cmd, err := tool.run(t, dir, file)
			if err != nil {
				if slices.Contains(required, tool.language) {
					t.Fatalf("%s or its library is not installed, and MESSENGER_REQUIRE_TOOLS names it: %v", tool.language, err)
				}
				t.Skipf("not run: %s or its library is not installed", tool.language)
			}
			out, err := command(dir, cmd)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			tokens := strings.Fields(out)
			if len(tokens) != 2 {
				t.Fatalf("got %d words, want two tokens:\n%s", len(tokens), out)
			}
			for i, path := range []string{"/sales/hello", "/support/hello"} {
				search.secret(tokens[i])
				if a := g.get(path, bearer(tokens[i])); a.status != 200 || !strings.Contains(a.body, "identity:      mark\n") {
					t.Errorf("%s: got %d %s", path, a.status, a.body)
				}
			}
		})
	}
}

// sample returns the documented program in that language.
func sample(t *testing.T, language string) string {
	t.Helper()
	return docsSample(t, language)
}

// demoFolder returns a folder with the keys of the demo where the samples look for them.
func demoFolder(t *testing.T, secret string) string {
	t.Helper()
	dir := t.TempDir()
	writeSample(t, filepath.Join(dir, "demo", "support.key.pem"), string(privatePEM(rsaKey(0))))
	writeSample(t, filepath.Join(dir, "demo", "sales.token"), secret+"\n")
	return dir
}

func writeSample(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func probe(dir, name string, args ...string) error {
	_, err := command(dir, exec.Command(name, args...))
	return err
}

// command returns what cmd prints, and what it complains about if it fails.
func command(dir string, cmd *exec.Cmd) (string, error) {
	cmd.Dir = dir
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return string(out) + complaints.String(), err
	}
	return string(out), nil
}

// interpreter returns the command that runs a program that needs no library.
func interpreter(dir, language, file string) (*exec.Cmd, error) {
	switch language {
	case "python":
		language = "python3"
	case "go":
		binary := strings.TrimSuffix(file, ".go") + ".exe"
		if out, err := command(".", exec.Command("go", "build", "-o", binary, file)); err != nil {
			return nil, fmt.Errorf("building: %w\n%s", err, out)
		}
		return exec.Command(binary), nil
	}
	return exec.Command(language, file), probe(dir, language, "--version")
}

// skipWithout skips a test whose tool is not installed, unless MESSENGER_REQUIRE_TOOLS names it.
func skipWithout(t *testing.T, tool string, err error) {
	t.Helper()
	if slices.Contains(strings.Fields(os.Getenv("MESSENGER_REQUIRE_TOOLS")), tool) {
		t.Fatalf("%s is not installed, and MESSENGER_REQUIRE_TOOLS names it: %v", tool, err)
	}
	t.Skipf("not run: %s is not installed: %v", tool, err)
}

// verifier returns the command that runs a program that verifies assertions.
func verifier(dir, language, file string) (*exec.Cmd, error) {
	switch language {
	case "python":
		var err error
		for _, python := range []string{"python3", "/usr/bin/python3"} {
			if err = probe(dir, python, "-c", "import jwt, cryptography"); err == nil {
				return exec.Command(python, file), nil
			}
		}
		return nil, err
	case "php":
		if err := probe(dir, "php", "-r", "exit(function_exists('sodium_base642bin') ? 0 : 1);"); err != nil {
			return nil, err
		}
	case "java":
		// A runtime without a compiler cannot run a source file.
		return exec.Command("java", file), probe(dir, "javac", "--version")
	}
	return interpreter(dir, language, file)
}
